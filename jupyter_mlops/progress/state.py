"""What is known of a run, folded from its events, and how quantities are written for a person.

A pure fold: no input or output, no drawing, and the clock is given. It may not know who reads it. Every
collection is bounded, because a notebook may print a million lines and log a million metrics.
"""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from ..events import CellEvent, Event, LogEvent, MetricEvent, NoticeEvent, ResourceEvent, RunEvent
from ..spec import RunState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SERIES_POINTS = 200
SERIES_COUNT = 50
LOG_LINES = 200
LOG_BYTES = 64 * 1024
_LINE_CHARACTERS = 2000
_NOTICES = 20
_CELLS = 10_000
_KEYS_COUNTED = 10_000
_LONGEST = 1e12  # seconds; beyond it stands a mistake, not a time
_STEP_LIMIT = 2**53  # beyond it a float no longer tells steps apart


@dataclass(frozen=True)
class Cell:
    """A code cell as last heard of.

    `index` counts all cells from 0, `number` the code cells from 1; `duration` is in seconds.
    """

    index: int
    number: int
    title: str
    digest: str
    state: Literal["running", "succeeded", "failed"]
    since: datetime
    duration: float | None = None


@dataclass
class Series:
    """The last points of one metric, as (step, value), oldest first."""

    key: str
    points: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SERIES_POINTS))

    @property
    def last(self) -> float:
        """The value logged last."""
        return self.points[-1][1]


@dataclass(frozen=True)
class LogLine:
    """One line that the run printed, without its end."""

    stream: Literal["stdout", "stderr", "worker"]
    text: str


class LogTail:
    """The last lines that a run printed, within `LOG_LINES` and `LOG_BYTES`."""

    def __init__(self) -> None:
        self._lines: deque[LogLine] = deque()
        self._bytes = 0
        self._open = False
        self.left_out = 0
        """Lines that were passed over or dropped."""

    def append(self, event: LogEvent) -> None:
        """Take text in; a line may come in pieces, and a carriage return starts it anew, as on a terminal."""
        *ended, rest = event.text.replace("\r\n", "\n").split("\n")
        pieces = [(text, True) for text in ended] + ([(rest, False)] if rest else [])
        # The first piece may go on with a line begun before; otherwise only the last ones can stay.
        for text, ends in pieces[:1] + pieces[1:][-LOG_LINES:]:
            self._append(event.stream, text, ends)
        self.left_out += max(0, len(pieces) - 1 - LOG_LINES)

    def lines(self, count: int = LOG_LINES) -> list[LogLine]:
        """The last lines, oldest first, at most `count`."""
        return list(self._lines)[-count:] if count > 0 else []

    def _append(self, stream: Literal["stdout", "stderr", "worker"], text: str, ends: bool) -> None:
        if self._open and self._lines[-1].stream == stream:
            before = self._lines.pop()
            self._bytes -= _size(before.text)
            text = before.text + text
        line = LogLine(stream, _cut(text.rstrip("\r").rpartition("\r")[2], _LINE_CHARACTERS))
        self._lines.append(line)
        self._bytes += _size(line.text)
        self._open = not ends
        while len(self._lines) > LOG_LINES or self._bytes > LOG_BYTES:
            self._bytes -= _size(self._lines.popleft().text)
            self.left_out += 1


def _now() -> datetime:
    return datetime.now(timezone.utc)


