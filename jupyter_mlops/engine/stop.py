"""Stops a run that is executing: interrupt first, then end the kernel with all its children.

Knows processes and nothing of notebooks. A process is held as psutil holds it, with its start time, so that a process
id that was used again is never somebody else's process here.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

import psutil

from .outcome import Outcome


class Stopper:
    """Holds why a run is to end, and sees to it that it does.

    The first reason counts. `request` may be called from any thread and from a signal handler.

    Args:
        grace: Seconds between the interrupt and the end of the kernel.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._reason: Outcome | None = None
        self._at_once = False
        self._kernel: psutil.Process | None = None
        self._kernel_there = threading.Event()
        self._kernel_done = threading.Event()

    @property
    def reason(self) -> Outcome | None:
        """Why the run is to end, or None."""
        return self._reason

    def watch_kernel(self, kernel: psutil.Process | None) -> None:
        """Tell which process the kernel is, once it runs; None: it has none on this machine."""
        if kernel is not None and not self._kernel_there.is_set():
            self._kernel = kernel
            self._kernel_there.set()

    def kernel_done(self) -> None:
        """The kernel has been shut down: nothing is left to stop."""
        self._kernel_done.set()
        self._kernel_there.set()

    def request(self, reason: Outcome, *, at_once: bool = False) -> None:
        """End the run for this reason.

        Args:
            reason: The outcome that is recorded.
            at_once: Do not wait for the cell to react (out of memory: there is no time).
        """
        # No lock that a signal handler could find held by the very thread it interrupted.
        if self._reason is not None:
            return
        self._reason = reason
        self._at_once = at_once
        threading.Thread(target=self._end_kernel, name="mlops-stop", daemon=True).start()

    def _end_kernel(self) -> None:
        self._kernel_there.wait()
        if self._kernel is None or self._kernel_done.is_set():
            return
        if not self._at_once:
            with contextlib.suppress(psutil.Error, OSError):
                self._kernel.send_signal(signal.SIGINT)
            if self._kernel_done.wait(self._grace):
                return
        end_tree(self._kernel)


def kernel_process(manager: Any) -> psutil.Process | None:
    """The process of the kernel that this manager started, or None where it has none here."""
    pid = getattr(getattr(manager, "provisioner", None), "pid", None)
    if not pid:
        return None
    try:
        return psutil.Process(int(pid))
    except psutil.Error:
        return None


def end_tree(root: psutil.Process, *, patience: float = 3.0) -> None:
    """End a process with all its descendants: SIGTERM, then SIGKILL after `patience` seconds.

    A process that is gone already is fine.
    """
    try:
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=patience)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)
