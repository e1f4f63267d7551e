"""Clusters on this machine: one detached process each, which needs nobody once it is started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..config import MLOps
from ..errors import ClusterError
from .known import LOG_FILE, Known, is_alive

if TYPE_CHECKING:
    from collections.abc import Callable

_START = 180.0
_STOP = 120.0
_LOOK = 0.1


def start(known: Known, config: MLOps, *, told: Callable[[str], None]) -> None:
    """Start the head and wait until it answers.

    Args:
        known: The cluster; nothing of it is left when it does not start.
        config: Has MLflow's address, which the runs on the cluster use.
        told: Takes what it is doing, for the person.

    Raises:
        ClusterError: it did not start.
    """
    # Not written down anywhere: it may hold a password.
    environment = {**os.environ, "MLFLOW_TRACKING_URI": config.mlflow_uri()}
    try:
        with (known.directory / LOG_FILE).open("ab") as log:
            head = subprocess.Popen(
                [sys.executable, "-m", "jupyter_mlops.warm.head", str(known.directory)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=known.directory, env=environment,
                start_new_session=True,
            )  # fmt: skip
    except OSError as error:
        known.forget()
        raise ClusterError(f"The head of the cluster could not be started: {error.strerror or error}.") from error
    # A long-lived parent (a kernel) would keep the ended head as a zombie.
    threading.Thread(target=head.wait, name="mlops-wait", daemon=True).start()
    deadline = time.monotonic() + _START
    try:
        told("starting the Dask scheduler and its workers")
        while known.head is None:
            if head.poll() is not None or time.monotonic() > deadline:
                why = known.last_words() or f"its process ended ({head.poll()})"
                raise ClusterError(f"The cluster '{known.spec.name}' did not start: {why}")
            time.sleep(_LOOK)
    except BaseException:  # Ctrl-C too: nothing may hold GPUs that nobody wants any more
        head.kill()
        known.forget()
        raise


def is_lost(known: Known) -> bool:
    """Whether the cluster's head is gone without having removed its directory, or is about to.

    A head that does not say yet where it is counts as starting, for as long as that may take.
    """
    head = known.head
    if head is not None:
        return not is_alive(head)
    try:
        return time.time() - known.directory.stat().st_mtime > _START
    except OSError:
        return True


def end(known: Known) -> None:
    """Tell the head to end and wait until it and its directory are gone; kill it where it does not.

    Raises:
        ClusterError: it is on another machine.
    """
    head = known.head
    if head is None:
        known.forget()
        return
    import socket

    if head["host"] != socket.gethostname():
        raise ClusterError(
            f"The cluster '{known.spec.name}' is on {head['host']}.", hint="Stop it there, or let it end by itself."
        )
    pid = int(head["pid"])
    if is_alive(head):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP
    while is_alive(head) and time.monotonic() < deadline:
        time.sleep(_LOOK)
    if is_alive(head):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    known.forget()
