"""What gates are judged on, looked up where it is: snapshots, runs, MLflow, the executed notebook.

Decides nothing, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MLOpsError, NotFoundError
from ..runs import Runs
from ..spec import RunState
from .judge import CleanRun, Production, StepSource
from .model import CleanRunGate, GateResult, JobVersion, Slot, SlotKind, SlotState

if TYPE_CHECKING:
    from ..store.models import RunRecord

_LOOKED_AT = 50
"""The run of production is looked for among so many slots that succeeded last."""


def step_sources(
    runs: Runs, version: JobVersion, uncommitted: Mapping[str, tuple[str, ...] | None]
) -> tuple[StepSource, ...]:
    """Where the steps of a version come from.

    Args:
        runs: The core.
        version: The version.
        uncommitted: By step, what was found when it was proposed; what is not there is not known.

    Raises:
        NotFoundError: a snapshot is gone.
    """
    from ..snapshot import SnapshotStore

    store = SnapshotStore(runs.config.data_path)
    found = []
    for step in version.steps:
        git = store.load(step.snapshot_id).git
        commit = git.commit if git is not None else None
        found.append(StepSource(step.name, commit, uncommitted.get(step.name), step.profile.image))
    return tuple(found)


def clean_run(runs: Runs, record: RunRecord, *, checks: bool) -> CleanRun:
    """What the clean run came to.

    Args:
        runs: The core.
        record: The run as it stands now.
        checks: Whether to look at its cells.

    Raises:
        MLOpsError: it succeeded, and what it logged cannot be read now.
    """
    if record.state is not RunState.SUCCEEDED:
        return CleanRun(record.run_id, record.state, record.message, record.mlflow_run_id)
    return CleanRun(
        record.run_id, record.state, record.message, record.mlflow_run_id, metrics=_metrics(runs, record),
        checks=tagged_cells(runs.files(record)) if checks else {},
    )  # fmt: skip


def production(runs: Runs, job: str, number: int) -> Production:
    """What the live version has reached.

    Args:
        runs: The core.
        job: The job's name.
        number: The live version.

    Raises:
        MLOpsError: it cannot be read now.
    """
    record = production_run(runs, job, number)
    return Production(number, record.run_id, _metrics(runs, record))


def production_run(runs: Runs, job: str, number: int) -> RunRecord:
    """The run that stands for a version: of its last slot that succeeded, else its clean run.

    A slot that somebody started by hand with other parameters says nothing about production.

    Args:
        runs: The core.
        job: The job's name.
        number: The version.

    Raises:
        NotFoundError: there is none.
    """
    from ..store.jobs import JobStore
    from ..store.slots import SlotStore

    slots = SlotStore(runs.store).slots(job=job, states=[SlotState.SUCCEEDED], limit=_LOOKED_AT)
    run_id = next(
        (slot.run_id for slot in slots if slot.version == number and slot.run_id and not _with_others(slot)), None
    ) or clean_run_id(JobStore(runs.store).gate_results(job, number))
    if run_id is None:
        raise NotFoundError(
            f"There is no run that stands for version {number} of the job {job}.",
            hint=f"Let it run once: jupyter mlops jobs trigger {job}",
        )
    return runs.get(run_id)


def metrics_of(runs: Runs, mlflow_run_id: str) -> dict[str, float]:
    """The metrics of a run in today's MLflow.

    Raises:
        TrackingError: MLflow is away, or has no such run.
    """
    from ..tracking.metrics import latest_metrics

    return latest_metrics(runs.config.mlflow_uri(), mlflow_run_id, wait=runs.config.mlflow_wait)


def clean_run_id(results: list[GateResult]) -> str | None:
    """The clean run that a version was judged on, or None."""
    for result in reversed(results):
        if isinstance(result.gate, CleanRunGate):
            found: str | None = result.evidence.get("run")
            return found
    return None


def tagged_cells(files: Path) -> dict[str, list[tuple[str, str]]]:
    """What became of the code cells with each tag: a title, and what is wrong with it or nothing.

    Args:
        files: The run's directory.

    Raises:
        NotebookError: the executed notebook cannot be read.
    """
    from ..engine.publish import EXECUTED_NOTEBOOK
    from ..notebook.document import cell_title, read_notebook

    found: dict[str, list[tuple[str, str]]] = {}
    for cell in read_notebook(files / EXECUTED_NOTEBOOK).cells:
        if cell.cell_type == "code" and cell.source.strip():
            for tag in cell.metadata.tags:
                found.setdefault(tag, []).append((cell_title(cell.source), _wrong(cell)))
    return found


def _with_others(slot: Slot) -> bool:
    return slot.kind is SlotKind.MANUAL and "parameters" in slot.payload


def _wrong(cell: Any) -> str:
    error = next((output for output in cell.get("outputs", []) if output["output_type"] == "error"), None)
    if error is not None:  # also one that the tag `raises-exception` lets pass
        return f"raised {error.get('ename', 'an error')}"
    status = cell.metadata.get("papermill", {}).get("status")
    executed = status == "completed" if status is not None else cell.get("execution_count") is not None
    return "" if executed else "was not executed"


def _metrics(runs: Runs, record: RunRecord) -> dict[str, float]:
    from ..tracking.metrics import latest_metrics

    if record.mlflow_run_id is None:
        raise MLOpsError(
            f"The run {record.run_id} is not in MLflow, so that its metrics are not known.",
            hint="When MLflow is there again: jupyter mlops sync",
        )
    uri = runs.config.mlflow_uri_of(record.tracking_uri)
    return latest_metrics(uri, record.mlflow_run_id, wait=runs.config.mlflow_wait)
