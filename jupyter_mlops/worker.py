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
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import psutil

from .startup import start_quickly
from .states import EVENTS_FILE, RUN_ID_VARIABLE, RunState

PROCESS_FILE = "worker.json"
WAITING_VARIABLE = "JUPYTER_MLOPS_WAITING"
"""Names an engine that waits, or has waited: its kernel was started before it was known for which run."""
HEARTBEAT = 30.0
"""Seconds between two touches of the process file, by which another machine sees that this one lives."""

_LOOK = 5.0
_STOP_PATIENCE = 300.0
"""Seconds that an engine has to end in order, results sent, after it was told to stop."""
_LAST_EVENT = 64 * 1024
"""Bytes in which the event that ends a run has room."""
_PR_SET_CHILD_SUBREAPER = 36
_LINUX: bool = sys.platform == "linux"


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
    status = supervise(run_dir)
    leave_one_waiting()
    return status


def leave_one_waiting() -> None:
    """Have an engine wait for the next run, if the settings want it; `warm.waiting` is its process."""
    # A run inside a run leaves none: it has the variables of the run that it belongs to.
    if os.name != "posix" or RUN_ID_VARIABLE in os.environ:
        return
    environment = {name: value for name, value in os.environ.items() if name != WAITING_VARIABLE}
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-m", "jupyter_mlops.warm.waiting"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd="/", env=environment,
        )  # fmt: skip


def supervise(
    run_dir: Path,
    *,
    command: Sequence[str] | None = None,
    pass_fds: tuple[int, ...] = (),
    waiting: subprocess.Popen[bytes] | None = None,
    before_stop: Callable[[], None] = lambda: None,
    after_engine: Callable[[], None] = lambda: None,
    patience: float = _STOP_PATIENCE,
) -> int:
    """Start the engine, wait for it, clean up after it, and leave a record in any case.

    Args:
        run_dir: The run's directory.
        command: What starts the engine instead of this module.
        pass_fds: Open files that the engine shall have too.
        waiting: An engine that was started before and has been told of this run; then nothing else is started.
        before_stop: Called once, in a thread, when this process was told to stop and before the engine is; it may
            leave word of why in `cancel.json`.
        after_engine: Called when the engine is gone, before everything that is left of the run is ended.
        patience: Seconds that the engine then has.

    Returns:
        See `main`.
    """
    if waiting is None and (given_up := _recorded_state(run_dir)) is not None:
        return _exit_code(given_up.value)  # whoever looked took it for never started, and may have started another
    write_process_file(run_dir, os.getpid())
    become_subreaper()
    engine: subprocess.Popen[bytes] | None = None
    told: float | None = None

    def tell_engine() -> None:
        before_stop()
        started.wait()
        if engine is not None:
            with contextlib.suppress(ProcessLookupError):
                engine.send_signal(signal.SIGTERM)

    def pass_on(_signal: int, _frame: FrameType | None) -> None:
        nonlocal told
        if told is None:
            told = time.monotonic()
            teller.start()

    started = threading.Event()
    teller = threading.Thread(target=tell_engine, name="mlops-stop", daemon=True)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    engine = waiting or subprocess.Popen(
        list(command or (sys.executable, "-m", "jupyter_mlops.worker", str(run_dir), "--engine")),
        stdin=subprocess.DEVNULL,
        pass_fds=pass_fds,
    )
    started.set()
    write_process_file(run_dir, os.getpid(), engine.pid)

    def watch() -> None:
        touched = time.monotonic()
        while True:
            time.sleep(_LOOK)
            if time.monotonic() - touched > HEARTBEAT:
                touched = time.monotonic()
                with contextlib.suppress(OSError):
                    os.utime(run_dir / PROCESS_FILE)
            if told is not None and time.monotonic() - told > patience:
                engine.kill()

    threading.Thread(target=watch, name="mlops-heartbeat", daemon=True).start()
    returncode = engine.wait()
    if told is not None:  # why is to be known before anything is recorded
        teller.join()
    after_engine()
    end_processes(run_dir.name, descendants=True)
    ended = _recorded_state(run_dir)
    if ended is not None:
        return _exit_code(ended.value)
    from .engine.outcome import describe_exit
    from .engine.publish import recorded_outcome

    if record_death(run_dir, describe_exit(returncode), told_to_stop=told is not None):
        subprocess.run(
            [sys.executable, "-m", "jupyter_mlops.worker", str(run_dir), "--publish"],
            stdin=subprocess.DEVNULL,
            check=False,
        )
        end_processes(run_dir.name, descendants=True)
    outcome = recorded_outcome(run_dir)
    return 1 if outcome is None else _exit_code(outcome.state.value)


