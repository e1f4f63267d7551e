"""Fixtures of the integration tests: the core on a data directory of its own, with MLflow's database made once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from jupyter_mlops.runs import Runs


@pytest.fixture(scope="session")
def mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database: making its tables takes seconds, so it is made once and copied."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "mlartifacts"))
    return path


@pytest.fixture
def runs(mlflow_database: Path) -> Iterator[Runs]:
    """The core on the embedded defaults; at the end nothing of its runs may be left running."""
    data = Path(os.environ["JUPYTER_MLOPS_DATA_DIR"])
    data.mkdir()
    shutil.copy(mlflow_database, data / "mlflow.db")
    core = Runs()
    yield core
    kill_processes_of(data)


def processes_of(directory: Path) -> list[psutil.Process]:
    """Processes that work in a directory or were started for it."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = process.cwd().startswith(str(directory))
            named = any(str(directory) in argument for argument in process.cmdline())
            run_dir = process.environ().get("JUPYTER_MLOPS_RUN_DIR", "")
            if process.status() != psutil.STATUS_ZOMBIE and (inside or named or run_dir.startswith(str(directory))):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def kill_processes_of(directory: Path) -> None:
    """Kill what `processes_of` finds, of which some may end by itself meanwhile."""
    for process in processes_of(directory):
        with suppress(psutil.NoSuchProcess):
            process.kill()


@pytest.fixture
def run_notebook(runs: Runs, make_notebook: Callable[..., Path]) -> Callable[..., object]:
    """Run a notebook of these cells to its end and give its record."""

    def run(*cells: str | tuple[str, str], name: str = "notebook.ipynb", **options: object):
        prepared = runs.prepare(make_notebook(*cells, name=name), **options)
        return runs.wait(runs.submit(prepared).run_id)

    return run
