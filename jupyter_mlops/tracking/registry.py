"""MLflow's model registry: the model that a run logged becomes a version of a registered model, with an alias.

Everything here may be done twice and is there once. Knows no job.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import TrackingError, UsageError, nearest
from .address import is_server
from .connection import Connection, connect


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model.

    Attributes:
        name: Of the registered model.
        version: Its number, as text.
        mlflow_run_id: The run that logged it.
    """

    name: str
    version: str
    mlflow_run_id: str | None = None


def register_model(
    uri: str, mlflow_run_id: str, name: str, *, logged_as: str | None, tags: Mapping[str, str], wait: float
) -> ModelVersion:
    """Register the model that a run logged; one that is registered already is given as it is.

    Args:
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: The run.
        name: Of the registered model, which is made if it is not there.
        logged_as: The name that the notebook logged it under; None: the run logged one only.
        tags: For the version.
        wait: Seconds to wait for MLflow to answer a call.

    Raises:
        UsageError: the run logged no such model, or several.
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)
    model_id, place = _logged_model(connection, mlflow_run_id, logged_as)
    # MLflow's own database looks up a model by the address of the process, which need not be this one; a server knows.
    source = f"models:/{model_id}" if is_server(connection.uri) else place
    known = _of_run(connection, mlflow_run_id, name)
    if known is not None:
        return known
    _have_model(connection, name)
    made = connection.do(lambda: connection.client.create_model_version(
        name, source=source, run_id=mlflow_run_id, model_id=model_id, tags=dict(tags)
    ), allowance=60)  # fmt: skip
    return ModelVersion(name, str(made.version), mlflow_run_id)


def model_of_run(uri: str, mlflow_run_id: str, name: str, *, wait: float) -> ModelVersion | None:
    """The version of a registered model that a run logged, or None: it was not registered.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    return _of_run(connect(uri, wait), mlflow_run_id, name)


def model_with_alias(uri: str, name: str, alias: str, *, wait: float) -> ModelVersion | None:
    """The version of a registered model that has an alias, or None.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)

    def look() -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return connection.client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None  # no such model, or no such alias
            raise

    found = connection.do(look)
    return None if found is None else ModelVersion(name, str(found.version), found.run_id or None)


def set_alias(uri: str, model: ModelVersion, alias: str, *, wait: float) -> None:
    """Give an alias to a version; the version that had it has it no more.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)
    connection.do(lambda: connection.client.set_registered_model_alias(model.name, alias, model.version))


def _logged_model(connection: Connection, mlflow_run_id: str, logged_as: str | None) -> tuple[str, str]:
    run = connection.do(lambda: connection.client.get_run(mlflow_run_id))
    outputs = run.outputs.model_outputs if run.outputs is not None else []
    found: dict[str, tuple[str, str]] = {}
    for output in sorted(outputs, key=lambda output: output.step):  # the last of a name wins
        model = connection.do(lambda output=output: connection.client.get_logged_model(output.model_id))  # type: ignore[misc]
        found[model.name] = (model.model_id, model.artifact_location)
    if logged_as is not None:
        if logged_as not in found:
            raise UsageError(
                f"The MLflow run {mlflow_run_id} logged no model {logged_as!r}.",
                hint=nearest(logged_as, found, noun="model"),
                code="model",
            )
        return found[logged_as]
    if len(found) != 1:
        what = "no model" if not found else f"several models: {', '.join(sorted(found))}"
        raise UsageError(
            f"The MLflow run {mlflow_run_id} logged {what}.",
            hint="Log one: mlflow.sklearn.log_model(model, name='model')" if not found
            else "Say which one: --register-model NAME:MODEL",
            code="model",
        )  # fmt: skip
    return next(iter(found.values()))


def _of_run(connection: Connection, mlflow_run_id: str, name: str) -> ModelVersion | None:
    if not mlflow_run_id.isalnum():
        raise TrackingError(f"{mlflow_run_id!r} is no id of an MLflow run.")
    found = connection.do(lambda: connection.client.search_model_versions(f"run_id = '{mlflow_run_id}'"))
    numbers = [int(version.version) for version in found if version.name == name]
    return ModelVersion(name, str(min(numbers)), mlflow_run_id) if numbers else None


def _have_model(connection: Connection, name: str) -> None:
    def make() -> None:
        from mlflow.exceptions import MlflowException

        try:
            connection.client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    connection.do(make)