def record_death(run_dir: Path, how: str, *, told_to_stop: bool = False) -> bool:
    """Record that a run has ended whose processes left no record of their own; its results are still to be sent.

    Any number of processes may do so at once: one does.

    Args:
        run_dir: The run's directory; all of its processes are gone.
        how: The end of the sentence "The process of the run died: ...".
        told_to_stop: Whether somebody had asked it to end.

    Returns:
        Whether a record was made; False when there is one.

    Raises:
        OSError: the directory cannot be written; a later look does it.
    """
    from .engine.execute import CANCEL_FILE, cancel_outcome
    from .engine.outcome import Outcome
    from .engine.publish import EXECUTED_NOTEBOOK, queue_publication, recorded_outcome
    from .events import EventWriter, RunEvent, read_events
    from .spec import FailureCode, RunState

    with one_at_a_time(run_dir):
        if recorded_outcome(run_dir) is not None:
            return False
        if told_to_stop or (run_dir / CANCEL_FILE).exists():
            outcome = cancel_outcome(run_dir)
            if not outcome.state.is_terminal:
                return False
        else:
            outcome = Outcome(
                RunState.FAILED, FailureCode.WORKER_DIED, f"The process of the run died: {how}.",
                f"`jupyter mlops retry {run_dir.name}` runs the same snapshot again; "
                f"`jupyter mlops logs --worker {run_dir.name}` shows what it printed.",
            )  # fmt: skip
        known = [event for event in read_events(run_dir) if isinstance(event, RunEvent)]
        facts = known[-1].model_dump(include={"mlflow_run_id", "mlflow_url", "total_cells"}) if known else {}
        for unfinished in run_dir.glob(f".{EXECUTED_NOTEBOOK}.*"):
            with contextlib.suppress(OSError):
                unfinished.unlink()
        queue_publication(run_dir)
        writer = EventWriter(run_dir)
        try:
            writer.write(
                RunEvent(state=outcome.state, code=outcome.code, message=outcome.message, hint=outcome.hint, **facts)
            )
        finally:
            writer.close()
    return True


