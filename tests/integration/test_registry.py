"""The model registry of a real MLflow: its own database, and a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jupyter_mlops.errors import UsageError
from jupyter_mlops.tracking.registry import model_of_run, model_with_alias, register_model, set_alias

from .mlflow_server import mlflow_server

pytestmark = pytest.mark.integration

LOGS = """
import mlflow
class Same(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[float]): return model_input
with mlflow.start_run() as run:
    for name in {names!r}:
        mlflow.pyfunc.log_model(name=name, python_model=Same(), pip_requirements=[])
print("run", run.info.run_id)
"""
LOADS = """
import sys, mlflow
print("answer", mlflow.pyfunc.load_model(sys.argv[1]).predict([1.5]))
"""


@pytest.fixture(params=["database", "server"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, mlflow_database: Path) -> Iterator[str]:
    if request.param == "database":
        shutil.copy(mlflow_database, tmp_path / "mlflow.db")
        yield f"sqlite:///{tmp_path / 'mlflow.db'}"
        return
    with mlflow_server(tmp_path / "server", database=mlflow_database) as server:
        yield server.uri


def python(uri: str, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env={**os.environ, "MLFLOW_TRACKING_URI": uri}, check=True,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return done.stdout.splitlines()[-1].partition(" ")[2]


def test_the_model_of_a_run_is_registered_once_and_found_by_its_alias(uri: str) -> None:
    run_id = python(uri, LOGS.format(names=["a", "b"]))
    name = "churn-model"
    assert model_with_alias(uri, name, "champion", wait=60) is None
    assert model_of_run(uri, run_id, name, wait=60) is None
    with pytest.raises(UsageError, match="logged several models: a, b"):
        register_model(uri, run_id, name, logged_as=None, tags={}, wait=60)
    with pytest.raises(UsageError, match="logged no model 'c'"):
        register_model(uri, run_id, name, logged_as="c", tags={}, wait=60)
    made = register_model(uri, run_id, name, logged_as="b", tags={"mlops.job": "churn"}, wait=60)
    assert register_model(uri, run_id, name, logged_as="b", tags={}, wait=60) == made
    assert (made.version, made.mlflow_run_id) == ("1", run_id)
    assert model_of_run(uri, run_id, name, wait=60) == made
    assert model_with_alias(uri, name, "champion", wait=60) is None
    set_alias(uri, made, "champion", wait=60)
    set_alias(uri, made, "champion", wait=60)
    assert model_with_alias(uri, name, "champion", wait=60) == made
    assert python(uri, LOADS, f"models:/{name}@champion") == "[1.5]"
