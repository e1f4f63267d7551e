"""The process of a run: `python -m jupyter_mlops.worker RUN_DIR`.

The first process is a supervisor: it starts the engine as its child, passes on the wish to stop, and when the engine
is gone it sees to it that nothing of the run is left running and that the run has a record, whatever killed the
engine. It imports next to nothing, so that there is little that could fail in it. In a container it is the init
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil

PROCESS_FILE = "worker.json"
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str] | None = None) -> int:
    """Run the worker.

    Args:
        arguments: The run's directory, and perhaps `--engine` or `--publish`.

    Returns:
        0 when the run succeeded, 1 when it did not, 130 when it was cancelled.
    """
    directory, *flags = sys.argv[1:] if arguments is None else arguments
    run_dir = Path(directory).resolve()
    if "--engine" in flags:
        return _engine(run_dir)
    if "--publish" in flags:
        return _publish(run_dir)
    return supervise(run_dir)


def supervise(run_dir: Path) -> int:
    """Start the engine, wait for it, clean up after it, and leave a record in any case."""
    write_process_file(run_dir, os.getpid())
    become_subreaper()
    engine = subprocess.Popen(
        [sys.executable, "-m", "jupyter_mlops.worker", str(run_dir), "--engine"], stdin=subprocess.DEVNULL
    )

    def pass_on(_signal: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            engine.send_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    returncode = engine.wait()
    _end_descendants()

    from .engine.publish import queue_publication, recorded_outcome

    outcome = recorded_outcome(run_dir)
    if outcome is None:
        write_death(run_dir, _how(returncode))
        queue_publication(run_dir)
        subprocess.run(
            [sys.executable, "-m", "jupyter_mlops.worker", str(run_dir), "--publish"],
            stdin=subprocess.DEVNULL,
            check=False,
        )
        _end_descendants()
        return 1
    return {"succeeded": 0, "cancelled": 130}.get(outcome.state.value, 1)


def write_death(run_dir: Path, how: str) -> None:
    """Record that the run's engine ended without a record of its own."""
    from .engine.execute import CANCEL_FILE, cancel_outcome
    from .engine.outcome import Outcome
    from .events import EventWriter, RunEvent, read_events
    from .spec import FailureCode, RunState

    if (run_dir / CANCEL_FILE).exists():
        outcome = cancel_outcome(run_dir)
    else:
        outcome = Outcome(
            RunState.FAILED, FailureCode.WORKER_DIED, f"The process of the run died: {how}.",
            f"`jupyter mlops retry {run_dir.name}` runs the same snapshot again.",
        )  # fmt: skip
    known = [event for event in read_events(run_dir) if isinstance(event, RunEvent)]
    facts = known[-1].model_dump(include={"mlflow_run_id", "mlflow_url", "total_cells"}) if known else {}
    writer = EventWriter(run_dir)
    writer.write(RunEvent(state=outcome.state, code=outcome.code, message=outcome.message, hint=outcome.hint, **facts))
    writer.close()


def write_process_file(run_dir: Path, pid: int) -> None:
    """Say which process a run is; with its start time, because process ids are used again."""
    content = {"pid": pid, "create_time": psutil.Process(pid).create_time(), "host": socket.gethostname()}
    temporary = run_dir / f".{PROCESS_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(run_dir / PROCESS_FILE)


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process (Linux), so that it can end them."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_descendants() -> None:
    """End everything that is left of the run: kernels and Dask workers live in sessions of their own."""
    for patience in (3.0, 0.0):
        family = psutil.Process().children(recursive=True)
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.terminate() if patience else process.kill()
        psutil.wait_procs(family, timeout=patience or 5.0)
    # As a subreaper this process also buries what it did not start.
    with contextlib.suppress(ChildProcessError):
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline and os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _how(returncode: int) -> str:
    if returncode >= 0:
        return f"exit code {returncode}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-returncode).name}"
    return f"signal {-returncode}"


def _engine(run_dir: Path) -> int:
    skip_slow_imports()
    from .engine.execute import execute_run

    outcome = execute_run(run_dir, parent_pid=os.getppid())
    sys.stdout.flush()
    sys.stderr.flush()
    code = {"succeeded": 0, "cancelled": 130}.get(outcome.state.value, 1)
    # Not sys.exit: a thread of a library that does not end would keep a finished run alive.
    os._exit(code)


def _publish(run_dir: Path) -> int:
    skip_slow_imports()
    from .config import load_config
    from .engine.publish import publish_recorded
    from .errors import MLOpsError

    try:
        publish_recorded(run_dir, load_config())
    except MLOpsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def skip_slow_imports() -> None:
    """Leave out `rfc3987_syntax`: jsonschema imports it if it can, for a format check that no notebook needs.

    It builds its grammar at import, which takes longer (0.9 s) than everything else of a run's start together.
    Only for processes that are ours alone.
    """
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
