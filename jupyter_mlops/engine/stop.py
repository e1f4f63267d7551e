"""Stops a run that is executing: interrupt first, then end the kernel with all its children."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable

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
        self._kernel_pid: Callable[[], int | None] = lambda: None
        self._kernel_done = threading.Event()
        self._watch_started = False

    @property
    def reason(self) -> Outcome | None:
        """Why the run is to end, or None."""
        return self._reason

    def watch_kernel(self, pid: Callable[[], int | None]) -> None:
        """Tell which process the kernel is, once it runs."""
        self._kernel_pid = pid
        if self._reason is not None:
            self._escalate_later()

    def kernel_done(self) -> None:
        """The kernel has been shut down: nothing is left to stop."""
        self._kernel_done.set()

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
        if at_once:
            threading.Thread(target=self._kill, name="mlops-stop", daemon=True).start()
        else:
            self._escalate_later()

    def _escalate_later(self) -> None:
        if not self._watch_started:
            self._watch_started = True
            threading.Thread(target=self._escalate, name="mlops-stop", daemon=True).start()

    def _escalate(self) -> None:
        pid = self._kernel_pid()
        if pid is None:
            self._watch_started = False  # the kernel is not there yet; watch_kernel comes back to this
            return
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGINT)
        if not self._kernel_done.wait(self._grace):
            self._kill()

    def _kill(self) -> None:
        pid = self._kernel_pid()
        if pid is not None:
            end_tree(pid)


def end_tree(pid: int, *, patience: float = 3.0) -> None:
    """End a process with all its descendants: SIGTERM, then SIGKILL after `patience` seconds.

    A process that is gone already is fine.
    """
    try:
        root = psutil.Process(pid)
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
