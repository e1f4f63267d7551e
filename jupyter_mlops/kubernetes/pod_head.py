"""The head of a run: the first process of its pod. Starts Dask and the engine, and tells Kubernetes how it ended.

It is small, so that it survives what kills the engine; everything that needs MLflow is a process of its own
(`pod_engine`). Its standard output is the run's events and nothing else: from there they reach whoever follows the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from . import contract
from .pod_dask import DaskProcesses

_ENGINE_PATIENCE = 100.0
"""Seconds of the `TERMINATION_GRACE` in which the engine ends in order; after that there is time to say so."""
_ASKING = 30.0
"""Seconds to find out who wants the run to end."""
_ENDING_WORKERS = 20.0
_SENDING = 600.0
"""Seconds in which an MLflow that is away may come back before the results of the run are lost with the pod."""
SENT_FILE = ".sent"
"""Made by the engine when MLflow has everything, the last event included."""
_MODULE = [sys.executable, "-m", "jupyter_mlops.kubernetes.pod"]


def main() -> int:
    """Run the head from its start to the pod's end; the exit status is that of `contract`."""
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    # The first process of a container ignores what it does not handle. Before the engine runs there is nothing to save.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(contract.EXIT_INTERRUPTED))
    mirror = _keep_stdout_for_events()
    run_dir = prepare_run_dir(os.environ)
    refusal = refuse_at_once(os.environ)
    if refusal is not None:
        from .pod_engine import refuse

        refuse(run_dir, *refusal)
        return _leave(run_dir)
    dask = DaskProcesses(os.environ)
    from ..worker import supervise

    try:
        os.environ.update(dask.start())
    except Exception as error:  # noqa: BLE001 - whatever it is, the run needs a record
        from .pod_engine import refuse

        refuse(run_dir, "not_started", f"Dask cannot be started in the pod: {error}", getattr(error, "hint", ""))
        return _leave(run_dir)

    def end_dask_first() -> None:
        # The engine is gone, and what is left of the run is about to be ended: the workers of the other pods must
        # hear that it is over, and not that they have lost their scheduler.
        if dask.running and not interrupted(run_dir):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run([*_MODULE, "--end-workers"], timeout=_ENDING_WORKERS, check=False)
        dask.stop()

    supervise(
        run_dir,
        command=[*_MODULE, "--engine"],
        pass_fds=(mirror,),
        before_stop=lambda: find_out_why(run_dir),
        after_engine=end_dask_first,
        patience=_ENGINE_PATIENCE,
    )
    return _leave(run_dir)


def prepare_run_dir(environment: Mapping[str, str]) -> Path:
    """Make the directory of the run that this pod is of."""
    run_dir = Path(environment["JUPYTER_MLOPS_DATA_DIR"]) / "runs" / environment[contract.RUN_ID_VARIABLE]
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return run_dir


def refuse_at_once(environment: Mapping[str, str]) -> tuple[str, str, str] | None:
    """Why this pod must not even begin: code, sentence, hint; None: it may.

    Args:
        environment: The pod's variables.
    """
    told = environment.get(contract.VERSION_VARIABLE, "")
    if told != contract.VERSION:
        from .._version import __version__

        return (
            "not_started",
            f"The run was submitted by a jupyter-mlops that speaks version {told or 'unknown'} of the pods' contract, "
            f"and the image has jupyter-mlops {__version__}, which speaks {contract.VERSION}.",
            "Use an image with the jupyter-mlops that submits the run, or install the image's.",
        )
    failures, disruptions = (
        int(environment.get(name) or 0) for name in (contract.FAILURES_VARIABLE, contract.DISRUPTIONS_VARIABLE)
    )
    retries = int(environment.get(contract.RETRIES_VARIABLE) or 0)
    if failures + disruptions > retries:
        return (
            "evicted" if disruptions else "worker_died",
            f"The run lost its pod {failures + disruptions} times ({disruptions} by the cluster, {failures} of its "
            f"own), and may be started again {retries} time{'s' * (retries != 1)}.",
            "Retry the run when the cluster is calmer, or raise 'retries' in the profile.",
        )
    return None


def find_out_why(run_dir: Path) -> None:
    """Leave word in the run's directory of why it is told to stop: somebody wants it, or the pod has to go."""
    from ..engine.execute import CANCEL_FILE

    by = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = subprocess.run(
            [*_MODULE, "--cancelled-by"], stdout=subprocess.PIPE, timeout=_ASKING, check=True, text=True
        )
        by = asked.stdout.strip()
    node = os.environ.get(contract.NODE_NAME_VARIABLE) or "its node"
    word = {"by": by} if by else {"interrupted": f"The run has to leave {node}: its pod was told to end."}
    temporary = run_dir / f".{CANCEL_FILE}"
    temporary.write_text(json.dumps(word), encoding="utf-8")
    temporary.replace(run_dir / CANCEL_FILE)


def interrupted(run_dir: Path) -> bool:
    """Whether the pod has to go and the run is to begin again in another."""
    from ..engine.execute import CANCEL_FILE

    try:
        return "interrupted" in json.loads((run_dir / CANCEL_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False


def exit_status(state: str | None, *, was_interrupted: bool) -> int:
    """The pod's exit status.

    Args:
        state: How the run's record says that it ended; None: it has no record.
        was_interrupted: Whether the pod has to go.
    """
    if state == "succeeded":
        return 0
    if state is not None:
        return contract.EXIT_RECORDED
    return contract.EXIT_INTERRUPTED if was_interrupted else 1


def _leave(run_dir: Path) -> int:
    """The last acts: say how it ended where Kubernetes keeps it, and send what could not be sent before."""
    from ..engine.publish import recorded_outcome

    outcome = recorded_outcome(run_dir)
    if outcome is not None:
        from .pod_engine import termination_message

        with contextlib.suppress(OSError):
            Path(contract.TERMINATION_FILE).write_bytes(termination_message(run_dir))
        # Without a spec nothing ran and nothing is lost; the client records it.
        if (run_dir / "spec.json").exists() and not (run_dir / SENT_FILE).exists():
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                subprocess.run([*_MODULE, "--send"], stdin=subprocess.DEVNULL, check=False, timeout=_SENDING)
    return exit_status(None if outcome is None else outcome.state.value, was_interrupted=interrupted(run_dir))


def _keep_stdout_for_events() -> int:
    """Give the events the container's standard output for themselves; what anybody prints goes to standard error.

    Both end up in the pod's log, but as lines of their own: a print without a line end would else swallow an event.

    Returns:
        The number of the open file.
    """
    from ..events import MIRROR_VARIABLE

    sys.stdout.flush()
    mirror = os.dup(1)
    os.set_inheritable(mirror, True)
    os.dup2(2, 1)
    os.environ[MIRROR_VARIABLE] = str(mirror)
    return mirror