@dataclass
class ProgressState:
    """How a run stands, as far as its events tell; `apply` takes them in, in whatever order.

    Attributes:
        run_id: The run, for titles.
        expected: Seconds a cell took in earlier runs, by the digest of its source.
        clock: The time now, with a zone.
        state: How the run stands.
        phase: What it does in words, while pending or running.
        total_cells: Code cells to execute, or None while unknown.
        cells: Those heard of, by index.
        current: The cell that runs now, or None.
        resource: What the run used when last looked at, or None.
        peak_memory: Bytes, the most seen.
        metrics: By key in order of appearance, at most `SERIES_COUNT`.
        log: The last lines printed.
        notices: The last notices.
        start_time: When the first event came, UTC.
        end_time: When the run ended, UTC, or None.
        final: The event that ended the run, or None.
    """

    run_id: str = ""
    expected: Mapping[str, float] = field(default_factory=dict)
    clock: Callable[[], datetime] = _now
    state: RunState = RunState.PENDING
    phase: str = ""
    total_cells: int | None = None
    cells: dict[int, Cell] = field(default_factory=dict)
    current: Cell | None = None
    resource: ResourceEvent | None = None
    peak_memory: int = 0
    metrics: dict[str, Series] = field(default_factory=dict)
    log: LogTail = field(default_factory=LogTail)
    notices: deque[NoticeEvent] = field(default_factory=lambda: deque(maxlen=_NOTICES))
    mlflow_run_id: str | None = None
    mlflow_url: str | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    final: RunEvent | None = None
    _done: set[int] = field(default_factory=set)
    _failed: Cell | None = None
    _keys_left_out: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.expected = {
            digest: seconds for digest, seconds in self.expected.items() if math.isfinite(seconds) and seconds >= 0
        }

    def apply(self, event: Event) -> None:
        """Take one event in."""
        if self.start_time is None:
            self.start_time = _utc(event.time)
        if isinstance(event, RunEvent):
            self._run(event)
        elif isinstance(event, CellEvent):
            self._cell(event)
        elif isinstance(event, MetricEvent):
            self._metric(event)
        elif isinstance(event, LogEvent):
            self.log.append(event)
        elif isinstance(event, ResourceEvent):
            self.resource = event
            self.peak_memory = max(self.peak_memory, event.memory)
        elif not any(notice.message == event.message for notice in self.notices):
            self.notices.append(event)

    @property
    def done(self) -> int:
        """Code cells that have ended well."""
        return len(self._done)

    @property
    def fraction(self) -> float | None:
        """How much of the cells is done, 0 to 1, or None while their number is unknown."""
        if self.state is RunState.SUCCEEDED:
            return 1.0
        if self.total_cells is None or self.total_cells <= 0:
            return None
        return min(1.0, self.done / self.total_cells)

    @property
    def failed_cell(self) -> Cell | None:
        """The cell at fault, as far as it was heard of, or None."""
        if self.final is not None and self.final.cell_index is not None:
            return self.cells.get(self.final.cell_index)
        return self._failed

    @property
    def failed_line(self) -> str | None:
        """The source line at fault, or None."""
        return self.final.line if self.final is not None else None

    @property
    def metrics_left_out(self) -> int:
        """Metrics that were logged beyond the first `SERIES_COUNT` keys."""
        return len(self._keys_left_out)

    @property
    def elapsed(self) -> float:
        """Seconds from the first event to the end, or to now."""
        return self._seconds_since(self.start_time)

    @property
    def cell_elapsed(self) -> float:
        """Seconds that the current cell has run."""
        return self._seconds_since(self.current.since if self.current is not None else None)

    @property
    def remaining(self) -> float | None:
        """Seconds that the rest will take, by earlier runs; None: they tell nothing, or the run has ended."""
        if not self.expected or self.final is not None:
            return None
        mean = sum(self.expected.values()) / len(self.expected)
        seen = {cell.digest for cell in self.cells.values()}
        unseen = [seconds for digest, seconds in self.expected.items() if digest not in seen]
        begun = len(self._done | {cell.index for cell in self.cells.values()})
        count = len(unseen) if self.total_cells is None else max(0, self.total_cells - begun)
        if len(unseen) <= count:
            rest = sum(unseen) + (count - len(unseen)) * mean
        else:  # cells were taken out since: which of the unseen are still to come is not known
            rest = count * sum(unseen) / len(unseen)
        if self.current is not None:
            rest += max(0.0, self.expected.get(self.current.digest, mean) - self.cell_elapsed)
        return rest

    @property
    def expected_total(self) -> float | None:
        """Seconds that the whole run will have taken, or None when nothing is known."""
        rest = self.remaining
        return None if rest is None else self.elapsed + rest

    def _run(self, event: RunEvent) -> None:
        if event.total_cells is not None:
            self.total_cells = event.total_cells
        self.mlflow_run_id = event.mlflow_run_id or self.mlflow_run_id
        self.mlflow_url = event.mlflow_url or self.mlflow_url
        if self.final is not None:  # an end stands: what is written after it was late or a second opinion
            return
        self.state = event.state
        self.phase = event.phase
        if event.state.is_terminal:
            self.final = event
            self.end_time = _utc(event.time)
            self.current = None

    def _cell(self, event: CellEvent) -> None:
        before = self.cells.get(event.index)
        if before is None and len(self.cells) >= _CELLS:
            return
        running = event.state == "running"
        cell = Cell(
            index=event.index,
            number=event.number,
            title=event.title or (before.title if before else ""),
            digest=event.digest or (before.digest if before else ""),
            state=event.state,
            since=_utc(event.time) if running or before is None else before.since,
            duration=event.duration,
        )
        self.cells[event.index] = cell
        if running:
            self.current = cell if self.final is None else None
            self._done.discard(event.index)
            return
        if self.current is not None and self.current.index == event.index:
            self.current = None
        if event.state == "succeeded":
            self._done.add(event.index)
        else:
            self._failed = cell

    def _metric(self, event: MetricEvent) -> None:
        series = self.metrics.get(event.key)
        if series is None:
            if len(self.metrics) >= SERIES_COUNT:
                if len(self._keys_left_out) < _KEYS_COUNTED:
                    self._keys_left_out.add(hash(event.key))
                return
            series = self.metrics[event.key] = Series(event.key)
        series.points.append((max(-_STEP_LIMIT, min(_STEP_LIMIT, event.step)), event.value))

    def _seconds_since(self, start: datetime | None) -> float:
        if start is None:
            return 0.0
        return max(0.0, ((self.end_time or _utc(self.clock())) - start).total_seconds())


