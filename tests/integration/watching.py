"""What tests of runs look at: cells that run, processes that are left, records that are whole."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil

from jupyter_mlops.events import CellEvent, RunEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState

from .conftest import processes_of


def until(condition: Callable[[], object], *, patience: float = 120.0) -> object:
    """Wait for something that must come; how fast is not what is tested."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def cell_runs(runs: Runs, record, number: int) -> bool:
    return any(
        isinstance(event, CellEvent) and event.number == number and event.state == "running"
        for event in runs.events(record)
    )


def start(runs: Runs, path: Path, **options):
    return runs.submit(runs.prepare(path, **options))


def nothing_is_left(runs: Runs) -> bool:
    return not processes_of(runs.config.data_path)


def engine_of(runs: Runs, record) -> psutil.Process | None:
    for process in processes_of(runs.config.data_path):
        try:
            if "--engine" in process.cmdline() and record.run_id in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    return None


def mlflow_runs(runs: Runs, run_id: str) -> list[Any]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(runs.config.mlflow_uri())
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`jupyter_mlops.run_id` = '{run_id}'"))


def nothing_is_lost_or_doubled(runs: Runs, ended: Any, told: Path) -> None:
    """One end in the events, one run in MLflow, every metric that the cell saw taken once, files that can be read."""
    ends = [event for event in runs.events(ended) if isinstance(event, RunEvent) and event.state.is_terminal]
    assert [event.state for event in ends] == [ended.state]
    until(lambda: not (runs.files(ended) / "unpublished").exists())
    found = mlflow_runs(runs, ended.run_id)
    status = {RunState.FAILED: "FAILED", RunState.SUCCEEDED: "FINISHED", RunState.CANCELLED: "KILLED"}[ended.state]
    assert [run.info.status for run in found] == [status]
    from mlflow.tracking import MlflowClient

    client = MlflowClient(runs.config.mlflow_uri())
    steps = [point.step for point in client.get_metric_history(found[0].info.run_id, "m")]
    acknowledged = told.read_text().split() if told.exists() else []
    assert steps == list(range(len(steps)))
    assert len(steps) >= len(acknowledged)
    names = {file.path for file in client.list_artifacts(found[0].info.run_id)}
    assert "events.jsonl" in names
    executed = runs.files(ended) / "executed.ipynb"
    assert ("executed.ipynb" in names) == executed.exists()
    if executed.exists():
        nbformat.validate(nbformat.read(executed, as_version=4))
    assert not list(runs.files(ended).glob(".executed.ipynb.*"))


def executed(runs: Runs, record) -> nbformat.NotebookNode:
    return nbformat.read(runs.files(record) / "executed.ipynb", as_version=4)


def outputs_text(nb: nbformat.NotebookNode) -> str:
    return "".join(
        output.get("text", "") or str(output.get("data", {}).get("text/plain", ""))
        for cell in nb.cells
        for output in cell.get("outputs", [])
    )
