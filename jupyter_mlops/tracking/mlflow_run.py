"""The MLflow run of a run: begin it, tell the kernel of it, finish it; doing so twice changes nothing."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import TrackingError
from ..events import RunEvent, read_events
from ..redact import Redactor
from ..spec import FailureCode, JSONValue, RunSpec, RunState
from . import items
from .address import absolute_uri, artifact_root, run_url, shown, split_credentials, sqlite_path
from .artifacts import run_artifacts, upload
from .connection import Connection, connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ..snapshot import Snapshot

PARAMETERS_FILE = "parameters.json"


@dataclass(frozen=True)
class BegunRun:
    """The MLflow run of one of our runs.

    Attributes:
        mlflow_run_id: MLflow's id of the run.
        experiment_id: MLflow's id of its experiment.
        url: Where a browser shows it, without credentials; None for a store without a server.
    """

    mlflow_run_id: str
    experiment_id: str
    url: str | None


def begin_run(
    spec: RunSpec,
    snapshot: Snapshot,
    *,
    uri: str,
    wait: float,
    redactor: Redactor,
    defaults: Mapping[str, JSONValue] | None = None,
) -> BegunRun:
    """The run's MLflow run: made with its params, tags and inputs, or found when it was made before.

    Args:
        spec: The run.
        snapshot: What it runs.
        uri: MLflow's address, with credentials if it has them.
        wait: Seconds to wait for MLflow to answer a call.
        redactor: Masks secrets in everything that is logged.
        defaults: The notebook's defaults, for the parameters that the spec does not set.

    Raises:
        TrackingError: MLflow is away or refuses; or the experiment, or this run in it, was deleted.
    """
    connection = connect(uri, wait)
    texts, full, cut = items.params(spec.parameters, defaults, redactor)
    experiment_id = _experiment(connection, redactor.text(spec.experiment), spec)
    run = _find(connection, spec, experiment_id)
    if run is None:
        tags = items.run_tags(spec, snapshot, redactor, cut=cut)
        run = connection.do(
            lambda: connection.client.create_run(experiment_id, tags=tags, run_name=tags["mlflow.runName"])
        )
    # Found or new: one that was killed half-way lacks the rest.
    run_id = str(run.info.run_id)
    _log_missing_params(connection, run_id, {k: v for k, v in texts.items() if k not in run.data.params})
    known = {entry.dataset.name for entry in run.inputs.dataset_inputs} if run.inputs else set()
    _log_inputs(connection, run_id, [fact for fact in items.datasets(snapshot, redactor) if fact.name not in known])
    _log_parameters_file(connection, run_id, full)
    return BegunRun(run_id, experiment_id, run_url(connection.uri, experiment_id, run_id))


def find_run(spec: RunSpec, *, uri: str, wait: float, redactor: Redactor) -> str | None:
    """The id of the run's MLflow run, or None: it was never begun.

    Args:
        spec: The run.
        uri: MLflow's address, with credentials if it has them.
        wait: Seconds to wait for MLflow to answer a call.
        redactor: As it was begun with.

    Raises:
        TrackingError: MLflow is away or refuses; or this run was deleted.
    """
    connection = connect(uri, wait)
    experiment = redactor.text(spec.experiment)
    found = connection.do(lambda: connection.client.get_experiment_by_name(experiment))
    run = None if found is None else _find(connection, spec, found.experiment_id)
    return None if run is None else str(run.info.run_id)


def kernel_environment(begun: BegunRun, spec: RunSpec, *, uri: str) -> dict[str, str]:
    """The variables that make MLflow's own API, called in the kernel, log to the run.

    The first `mlflow.start_run()` (or the first call that needs a run) continues it; each later one makes a
    run of its own, which `run_context.NotebookRunContext` puts under it as a child.

    Args:
        begun: The MLflow run.
        spec: The run.
        uri: MLflow's address; a password in it is handed over apart, because MLflow prints the address.
    """
    bare, credentials = split_credentials(absolute_uri(uri))
    return {
        "MLFLOW_TRACKING_URI": bare,
        **credentials,
        "MLFLOW_RUN_ID": begun.mlflow_run_id,
        "MLFLOW_EXPERIMENT_ID": begun.experiment_id,
        "JUPYTER_MLOPS_RUN_ID": spec.run_id,
        "JUPYTER_MLOPS_MLFLOW_RUN_ID": begun.mlflow_run_id,
        "JUPYTER_MLOPS_SOURCE": spec.source,
        # MLflow asks git for the commit of the working directory, and warns where there is no git.
        "GIT_PYTHON_REFRESH": "quiet",
    }


def finish_run(
    spec: RunSpec,
    *,
    uri: str,
    mlflow_run_id: str,
    state: RunState,
    run_dir: Path,
    message: str = "",
    code: FailureCode | None = None,
    snapshot: Snapshot | None = None,
    snapshot_zip: Path | None = None,
    extra: Mapping[str, Path] | None = None,
    wait: float,
    redactor: Redactor,
) -> None:
    """Upload the results and set how the run ended.

    The notebook's own `with mlflow.start_run():` ends the MLflow run early and as FINISHED; this corrects it.

    Args:
        spec: The run.
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: From `begin_run`.
        state: How the run ended.
        run_dir: The directory with its results.
        message: Why, for one that did not succeed.
        code: The same for machines.
        snapshot: Its lock and manifest are uploaded.
        snapshot_zip: The bundle, when it shall be uploaded.
        extra: More files, by their path among the artifacts.
        wait: Seconds to wait for MLflow to answer a call; a large file gets more.
        redactor: Masks secrets in what is logged here; the files are uploaded as they are.

    Raises:
        TrackingError: MLflow is away or did not take something; do it again later.
    """
    connection = connect(uri, wait)
    client = connection.client
    run = connection.do(lambda: client.get_run(mlflow_run_id))
    if run.info.lifecycle_stage == "deleted":
        raise _deleted_run(connection, mlflow_run_id)
    if run.data.tags.get(items.RUN_ID_TAG) != spec.run_id:
        raise TrackingError(f"The MLflow run {mlflow_run_id} does not belong to the run {spec.run_id}.")
    files = run_artifacts(run_dir, snapshot=snapshot, snapshot_zip=snapshot_zip, extra=extra or {}, redactor=redactor)
    failed: TrackingError | None = None
    try:
        upload(connection, mlflow_run_id, files)
    except TrackingError as error:
        failed = error  # the status is worth more than the files, if MLflow still takes it
    _log_ending(connection, run, state, code, redactor.text(message))
    status = items.STATUS[state]
    end_time = _end_time(run_dir) or (run.info.end_time if run.info.status == status else None)
    if state.is_terminal:
        with _unprinted():
            connection.do(lambda: client.set_terminated(mlflow_run_id, status, end_time))
    else:
        connection.do(lambda: client.update_run(mlflow_run_id, status=status))
    if failed is not None:
        raise failed


def end_run(
    *,
    uri: str,
    mlflow_run_id: str,
    state: RunState,
    code: FailureCode | None,
    message: str,
    wait: float,
    redactor: Redactor,
) -> None:
    """Set how a run ended of which there are no results, because it never began.

    Args:
        uri: MLflow's address, with credentials if it has them.
        mlflow_run_id: From `begin_run`.
        state: How it ended; terminal.
        code: Why, for machines.
        message: Why.
        wait: Seconds to wait for MLflow to answer a call.
        redactor: Masks secrets.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)
    run = connection.do(lambda: connection.client.get_run(mlflow_run_id))
    _log_ending(connection, run, state, code, redactor.text(message))
    with _unprinted():
        connection.do(lambda: connection.client.set_terminated(mlflow_run_id, items.STATUS[state]))


