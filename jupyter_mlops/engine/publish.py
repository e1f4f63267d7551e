"""Sends a run's results to MLflow: at its end, after its engine was killed, or later when MLflow was away.

Everything it needs lies in the run's directory, and doing it twice changes nothing.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

from ..config import MLOps
from ..events import EVENTS_FILE, RunEvent, read_events
from ..redact import Redactor
from ..spec import FailureCode, RunSpec, RunState
from .outcome import Outcome

EXECUTED_NOTEBOOK = "executed.ipynb"
EXECUTED_HTML = "executed.html"
PENDING_FILE = "unpublished"


def publish_run(run_dir: Path, config: MLOps, *, spec: RunSpec, outcome: Outcome, redactor: Redactor) -> None:
    """Upload the results and set the final status.

    Raises:
        TrackingError: MLflow does not take it now; `queue_publication` keeps it for later.
    """
    from ..snapshot import SnapshotStore
    from ..tracking.html import export_html
    from ..tracking.mlflow_run import begin_run, finish_run

    executed = run_dir / EXECUTED_NOTEBOOK
    if executed.exists() and not (run_dir / EXECUTED_HTML).exists():
        with contextlib.suppress(Exception):  # a picture of the notebook is a comfort, not the record
            export_html(executed, run_dir / EXECUTED_HTML, title=spec.name)
    store = SnapshotStore(config.data_path)
    snapshot = store.load(spec.snapshot_id)
    bundle = run_dir / "snapshot.zip"
    if not bundle.exists():
        store.write_zip(snapshot.id, bundle)
    uri = config.mlflow_uri_of(spec.tracking_uri)
    begun = begin_run(spec, snapshot, uri=uri, wait=config.mlflow_wait, redactor=redactor)
    finish_run(
        spec,
        uri=uri,
        mlflow_run_id=begun.mlflow_run_id,
        state=outcome.state,
        run_dir=run_dir,
        message=outcome.message,
        code=outcome.code,
        snapshot=snapshot,
        snapshot_zip=bundle,
        wait=config.mlflow_wait,
        redactor=redactor,
    )
    with contextlib.suppress(OSError):
        (run_dir / PENDING_FILE).unlink()
        bundle.unlink()


def queue_publication(run_dir: Path) -> None:
    """Remember that this run's results are still to be sent."""
    with contextlib.suppress(OSError):
        (run_dir / PENDING_FILE).touch()


def publish_events(run_dir: Path, mlflow_run_id: str, *, uri: str, wait: float) -> None:
    """Send the events once more: when the results were sent, the last one was not written yet.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    from ..tracking.artifacts import Artifact, upload
    from ..tracking.connection import connect

    upload(connect(uri, wait), mlflow_run_id, [Artifact(EVENTS_FILE, run_dir / EVENTS_FILE)])


def recorded_outcome(run_dir: Path) -> Outcome | None:
    """How the run ended, from its events; None while it has not."""
    found: RunEvent | None = None
    for event in read_events(run_dir):
        if isinstance(event, RunEvent) and event.state.is_terminal:
            found = event
    if found is None:
        return None
    return Outcome(found.state, found.code, found.message, found.hint, found.cell_index, found.line)


def publish_recorded(run_dir: Path, config: MLOps) -> None:
    """Publish a run from its directory alone.

    Raises:
        TrackingError: MLflow does not take it now.
    """
    spec = RunSpec.read(run_dir)
    outcome = recorded_outcome(run_dir) or Outcome(RunState.FAILED, FailureCode.WORKER_DIED, "The run left no record.")
    publish_run(run_dir, config, spec=spec, outcome=outcome, redactor=Redactor.from_environment(config.secret_pattern))


def publish_pending(config: MLOps, *, told: Callable[[str], None]) -> int:
    """Publish every run of the data directory that has ended and is waiting.

    Args:
        config: Says where.
        told: Takes one line a run.

    Returns:
        How many are still waiting.
    """
    from ..errors import MLOpsError

    left = 0
    for marker in sorted((config.data_path / "runs").glob(f"*/{PENDING_FILE}")):
        try:
            if recorded_outcome(marker.parent) is None:  # it is about to end, and says itself how
                continue
            publish_recorded(marker.parent, config)
            told(f"{marker.parent.name}: sent")
        except (MLOpsError, OSError, ValueError, json.JSONDecodeError) as error:
            left += 1
            told(f"{marker.parent.name}: {getattr(error, 'message', error)}")
    return left
