"""The view of a run in a terminal, in a log of continuous integration, or as JSON lines.

Draws through rich, and hands it text objects only: markup, escape sequences and direction marks that come
from the run are shown, never obeyed. May not know where the events come from.
"""

from __future__ import annotations

import json
import math
import threading
from typing import TYPE_CHECKING, Any

from ..events import CellEvent, Event, LogEvent, MetricEvent, NoticeEvent, ResourceEvent, RunEvent
from ..spec import RunState
from . import words
from .state import ProgressState, Series, format_bytes, format_duration, format_metric, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from rich.console import Console, RenderableType
    from rich.text import Text

_STYLES = {
    RunState.PENDING: "yellow", RunState.RUNNING: "blue", RunState.SUCCEEDED: "green", RunState.FAILED: "red",
    RunState.CANCELLED: "magenta",
}  # fmt: skip
_LONGEST_BAR = 60
_METRICS, _LOG_LINES, _NOTICES = 8, 8, 3
_METRICS_EVERY = 10.0
_LONG_CELL = 1.0


def show_progress(
    events: Iterable[Event],
    *,
    console: Console,
    run_id: str,
    expected: Mapping[str, float] | None = None,
    interactive: bool | None = None,
    json_lines: bool = False,
) -> RunEvent | None:
    """Show a run until its events end.

    Args:
        events: From the run's first on; blocks while waiting for more.
        console: Where to.
        run_id: The run, for titles.
        expected: Seconds per cell in earlier runs, by digest (`expected_durations`).
        interactive: A display that renews itself, or a line a change; None: whichever the console can show.
        json_lines: One JSON object a line, as in the run's `events.jsonl`, and nothing else.

    Returns:
        The event that ended the run, or None if the events ended before it.
    """
    state = ProgressState(run_id=run_id, expected=expected or {})
    if json_lines:
        for event in events:
            state.apply(event)
            console.out(_json(event), highlight=False)
    elif interactive if interactive is not None else console.is_terminal and not console.is_dumb_terminal:
        _show_live(events, state, console)
    else:
        lines = PlainLines(state)
        for event in events:
            for line in lines.lines(event):
                console.print(_plain(line), soft_wrap=True, highlight=False)
    return state.final


def sparkline(series: Series, width: int = 24) -> str:
    """The last values of a metric as a row of bars; what is no number is a dot."""
    values = [value for _, value in series.points][-width:]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "·" * len(values)
    low, span = min(finite), max(finite) / 2 - min(finite) / 2
    bars = "▁▂▃▄▅▆▇█"
    return "".join(
        "·" if not math.isfinite(value) else bars[3] if span == 0 else bars[int((value / 2 - low / 2) / span * 7)]
        for value in values
    )


class PlainLines:
    """A line a change, for logs: what a run tells, with the time at which it told it.

    Args:
        state: Fed by this object; nobody else may feed it.
    """

    def __init__(self, state: ProgressState) -> None:
        self._state = state
        self._stood: tuple[RunState, str] | None = None
        self._cell_told: int | None = None
        self._workers: int | None = None
        self._metrics_time: datetime | None = None
        self._metrics_new = False

    def lines(self, event: Event) -> list[str]:
        """Take one event in, and tell what it changed."""
        state = self._state
        ended_before = state.final is not None
        state.apply(event)
        said: list[str] = []
        if isinstance(event, LogEvent):
            said += self._running_cell(event, at_once=True)
            said += [f"| {printable(line)}" for line in event.text.replace("\r\n", "\n").splitlines()]
        elif isinstance(event, MetricEvent):
            self._metrics_new = True
            said += self._running_cell(event) + self._metrics(event)
        elif isinstance(event, ResourceEvent):
            said += self._running_cell(event) + self._resources(event)
        elif isinstance(event, NoticeEvent):
            said.append(f"{'warning: ' if event.level == 'warning' else ''}{printable(event.message)}")
        elif isinstance(event, CellEvent):
            said += self._cell(event)
        elif not ended_before:
            said += self._run(event)
        return [f"{_clock_time(event.time)} {line}" for line in said]

    def _cell(self, event: CellEvent) -> list[str]:
        if event.state == "running":
            self._cell_told = None  # told with its end, or as soon as it turns out to be a long one
            return []
        said = self._metrics(event, at_once=True)
        took = "" if event.duration is None else f" … {format_duration(event.duration)}"
        failed = " failed" if event.state == "failed" else ""
        return [*said, f"{self._place(event.index)}{took}{failed}"]

    def _running_cell(self, event: Event, *, at_once: bool = False) -> list[str]:
        cell = self._state.current
        if cell is None or self._cell_told == cell.index:
            return []
        if not at_once and abs(_seconds_between(cell.since, event.time)) < _LONG_CELL:
            return []
        self._cell_told = cell.index
        return [self._place(cell.index)]

    def _place(self, index: int) -> str:
        cell = self._state.cells.get(index)
        if cell is None:
            return "cell"
        total = f"/{self._state.total_cells}" if self._state.total_cells else ""
        return f"cell {cell.number}{total} {words.title(cell)}".rstrip()

    def _metrics(self, event: Event, *, at_once: bool = False) -> list[str]:
        if not self._metrics_new:
            return []
        if self._metrics_time is None:
            self._metrics_time = event.time
        if not at_once and abs(_seconds_between(self._metrics_time, event.time)) < _METRICS_EVERY:
            return []
        self._metrics_time, self._metrics_new = event.time, False
        values = [f"{printable(key)}={format_metric(series.last)}" for key, series in self._state.metrics.items()]
        return [f"metrics {' '.join(values)}"]

    def _resources(self, event: ResourceEvent) -> list[str]:
        workers = event.dask.workers if event.dask is not None else None
        if event.dask is None or workers == self._workers:
            self._workers = workers
            return []
        self._workers = workers
        dashboard = f", dashboard {printable(event.dask.dashboard)}" if event.dask.dashboard else ""
        return [f"Dask has {workers} worker{'' if workers == 1 else 's'}{dashboard}"]

    def _run(self, event: RunEvent) -> list[str]:
        state = self._state
        if state.final is None:
            stood, self._stood = self._stood, (event.state, event.phase)
            if stood == self._stood:
                return []
            return [printable(event.phase) or words.STATE_WORDS[event.state].lower()]
        said = self._metrics(event, at_once=True)
        peak = f", peak memory {format_bytes(state.peak_memory)}" if state.peak_memory else ""
        word = words.STATE_WORDS[state.state].lower()
        said.append(f"{word} {words.times(state)}, {words.cells_done(state)}{peak}")
        said += [line for _, text in words.failure(state) for line in text.splitlines()]
        if state.mlflow_url:
            said.append(f"MLflow: {printable(state.mlflow_url)}")
        return said


