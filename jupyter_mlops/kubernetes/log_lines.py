"""What a pod printed, as events: parses lines with Kubernetes' time stamps, and skips those that were seen before.

The head's standard output is the run's events, a JSON object a line; whatever else is in a log was printed by somebody.
Pure: it is handed lines and hands back events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from ..events import Event, LogEvent, parse_event

LONGEST_LINE = 8000
"""Characters of a printed line that are shown; what notebooks print is an event and has bounds of its own."""


@dataclass(frozen=True)
class Line:
    """A line of a log.

    Attributes:
        time: As Kubernetes wrote it; lines of one moment share it.
        text: Without its end.
    """

    time: str
    text: str


def parse_line(raw: str) -> Line:
    """A line that was asked for with its time stamp; without one the time is empty."""
    time, space, text = raw.rstrip("\r\n").partition(" ")
    if space and "T" in time and time[:4].isdecimal():
        return Line(time, text)
    return Line("", raw.rstrip("\r\n"))


class Position:
    """How far a log was read, so that it can be read again from its start and go on where it was.

    Kubernetes cannot be asked for "the rest": its `sinceTime` has whole seconds. A log that was rotated meanwhile does
    not begin with the line that it began with; then the times tell what is new.
    """

    def __init__(self) -> None:
        self._first: str | None = None  # time of the first line of the log, to tell whether it was rotated
        self._count = 0  # lines of this log that were seen
        self._last, self._same = "", 0  # time of the last line, and how many lines had it
        self._begun = False
        self._skip = 0
        self._by_time = False
        self._left = 0

    def restart(self) -> None:
        """The log is going to be read from its start again."""
        self._begun = False
        self._skip = self._count
        self._left = self._same

    def is_new(self, line: Line) -> bool:
        """Whether this line was not seen before; to be asked once for each line, in order."""
        if not self._begun:
            self._begun = True
            if line.time != self._first:
                self._by_time = self._first is not None
                self._first, self._count, self._skip = line.time, 0, 0
        if self._skip:
            self._skip -= 1
            return False
        self._count += 1
        if self._by_time:
            if line.time < self._last:
                return False
            if line.time == self._last and self._left:
                self._left -= 1
                return False
            self._by_time = False
        self._same = self._same + 1 if line.time == self._last else 1
        self._last = line.time
        return True


def to_event(line: Line, *, worker: int | None = None) -> Event:
    """A line as an event: itself if it is one, else what the worker process printed.

    Args:
        line: The line.
        worker: The index of the worker pod that it comes from; None: the head's.
    """
    if worker is None and line.text.startswith("{"):
        try:
            return parse_event(line.text)
        except ValueError:
            pass
    text = line.text if len(line.text) <= LONGEST_LINE else f"{line.text[:LONGEST_LINE]}…"
    shown = text if worker is None else f"[worker {worker}] {text}"
    return LogEvent(stream="worker", text=f"{shown}\n", time=moment(line.time))


def moment(time: str) -> datetime:
    """Kubernetes' time as Python's; now, if it cannot be read."""
    try:
        # Nanoseconds are more than `fromisoformat` takes before Python 3.11.
        return datetime.fromisoformat(f"{time[:19]}{(time[19:26] if time[19:20] == '.' else '').rstrip('Z')}+00:00")
    except ValueError:
        return datetime.now(timezone.utc)
