"""The line to the supervisor in a kernel's pod, held in a thread of its own, and what it means when it breaks.

Only Kubernetes knows whether a pod is lost. So a broken line is made anew as long as the pod is there; when the pod is
there and does not answer for a while, it is as good as lost; when Kubernetes does not answer, nothing is known yet.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import KubernetesError
from ..kubernetes import contract

PING = 10.0
"""Seconds between two signs of life to the supervisor."""
_SILENT = 3 * PING
"""Seconds without an answer after which a line is taken for broken."""
_UNANSWERED = 60.0
"""Seconds after which a pod that Kubernetes takes for running, and that does not answer, is given up."""
_REFUSED = 45.0
"""Seconds after which a refusal of Kubernetes is believed: one that has just started refuses for a moment."""
_PAUSE = 1.0
_CLOSING = 3.0


class Link:
    """The line to one pod.

    Args:
        port: Of 127.0.0.1; leads to the supervisor.
        token: The supervisor's.
        look: Asks Kubernetes for the pod: why it is lost, or None while it is there.
        patience: Seconds without Kubernetes after which the pod has ended by itself.
    """

    def __init__(self, port: int, token: str, look: Callable[[], str | None], patience: float) -> None:
        self._port = port
        self._token = token
        self._look = look
        self._patience = patience
        self._changed = threading.Condition()
        self._sock: socket.socket | None = None
        self._closed = threading.Event()
        self.generation = 0
        self.ready = False
        self.ended: Mapping[str, Any] | None = None
        self.lost: str | None = None
        self.parent: Mapping[str, Any] | None = None
        self._started: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._hold, name="mlops-kernel-link", daemon=True)
        self._thread.start()

    def start(self, env: Mapping[str, str]) -> None:
        """Have a new kernel started; `wait_ready` says when it is there."""
        with self._changed:
            self.generation += 1
            self.ready, self.ended, self.parent = False, None, None
            self._started = {"do": "start", "generation": self.generation, "env": dict(env)}
            self._say(self._started)

    def signal(self, number: int) -> None:
        """Send the kernel a signal."""
        with self._changed:
            self._say({"do": "signal", "generation": self.generation, "number": number})

    def wait_ready(self, patience: float, stop: threading.Event) -> bool:
        """Wait until the kernel listens, has ended or is lost.

        Args:
            patience: Seconds.
            stop: Ends the wait.

        Returns:
            Whether it listens.
        """
        until = time.monotonic() + patience
        with self._changed:
            while not (self.ready or self.ended or self.lost or stop.is_set()) and time.monotonic() < until:
                self._changed.wait(0.2)
            return self.ready and self.ended is None and self.lost is None

    def close(self) -> None:
        """Let go of the line; the pod stays as it is."""
        self._closed.set()
        with self._changed:
            if self._sock is not None:
                with contextlib.suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RDWR)
        if self._thread is not threading.current_thread():
            self._thread.join(_CLOSING)

    def _say(self, what: Mapping[str, Any]) -> None:
        # What is said while the line is broken is not lost: `start` is said again, and signals are for the moment.
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.sendall(json.dumps(what).encode() + b"\n")

    def _hold(self) -> None:
        answered = known = time.monotonic()
        refused: float | None = None
        while not self._closed.is_set() and self.lost is None:
            if self._talk():
                answered = known = time.monotonic()
                refused = None
            if self._closed.is_set():
                return
            lost: str | None = None
            try:
                lost = self._look()
                now = known = time.monotonic()
                refused = None
                if lost is None and now - answered > _UNANSWERED:
                    lost = "The kernel's pod does not answer any more; its node may be lost."
            except KubernetesError as error:
                now = time.monotonic()
                refused = None if error.retryable else refused or now
                if refused is not None and now - refused > _REFUSED:
                    lost = error.message
                elif now - known > self._patience:
                    lost = f"{error.message} The kernel's pod has ended by itself meanwhile, for nobody could reach it."
            if lost is not None:
                with self._changed:
                    self.lost = lost
                    self._changed.notify_all()
                return
            self._closed.wait(_PAUSE)

    def _talk(self) -> bool:
        """Hold the line until it breaks; whether the supervisor was heard on it."""
        heard = False
        pinger = threading.Event()
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=_SILENT) as sock:
                sock.sendall(json.dumps({"token": self._token}).encode() + b"\n")
                threading.Thread(target=self._ping, args=(pinger,), name="mlops-kernel-ping", daemon=True).start()
                with self._changed:
                    self._sock = sock
                for line in sock.makefile("rb"):
                    heard = True
                    self._hear(json.loads(line))
                    if self._closed.is_set():
                        break
        except (OSError, ValueError):
            pass  # the look at the pod says what it means
        finally:
            pinger.set()
            with self._changed:
                self._sock = None
        return heard

    def _ping(self, done: threading.Event) -> None:
        while not done.wait(PING):
            with self._changed:
                self._say({"do": "ping"})

    def _hear(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        with self._changed:
            if kind == "hello":
                self._greet(event)
            elif kind == "executing":
                self.parent = event.get("parent")
            elif event.get("generation") == self.generation:
                if kind == "ready":
                    self.ready = True
                elif kind == "ended":
                    self.ended = event
            self._changed.notify_all()

    def _greet(self, event: Mapping[str, Any]) -> None:
        if event.get("version") != contract.VERSION:
            self.lost = "The image's jupyter-mlops speaks another version of the pods' contract than the one here."
            return
        self.parent = event.get("parent")
        if self._started is not None and event["generation"] != self.generation:
            self._say(self._started)
        elif event["generation"] == self.generation:
            self.ready = bool(event["ready"])
            self.ended = event["ended"]