def _experiment(connection: Connection, name: str, spec: RunSpec) -> str:
    client = connection.client
    for _ in range(2):
        found = connection.do(lambda: client.get_experiment_by_name(name))
        if found is not None:
            if found.lifecycle_stage == "deleted" and _find(connection, spec, found.experiment_id) is None:
                raise TrackingError(
                    f"The MLflow experiment '{name}' was deleted.",
                    hint="Choose another name with --experiment, or bring it and its runs back: "
                    f"mlflow experiments restore --experiment-id {found.experiment_id}",
                )
            return str(found.experiment_id)
        database = sqlite_path(connection.uri)
        # MLflow's default is ./mlruns of whoever comes first; a server knows its own place.
        place = artifact_root(database).as_uri() if database is not None else None
        try:
            create = partial(client.create_experiment, name, artifact_location=place)
            return str(connection.do(create))
        except TrackingError as error:
            if getattr(error.__cause__, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                raise
    raise TrackingError(f"The MLflow experiment '{name}' at {shown(connection.uri)} comes and goes.")


def _find(connection: Connection, spec: RunSpec, experiment_id: str) -> Any:
    from mlflow.entities import ViewType

    runs = connection.do(
        lambda: connection.client.search_runs(
            [experiment_id],
            filter_string=f"tags.`{items.RUN_ID_TAG}` = '{spec.run_id}'",
            run_view_type=ViewType.ALL,
            order_by=["attributes.start_time ASC"],
            max_results=10,
        )
    )
    alive = [run for run in runs if run.info.lifecycle_stage != "deleted"]
    if runs and not alive:
        raise _deleted_run(connection, runs[0].info.run_id)
    return alive[0] if alive else None


def _deleted_run(connection: Connection, mlflow_run_id: str) -> TrackingError:
    return TrackingError(
        f"The MLflow run {mlflow_run_id} at {shown(connection.uri)} was deleted.",
        hint="Its results stay in the run's directory; restore it on MLflow's page to have them there too.",
    )


def _log_missing_params(connection: Connection, run_id: str, texts: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    for batch in items.batches(texts):
        params = [Param(name, value) for name, value in batch.items()]
        connection.do(partial(connection.client.log_batch, run_id, params=params))


def _log_inputs(connection: Connection, run_id: str, facts: list[items.DatasetFacts]) -> None:
    if not facts:
        return
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(name=fact.name, digest=fact.digest, source_type="local", source=fact.source),
            [InputTag("mlflow.data.context", "training")],
        )
        for fact in facts
    ]
    connection.do(lambda: connection.client.log_inputs(run_id, inputs))