def live_view(state: ProgressState, *, height: int) -> RenderableType:
    """The display of a terminal.

    Args:
        state: What is known of the run.
        height: Lines that the terminal has.
    """
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    style = _STYLES[state.state]
    head = _plain(words.STATE_WORDS[state.state], f"bold {style}")
    head.append(f"  {printable(state.run_id)}", "dim").append(f"  {words.times(state)}")
    bar = Table.grid(padding=(0, 2))
    fraction = state.fraction
    bar.add_row(
        ProgressBar(
            total=100,
            completed=100 * (fraction or 0.0),
            width=_LONGEST_BAR,
            pulse=fraction is None and state.final is None,
            complete_style=style,
            finished_style=style,
        ),
        _plain(words.cells_done(state)),
    )
    parts: list[RenderableType] = [head, bar]
    if words.doing(state):
        since = f"  {format_duration(state.cell_elapsed)}" if state.current is not None else ""
        parts.append(_line(words.doing(state)).append(since, "dim"))
    facts = words.resources(state)
    if facts:
        parts.append(_plain("  ·  ".join(f"{label} {value}" for label, value in facts), "dim"))
    parts += [_metrics_table(state)] if state.metrics else []
    for notice in list(state.notices)[-_NOTICES:]:
        parts.append(_plain(printable(notice.message), "yellow" if notice.level == "warning" else "dim"))
    if state.final is None:
        count = max(0, min(_LOG_LINES, height - len(parts) - len(state.metrics) - 4))
        parts += [_line(f"│ {printable(line.text)}", "dim") for line in state.log.lines(count)]
    styles = {"cell": "bold", "line": style, "message": "", "hint": "dim"}
    parts += [_plain(text, styles[kind]) for kind, text in words.failure(state)]
    if state.mlflow_url:
        parts.append(_plain(f"MLflow: {printable(state.mlflow_url)}", "dim"))
    return Group(*parts)


def _show_live(events: Iterable[Event], state: ProgressState, console: Console) -> None:
    from rich.live import Live

    lock = threading.Lock()

    def view() -> RenderableType:
        with lock:
            return live_view(state, height=console.size.height)

    with Live(get_renderable=view, console=console, refresh_per_second=4, vertical_overflow="ellipsis"):
        for event in events:
            with lock:
                state.apply(event)


def _metrics_table(state: ProgressState) -> RenderableType:
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(max_width=40, no_wrap=True, overflow="ellipsis")
    series = list(state.metrics.values())
    for one in series[:_METRICS]:
        table.add_row(
            _plain(printable(one.key)),
            _plain(format_metric(one.last), "bold"),
            _plain(sparkline(one), "blue"),
        )
    more = len(series) - _METRICS + state.metrics_left_out
    if more > 0:
        table.add_row(_plain(f"{more} more", "dim"))
    return table


def _plain(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style)


def _line(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style=style, no_wrap=True, overflow="ellipsis")


def _json(event: Event) -> str:
    # The standard library's JSON, as in the file: it keeps nan and inf, and in ASCII nothing is obeyed.
    data: dict[str, Any] = event.model_dump()
    data["time"] = event.time.isoformat()
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"))


def _clock_time(time: datetime) -> str:
    try:
        return f"{time.astimezone():%H:%M:%S}"
    except (OverflowError, ValueError, OSError):  # a year that the system's calendar does not know
        return f"{time:%H:%M:%S}"


def _seconds_between(start: datetime, end: datetime) -> float:
    # Only one of ours has a zone when an event came without: then the wall clocks are compared.
    if (start.tzinfo is None) != (end.tzinfo is None):
        start, end = start.replace(tzinfo=None), end.replace(tzinfo=None)
    return (end - start).total_seconds()