def expected_durations(events: Iterable[Event]) -> dict[str, float]:
    """Seconds per cell by the digest of its source, from the events of an earlier run.

    Cells of the same source count as one, with their mean; cells that failed tell nothing.
    """
    found: dict[str, list[float]] = {}
    for event in events:
        if isinstance(event, CellEvent) and event.state == "succeeded" and event.digest and event.duration is not None:
            found.setdefault(event.digest, []).append(event.duration)
    return {digest: sum(durations) / len(durations) for digest, durations in found.items()}


# Bidirectional controls (Unicode TR 36), line separators, invisible tags and lone surrogates.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_DELETE = 0x7F
_FIRST_PRINTABLE = 0x20
_WIDEST_BMP = 0xFFFF


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""Text in which everything that a terminal or a browser would obey instead of show is made visible.

    Escape becomes ␛, right-to-left override becomes ``\\u202e``. Harmless for text that is printable already.

    Args:
        text: Anything, from anyone.
        keep_lines: Leave line ends and tabs as they are; otherwise the result is one line.
    """
    text = text.replace("\r\n", "\n") if keep_lines else text.replace("\t", " ")

    def shown(found: re.Match[str]) -> str:
        code = ord(found[0])
        if keep_lines and found[0] in "\n\t":
            return found[0]
        if code < _FIRST_PRINTABLE:
            return chr(0x2400 + code)
        if code == _DELETE:
            return "\u2421"
        return f"\\u{code:04x}" if code <= _WIDEST_BMP else f"\\U{code:08x}"

    return _UNSEEN.sub(shown, text)


def format_duration(seconds: float) -> str:
    """Seconds for a person: ``35 ms``, ``4.1 s``, ``42 s``, ``1 min 05 s``, ``2 h 03 min``, ``1 d 04 h``."""
    if not 0 <= seconds < _LONGEST:
        return "?"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part:02d} {below}"
    return f"{whole} s"


def format_bytes(count: float) -> str:
    """Bytes for a person, in binary units: ``512 B``, ``1.2 GiB``, ``200 MiB``."""
    if math.isnan(count) or count < 0:
        return "?"
    value = float(min(count, 2**100))
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1023.5 or unit == "PiB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.95 else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the loop ends with its last unit")


def format_metric(value: float) -> str:
    """A metric's value in about four digits: ``0.9731``, ``12345.7``, ``1.23e-05``, ``nan``, ``inf``."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size and not 1e-3 <= size < 1e6:
        return f"{value:.3g}"
    return f"{value:.4g}" if size < 1000 else f"{value:.1f}".removesuffix(".0")


def format_percent(value: float) -> str:
    """A percentage without decimals: ``87 %``; ``?`` for what is no number."""
    return f"{value:.0f} %" if math.isfinite(value) and abs(value) < 1e9 else "?"


def _utc(time: datetime) -> datetime:
    # An event without a zone can only come from elsewhere; ours are all in UTC.
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