@contextlib.contextmanager
def one_at_a_time(run_dir: Path) -> Iterator[None]:
    """Held by one process at a time, and let go when that is killed."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (run_dir / ".recording").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_process_file(run_dir: Path, pid: int, engine: int | None = None, *, only_if_missing: bool = False) -> None:
    """Say which processes a run is.

    Args:
        run_dir: The run's directory.
        pid: The supervisor.
        engine: Its engine, once there is one.
        only_if_missing: Leave a file alone that is there already.

    Raises:
        OSError: it cannot be written.
    """
    content: dict[str, object] = {"pid": pid, "born": birth_of(pid), "host": socket.gethostname()}
    if engine is not None:
        content["engine"] = {"pid": engine, "born": birth_of(engine)}
        if WAITING_VARIABLE in os.environ:
            content["waiting"] = os.environ[WAITING_VARIABLE]
    target = run_dir / PROCESS_FILE
    temporary = run_dir / f".{PROCESS_FILE}.{os.getpid()}"
    temporary.write_text(json.dumps(content), encoding="utf-8")
    if not only_if_missing:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
    except FileExistsError:
        pass
    except OSError:  # no hard links on this file system
        if not target.exists():
            temporary.replace(target)
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()


def birth_of(pid: int) -> str | None:
    """What tells a process from a later one of the same id; None when there is no such process, or it is a zombie.

    On Linux its start in ticks and the boot: what psutil calls its creation time moves when the clock is set.
    """
    try:
        if _LINUX:
            # The name of the program, in parentheses, may hold anything.
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
            return None if fields[0] in (b"Z", b"X") else f"{boot} {int(fields[19])}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.3f}"
    except (OSError, psutil.Error):
        return None


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process (Linux), so that it can end them."""
    if _LINUX:
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_processes(run_id: str, *, waiting: object = None, descendants: bool = False) -> None:
    """End everything that is left of a run: kernels and Dask workers live in sessions of their own.

    Found are all processes of this user that carry the run's id in their environment, as the kernel and what it starts
    do.

    Args:
        run_id: The run's.
        waiting: What its process file says under this name: what a kernel carries that was started before the run.
        descendants: Also every descendant of this process.
    """
    for patience in (3.0, 1.0, 1.0, 5.0):  # what is killed may just have started another
        family = _carriers(run_id, waiting)
        if descendants:
            family |= set(psutil.Process().children(recursive=True))
        if not family:
            break
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.terminate() if patience == 3.0 else process.kill()
        psutil.wait_procs(family, timeout=patience)
    if descendants:  # as a subreaper this process also buries what it did not start
        with contextlib.suppress(ChildProcessError):
            deadline = time.monotonic() + 1
            while time.monotonic() < deadline and os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _carriers(run_id: str, waiting: object) -> set[psutil.Process]:
    me = psutil.Process()
    mine = {me, *me.parents()}
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            carries = environment.get(RUN_ID_VARIABLE) == run_id
            carries |= waiting is not None and environment.get(WAITING_VARIABLE) == waiting
            if carries and process not in mine and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process)
    return found


def _recorded_state(run_dir: Path) -> RunState | None:
    """The end that is the last event; None when another is, or it cannot be read.

    Most runs end so. What checks events takes longer to load than everything else that the supervisor does.
    """
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError), (run_dir / EVENTS_FILE).open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_EVENT))
        event = json.loads(file.read().splitlines()[-1])
        state = RunState(event["state"]) if event["type"] == "run" else None
        return state if state is not None and state.is_terminal else None
    return None


def _exit_code(state: str) -> int:
    return {"succeeded": 0, "cancelled": 130}.get(state, 1)


def _engine(run_dir: Path) -> int:
    start_quickly()
    from .engine.execute import execute_run

    outcome = execute_run(run_dir, parent_pid=os.getppid())
    publish_last_event(run_dir)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread of a library that does not end would keep a finished run alive.
    os._exit(_exit_code(outcome.state.value))


def publish_last_event(run_dir: Path) -> None:
    """Send MLflow the run's events once more, now that the last one is written; what cannot be sent is let be."""
    from .config import load_config
    from .engine.publish import PENDING_FILE, publish_events
    from .errors import MLOpsError
    from .events import RunEvent, read_events
    from .spec import RunSpec

    known = [event.mlflow_run_id for event in read_events(run_dir) if isinstance(event, RunEvent)]
    if not known or known[-1] is None or (run_dir / PENDING_FILE).exists():
        return
    config = load_config()
    with contextlib.suppress(MLOpsError):  # the record in MLflow says the same, only its list of events ends early
        publish_events(
            run_dir, known[-1], uri=config.mlflow_uri_of(RunSpec.read(run_dir).tracking_uri), wait=config.mlflow_wait
        )


def _publish(run_dir: Path) -> int:
    start_quickly()
    from .config import load_config
    from .engine.publish import publish_recorded
    from .errors import MLOpsError

    try:
        publish_recorded(run_dir, load_config())
    except MLOpsError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
