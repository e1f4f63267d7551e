"""Lines of a pod's log become events, each once, however often the log is read again."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.events import LogEvent, RunEvent, event_line
from jupyter_mlops.kubernetes.log_lines import LONGEST_LINE, Line, Position, parse_line, to_event
from jupyter_mlops.spec import RunState

WHEN = "2026-11-24T10:00:00.123456789Z"


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (f"{WHEN} hello world", Line(WHEN, "hello world")),
        (f"{WHEN} ", Line(WHEN, "")),
        (f"{WHEN} two  spaces \r\n", Line(WHEN, "two  spaces ")),
        ("no time stamp", Line("", "no time stamp")),
        ("", Line("", "")),
    ],
)
def test_a_line_is_parted_from_its_time(raw: str, line: Line) -> None:
    assert parse_line(raw) == line


def test_an_event_is_itself() -> None:
    event = RunEvent(state=RunState.RUNNING, phase="x")
    assert to_event(Line(WHEN, event_line(event).decode().rstrip())) == event


@pytest.mark.parametrize("text", ["plain", '{"type": "unknown"}', "{broken", '["type"]', '{"type":"run"}'])
def test_whatever_is_no_event_was_printed_by_somebody(text: str) -> None:
    assert to_event(Line(WHEN, text)) == LogEvent(
        stream="worker", text=f"{text}\n", time=datetime(2026, 11, 24, 10, 0, 0, 123456, timezone.utc)
    )


def test_a_worker_pods_line_names_it_and_is_never_an_event() -> None:
    final = event_line(RunEvent(state=RunState.SUCCEEDED)).decode().rstrip()
    shown = to_event(Line(WHEN, final), worker=2)
    assert isinstance(shown, LogEvent)
    assert shown.text == f"[worker 2] {final}\n"


def test_an_endless_line_is_cut() -> None:
    shown = to_event(Line(WHEN, "x" * 10**6))
    assert isinstance(shown, LogEvent)
    assert len(shown.text) == LONGEST_LINE + 2


@pytest.mark.parametrize("time", ["", "yesterday", "2026-11-24T10:00:00Z", "2026-11-24T10:00:00.1Z"])
def test_every_time_is_a_moment(time: str) -> None:
    assert to_event(Line(time, "x")).time.tzinfo is not None


def _read(position: Position, log: list[Line], until: int | None = None) -> list[Line]:
    position.restart()
    return [line for line in log[:until] if position.is_new(line)]


# Time stamps that often repeat and sometimes go back, as the two streams of a container are stamped apart.
_times = st.lists(st.integers(0, 3), max_size=30).map(
    lambda steps: [max(0, sum(steps[:n]) - (n % 5 == 4)) for n in range(1, len(steps) + 1)]
)


@given(times=_times, breaks=st.lists(st.integers(0, 30), max_size=5))
def test_a_log_that_is_read_again_gives_each_line_once(times: list[int], breaks: list[int]) -> None:
    log = [Line(f"2026-11-24T10:00:00.{time:09d}Z", str(number)) for number, time in enumerate(times)]
    position, seen = Position(), []
    for until in breaks:
        seen += _read(position, log, until)
    seen += _read(position, log)
    assert seen == log


@given(count=st.integers(1, 20), before=st.integers(0, 20), rotated=st.integers(1, 20), again=st.integers(0, 20))
def test_a_log_that_was_rotated_meanwhile_loses_and_doubles_nothing_that_is_left(
    count: int, before: int, rotated: int, again: int
) -> None:
    log = [Line(f"2026-11-24T10:00:00.{number:09d}Z", str(number)) for number in range(count)]
    position = Position()
    seen = _read(position, log, before)
    left = log[rotated:]
    seen += _read(position, left, again)
    seen += _read(position, left)
    expected = log[:before] + [line for line in left if line not in log[:before]]
    assert seen == expected
