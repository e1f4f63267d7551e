"""An engine that waits for a run: `python -m jupyter_mlops.warm.spare`. It serves one run and is never used again.

Two processes, as every run has them (see `worker`): the supervisor waits for the run's directory on its standard input,
and its engine has imported what a run needs, has spoken to MLflow, and has a kernel that answers. When the head goes,
so do they: before a run at once, in the middle of one with a record of why.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil

from ..startup import start_quickly
from ..worker import publish_last_event, supervise

READY = b"ready\n"
_LOOK = 0.5
_GOING = 2.0
"""Seconds that an engine has to go which nobody wants any more."""
_LOST = "The cluster {} was lost in the middle of the run: its head is gone."
CLUSTER_VARIABLE = "JUPYTER_MLOPS_CLUSTER"
"""The name of the cluster that a process belongs to."""


def main(arguments: list[str] | None = None) -> int:
    """Wait for a run and execute it; the exit status is that of the worker.

    Args:
        arguments: None for the supervisor, which starts its engine with `--engine`.
    """
    if "--engine" in (sys.argv[1:] if arguments is None else arguments):
        return _engine()
    head = os.getppid()
    engine = subprocess.Popen([sys.executable, "-m", "jupyter_mlops.warm.spare", "--engine"], stdin=subprocess.PIPE)
    assert engine.stdin is not None
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):  # the head has no run for it, or is gone
        engine.stdin.close()
        try:
            return engine.wait(_GOING)
        except subprocess.TimeoutExpired:  # it is still being made ready, and does not listen
            from ..engine.stop import end_tree

            end_tree(psutil.Process(engine.pid))
            return 0
    run_dir = Path(json.loads(line))
    print_into(run_dir)
    threading.Thread(target=_watch_head, args=(head, run_dir), name="mlops-head", daemon=True).start()
    with suppress(OSError):  # an engine that died is found by `supervise`
        engine.stdin.write(line)
        engine.stdin.flush()
    return supervise(run_dir, waiting=engine)


def _watch_head(head: int, run_dir: Path) -> None:
    from ..engine.execute import CANCEL_FILE

    while os.getppid() == head:
        time.sleep(_LOOK)
    if not (run_dir / CANCEL_FILE).exists():
        word = {"lost": _LOST.format(os.environ.get(CLUSTER_VARIABLE, "")).replace("  ", " ")}
        with suppress(OSError):  # a look at the clusters may have removed the directory already
            (run_dir / CANCEL_FILE).write_text(json.dumps(word), encoding="utf-8")
    os.kill(os.getpid(), signal.SIGTERM)


def _engine() -> int:
    start_quickly()
    # What is printed goes to the head's log; the one word for the head goes where the supervisor's output goes.
    word = os.dup(1)
    os.dup2(2, 1)
    supervisor = os.getppid()
    _warm_up()
    from ..engine.execute import execute_run
    from ..engine.warm_kernel import start_warm_kernel

    kernel = start_warm_kernel(Path.cwd())
    with suppress(OSError):
        os.write(word, READY)
    os.close(word)
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        if kernel is not None:
            kernel.end()
        os._exit(0)
    run_dir = Path(json.loads(line))
    os.chdir(run_dir)
    print_into(run_dir)
    outcome = execute_run(run_dir, parent_pid=supervisor, warm=kernel)
    publish_last_event(run_dir)
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a thread of a library that does not end would keep a finished run alive.
    os._exit(0 if outcome.state.value == "succeeded" else 1)


def _warm_up() -> None:
    """Import what every run imports, and open MLflow's store."""
    import papermill  # noqa: F401 - the import is what is wanted

    from ..config import load_config
    from ..engine import papermill_engine, publish  # noqa: F401
    from ..errors import MLOpsError
    from ..tracking import metrics, mlflow_run, system_metrics  # noqa: F401
    from ..tracking.connection import connect
    from ..tracking.html import warm_up

    warm_up()
    config = load_config()
    with suppress(MLOpsError):  # the run waits for it and says what is wrong
        connection = connect(config.mlflow_uri(), config.mlflow_wait)
        connection.do(lambda: connection.client.search_experiments(max_results=1))


def print_into(run_dir: Path) -> None:
    """Have everything that this process prints kept with the run."""
    with suppress(OSError), (run_dir / "worker.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)


if __name__ == "__main__":
    sys.exit(main())
