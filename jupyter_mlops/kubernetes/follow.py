"""The events of a run on Kubernetes in one stream: what held it up, then what its head tells, attempt by attempt.

Before a pod runs, Kubernetes' objects tell how the run stands; from then on the head's log is the truth, and the
objects tell only what it cannot know. Knows no MLflow and writes nothing: who reads the stream keeps it.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ..errors import KubernetesError
from ..events import Event, NoticeEvent, RunEvent
from ..spec import RunState
from . import contract
from .api import Api
from .log_lines import parse_line, to_event
from .reasons import Reason, attempt
from .watch import REFUSED_PATIENCE, HeadLog, Look, Printed, Watch, WorkerLogs, has_ended, has_log, last_word

_SOON, _LATER = 1.0, 5.0
"""Seconds between two looks while something may change any moment, and while the head tells."""
_PATIENT_AFTER = 120.0
"""Seconds of waiting after which a look now and then is enough."""
_FIRST_REFUSAL = 10.0
"""Seconds after which a refusal is believed that comes before anything was seen."""
_TICK = 0.2
_TOLD_WHILE_RUNNING = ("workers_missing", "node_away")


class Stream:
    """The events of a run, once over; ends with the run or with `stop()`.

    Args:
        api: Where the run is.
        watch: Its objects.
        stop: Asked several times a second.

    Attributes:
        final: How the head said that the run ended, or None.
        ended: Why there will be no such word, or None.
    """

    def __init__(self, api: Api, watch: Watch, *, stop: Callable[[], bool] = lambda: False) -> None:
        self.final: RunEvent | None = None
        self.ended: Reason | None = None
        self._api = api
        self._watch = watch
        self._stop = stop
        self._lines: queue.Queue[Printed] = queue.Queue()
        self._workers = WorkerLogs(api, self._lines)
        self._log: HeadLog | None = None
        self._read: set[str] = set()
        self._told = ""

    def events(self) -> Iterator[Event]:
        """From the first on, for as long as the run lasts.

        Raises:
            KubernetesError: the run cannot be seen, and waiting does not help.
        """
        try:
            yield from self._follow()
        finally:
            self._workers.close()
            if self._log is not None:
                self._log.close()

    def known(self) -> Iterator[Event]:
        """What is known now.

        Raises:
            KubernetesError: the run cannot be seen.
        """
        look = self._watch.look()
        for head in look.heads:
            if not has_log(head):
                continue
            yield from self._attempt(look, head)
            with _unless_gone():
                for raw in self._api.log(head["metadata"]["name"], container=contract.CONTAINER):
                    event = to_event(parse_line(raw))
                    yield event
                    if self._ends(event):
                        return
        yield from self._standing(look)
        self._conclude(look)

    def is_over(self) -> bool:
        """Whether the run has ended, by a look at its objects alone.

        Raises:
            KubernetesError: the run cannot be seen.
        """
        return self._watch.look().is_over

    def _follow(self) -> Iterator[Event]:
        began = due = time.monotonic()
        pause = _SOON
        away = seen = False
        refused: float | None = None
        while True:
            yield from self._printed()
            if self.final is not None or self._stop():
                return
            if time.monotonic() < due:
                continue
            try:
                look = self._watch.look()
                refused = None
            except KubernetesError as error:
                if not error.retryable:
                    # An API server that has just started refuses for a moment what it lets in a little later.
                    refused = refused or time.monotonic()
                    if time.monotonic() - refused > (REFUSED_PATIENCE if seen else _FIRST_REFUSAL):
                        raise
                if not away:
                    away = True
                    yield NoticeEvent(
                        level="warning",
                        message=f"{error.message} The run goes on, and this view too as soon as it is seen again.",
                    )
                pause = min(2 * pause, _LATER)
                due = time.monotonic() + pause
                continue
            seen = True
            if away:
                away = False
                yield NoticeEvent(level="info", message="Kubernetes answers again.")
            self._workers.watch(look.pods)
            yield from self._next_attempt(look)
            yield from self._standing(look)
            if self._log is None and self._all_read(look):
                self._conclude(look)
            if self.final is not None or self.ended is not None:
                return
            patient = self._log is not None or time.monotonic() - began > _PATIENT_AFTER
            pause = _LATER if patient and not look.is_over else _SOON
            due = time.monotonic() + pause

    def _printed(self) -> Iterator[Event]:
        """The lines that have come, waiting a moment for the first."""
        wait = _TICK
        while self.final is None:
            try:
                printed = self._lines.get(timeout=wait) if wait else self._lines.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            if printed.line is None:
                self._log = None
                if printed.problem:
                    yield NoticeEvent(level="warning", message=printed.problem)
                continue
            event = to_event(printed.line, worker=printed.worker)
            yield event
            self._ends(event)
            if self._stop():
                return

    def _ends(self, event: Event) -> bool:
        if isinstance(event, RunEvent) and event.state.is_terminal:
            self.final = event
        return self.final is not None

    def _next_attempt(self, look: Look) -> Iterator[Event]:
        """Read the log of the head that runs, or of the next one that was not read."""
        if self._log is not None:
            current = next((pod for pod in look.heads if pod["metadata"]["name"] == self._log.pod), None)
            if current is None or has_ended(current):
                self._log.pod_has_ended()
            return
        for head in look.heads:
            name = head["metadata"]["name"]
            if name not in self._read and has_log(head):
                yield from self._attempt(look, head)
                self._read.add(name)
                self._log = HeadLog(self._api, name, self._lines)
                if has_ended(head):
                    self._log.pod_has_ended()
                return

    def _attempt(self, look: Look, head: Mapping[str, Any]) -> Iterator[Event]:
        """Tell that a head is not the first; what the others told before it is of an earlier attempt."""
        if look.job is None:
            return
        number, most = attempt(look.job, head)
        if number > 1:
            which = f"Attempt {number} of {max(number, most)}"
            alive = not has_ended(head) and look.reason.run_state is RunState.RUNNING
            phase = f"{which}: {look.reason.message}" if alive else which
            self._told = phase
            yield RunEvent(state=RunState.PENDING, phase=phase)

    def _standing(self, look: Look) -> Iterator[Event]:
        """What the objects tell and the head cannot, when it has changed."""
        reason = look.reason
        if reason.message == self._told:
            return
        if reason.run_state is RunState.PENDING and self._log is None:
            self._told = reason.message
            yield RunEvent(state=RunState.PENDING, phase=reason.message, hint=reason.hint)
            if reason.blocked:
                yield NoticeEvent(level="warning", message=f"{reason.message} {reason.hint}".strip())
        elif reason.cause in _TOLD_WHILE_RUNNING:
            self._told = reason.message
            yield NoticeEvent(level="warning", message=f"{reason.message} {reason.hint}".strip())

    def _all_read(self, look: Look) -> bool:
        return all(pod["metadata"]["name"] in self._read or not has_log(pod) for pod in look.heads)

    def _conclude(self, look: Look) -> None:
        """Without a word of the head in its log: its last word to Kubernetes, or why there is none."""
        if not look.is_over:
            return
        self.final = last_word(look.heads)
        if self.final is None:
            self.ended = look.reason


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Passes over a log that is gone: its pod's node was lost, or the pod was deleted meanwhile."""
    try:
        yield
    except KubernetesError as error:
        if error.retryable or error.code == "kubernetes_login":
            raise
