"""The processes that the head starts beside itself: the engine with its inputs from MLflow, and a few errands.

`--engine` fetches the run, compares versions, executes it and sends what came of it. `--cancelled-by` prints who wants
it to end. `--end-workers` tells the other pods that it is over. `--send` sends what MLflow did not take before.
`--retire` is a worker pod's: its Dask workers hand their data to the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MLOpsError, SnapshotError, TrackingError
from ..events import EventWriter, NoticeEvent, RunEvent, read_events
from ..spec import FailureCode, RunSpec, RunState
from ..startup import start_quickly
from . import contract
from .pod_head import SENT_FILE, prepare_run_dir
from .versions import Verdict, compare_versions

if TYPE_CHECKING:
    from ..config import MLOps
    from ..snapshot import Snapshot

_MLFLOW_PATIENCE = 120.0
"""Seconds that an MLflow may be away which answered the client a moment ago."""
_PAUSE = 2.0
_SENDING_PATIENCE = 500.0
_CUT = 600
"""Characters that are left of a text that does not fit into the termination message."""


def main(errand: str) -> int:
    """Run one errand.

    Args:
        errand: One of those of the module's docstring.
    """
    start_quickly()
    status = {
        "--engine": _engine,
        "--cancelled-by": _print_cancelled_by,
        "--end-workers": _end_workers,
        "--send": _send,
        "--retire": _retire,
    }[errand](prepare_run_dir(os.environ))
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread of a library that does not end would keep a finished run alive.
    os._exit(status)


def refuse(run_dir: Path, code: str, message: str, hint: str = "") -> None:
    """Record that the run ends before its first cell.

    Args:
        run_dir: The run's directory.
        code: A `FailureCode`.
        message: Why, in one sentence.
        hint: The next step.
    """
    from ..config import load_config
    from ..redact import Redactor
    from ..tracking.mlflow_run import end_run

    config = load_config()
    redactor = Redactor.from_environment(config.secret_pattern)
    event = RunEvent(
        state=RunState.FAILED, code=FailureCode(code), message=redactor.text(message), hint=hint,
        mlflow_run_id=_mlflow_run_id() or None,
    )  # fmt: skip
    _write(run_dir, event)
    with suppress(MLOpsError):  # the termination message has it, and the client records it
        end_run(
            uri=config.mlflow_uri(), mlflow_run_id=_mlflow_run_id(), state=RunState.FAILED, code=FailureCode(code),
            message=message, wait=config.mlflow_wait, redactor=redactor,
        )  # fmt: skip
        (run_dir / SENT_FILE).touch()


def termination_message(run_dir: Path) -> bytes:
    """The event that ended the run, as Kubernetes keeps it with the pod: one line, cut to what the kubelet takes."""
    final = next(
        (event for event in reversed(list(read_events(run_dir))) if isinstance(event, RunEvent)
         and event.state.is_terminal), None,
    )  # fmt: skip
    if final is None:
        return b""
    line = _line(final)
    if len(line) > contract.TERMINATION_LIMIT:
        cut = {key: _shortened(value) for key in ("message", "hint", "line") if (value := getattr(final, key))}
        line = _line(final.model_copy(update=cut))
    return line[: contract.TERMINATION_LIMIT]


def _engine(run_dir: Path) -> int:
    from ..config import load_config
    from ..engine.execute import execute_run

    config = load_config()
    _write(run_dir, RunEvent(state=RunState.PENDING, phase="fetching the notebook", mlflow_run_id=_mlflow_run_id()))
    try:
        spec, snapshot = _fetch(run_dir, config)
    except TrackingError as error:
        refuse(run_dir, "mlflow_unreachable", error.message, f"{error.hint} The pod reaches MLflow with the "
               "credentials of the Secrets in the profile's 'env_from_secrets'.")  # fmt: skip
        return 1
    except SnapshotError as error:
        refuse(run_dir, "internal", error.message, error.hint)
        return 1
    except ValueError as error:
        refuse(run_dir, "not_started", f"The image's jupyter-mlops cannot read this run: {_first_line(error)}",
               "Use an image with the jupyter-mlops that submits the run.")  # fmt: skip
        return 1
    verdict = _compare(spec, snapshot)
    if verdict.refusal:
        refuse(run_dir, "not_started", verdict.refusal, verdict.hint)
        return 1
    if verdict.notice:
        _write(run_dir, NoticeEvent(level="warning", message=verdict.notice))
    outcome = execute_run(run_dir, parent_pid=os.getppid())
    if outcome.state.is_terminal and not _is_unpublished(run_dir):
        with suppress(MLOpsError):
            _send_events(run_dir, config)
    return 0 if outcome.state is RunState.SUCCEEDED else 1


def _fetch(run_dir: Path, config: MLOps) -> tuple[RunSpec, Snapshot]:
    from ..snapshot import SnapshotStore
    from .transport import fetch_inputs

    store = SnapshotStore(config.data_path)
    told = False

    def fetch() -> tuple[RunSpec, Snapshot]:
        return fetch_inputs(_mlflow_run_id(), run_dir, store, uri=config.mlflow_uri(), wait=config.mlflow_wait)

    def tell(error: TrackingError) -> None:
        nonlocal told
        if not told:
            told = True
            _write(run_dir, NoticeEvent(level="warning", message=f"{error.message} It is tried again."))

    return _patiently(fetch, _MLFLOW_PATIENCE, tell)


def _patiently(call: Callable[[], tuple[RunSpec, Snapshot]], patience: float,
               tell: Callable[[TrackingError], None]) -> tuple[RunSpec, Snapshot]:  # fmt: skip
    deadline = time.monotonic() + patience
    while True:
        try:
            return call()
        except TrackingError as error:
            if not error.retryable or time.monotonic() > deadline:
                raise
            tell(error)
        time.sleep(_PAUSE)


def _compare(spec: RunSpec, snapshot: Snapshot) -> Verdict:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from ..offload import CELL_TAG
    from .versions import TOLD

    here = {}
    for name in TOLD:
        with suppress(PackageNotFoundError):
            here[name] = version(name)
    return compare_versions(
        python=snapshot.environment.python,
        packages={each.name: each.version for each in snapshot.environment.distributions},
        image_python=platform.python_version(),
        image_packages=here,
        image=spec.profile.image or "of the pod",
        pickled=CELL_TAG in spec.tags,
    )


def _send(run_dir: Path) -> int:
    """Send what MLflow did not take at the end of the run, as long as the pod may stay for it."""
    from ..config import load_config
    from ..engine.publish import publish_recorded

    config = load_config()
    deadline = time.monotonic() + _SENDING_PATIENCE
    while True:
        try:
            publish_recorded(run_dir, config)
            _send_events(run_dir, config)
        except TrackingError as error:
            if not error.retryable or time.monotonic() > deadline:
                sys.stderr.write(f"{error.message}\n")
                return 1
        except MLOpsError as error:
            sys.stderr.write(f"{error.message}\n")
            return 1
        else:
            return 0
        time.sleep(_PAUSE)


def _send_events(run_dir: Path, config: MLOps) -> None:
    from ..engine.publish import publish_events

    publish_events(run_dir, _mlflow_run_id(), uri=config.mlflow_uri(), wait=config.mlflow_wait)
    (run_dir / SENT_FILE).touch()


def _is_unpublished(run_dir: Path) -> bool:
    from ..engine.publish import PENDING_FILE

    return (run_dir / PENDING_FILE).exists()


def _print_cancelled_by(_run_dir: Path) -> int:
    from ..config import load_config
    from .transport import cancelled_by

    config = load_config()
    sys.stdout.write(cancelled_by(_mlflow_run_id(), uri=config.mlflow_uri(), wait=10) or "")
    return 0


def _end_workers(_run_dir: Path) -> int:
    """Have the Dask workers of the other pods leave word for their pod that the run is over, and end Dask."""
    from distributed import Client

    from .pod_dask import end_of_run_file

    client = Client(timeout=5, set_as_default=False)
    client.run(_leave_word, end_of_run_file())
    client.shutdown()
    return 0


def _retire(_run_dir: Path) -> int:
    from distributed import Client

    client = Client(timeout=5, set_as_default=False)
    mine = client.run_on_scheduler(_workers_of, os.environ[contract.POD_NAME_VARIABLE])
    client.retire_workers(workers=mine)
    return 0


def _workers_of(pod: str, dask_scheduler: Any = None) -> list[str]:
    """Addresses of the Dask workers of a pod: one is named by it, several by it and a number."""
    workers = dask_scheduler.workers.values()
    return [each.address for each in workers if str(each.name) == pod or str(each.name).startswith(f"{pod}-")]


def _leave_word(file: str) -> None:
    Path(file).touch()


def _mlflow_run_id() -> str:
    return os.environ.get(contract.MLFLOW_RUN_VARIABLE, "")


def _write(run_dir: Path, event: RunEvent | NoticeEvent) -> None:
    writer = EventWriter(run_dir)
    try:
        writer.write(event)
    finally:
        writer.close()


def _line(event: RunEvent) -> bytes:
    data = {key: value for key, value in event.model_dump(mode="json").items() if value not in (None, "")}
    return json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _shortened(text: str) -> str:
    # A character that is no ASCII takes six bytes, and one beyond the first plane twelve.
    room = _CUT if text.isascii() else _CUT // 6
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3])[:300]