def _log_parameters_file(connection: Connection, run_id: str, full: Mapping[str, JSONValue]) -> None:
    # At the start, although it could wait: that files are refused is better known before the training.
    known = connection.do(lambda: {file.path for file in connection.client.list_artifacts(run_id)})
    if PARAMETERS_FILE not in known:
        text = json.dumps(full, indent=1, default=str)
        connection.do(lambda: connection.client.log_text(run_id, text, PARAMETERS_FILE))


def _log_ending(connection: Connection, run: Any, state: RunState, code: FailureCode | None, message: str) -> None:
    values = (code.value if code is not None else "", message) if state is not RunState.SUCCEEDED else ("", "")
    unmasked = Redactor()  # the message comes masked
    for name, value in zip(items.FAILURE_TAGS, values, strict=True):
        if value:
            text = items.tag_text(value, unmasked)
            connection.do(partial(connection.client.set_tag, run.info.run_id, name, text))
        elif name in run.data.tags:
            connection.do(partial(connection.client.delete_tag, run.info.run_id, name))


def _end_time(run_dir: Path) -> int | None:
    """When the run ended, in milliseconds since 1970; publishing it may come much later."""
    ended: int | None = None
    with suppress(OSError):
        for event in read_events(run_dir):
            if isinstance(event, RunEvent) and event.state.is_terminal:
                ended = int(event.time.timestamp() * 1000)
    return ended


@contextmanager
def _unprinted() -> Iterator[None]:
    """MLflow prints the address of a run that ends, credentials included."""
    name = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
    before = os.environ.get(name)
    os.environ[name] = "true"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
