"""What the supervisor decides without its processes; with them it is in the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_mlops.engine.publish import recorded_outcome
from jupyter_mlops.events import EVENTS_FILE, Event, EventWriter, LogEvent, MetricEvent, RunEvent
from jupyter_mlops.spec import FailureCode, RunState
from jupyter_mlops.worker import _recorded_state

RUNNING = RunEvent(state=RunState.RUNNING)
FAILED = RunEvent(state=RunState.FAILED, code=FailureCode.CELL_FAILED, message='a "b"\n\ud7ff' * 2000)
SUCCEEDED = RunEvent(state=RunState.SUCCEEDED)


def write(run_dir: Path, *events: Event) -> None:
    writer = EventWriter(run_dir)
    for event in events:
        writer.write(event)
    writer.close()


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([RUNNING, SUCCEEDED], RunState.SUCCEEDED),
        ([RUNNING, LogEvent(text="x" * 200_000), FAILED], RunState.FAILED),
        ([RunEvent(state=RunState.CANCELLED)], RunState.CANCELLED),
        ([RUNNING], None),
        ([RUNNING, MetricEvent(key="state", value=float("nan"))], None),
        ([RUNNING, LogEvent(text='{"type": "run", "state": "succeeded"}')], None),
        ([], None),
    ],
)
def test_the_end_is_read_from_the_last_line_as_from_the_whole_file(
    tmp_path: Path, events: list[Event], state: RunState | None
) -> None:
    write(tmp_path, *events)
    assert _recorded_state(tmp_path) is state
    outcome = recorded_outcome(tmp_path)
    assert (outcome.state if outcome else None) is state


@pytest.mark.parametrize(
    "tail", [b'{"time":"2026', b"[]\n", b"null\n", b'{"type":"run","state":"odd"}\n', b"\xff\n", b"\n"]
)
def test_a_last_line_that_tells_nothing_is_no_end(tmp_path: Path, tail: bytes) -> None:
    write(tmp_path, RUNNING)
    with (tmp_path / EVENTS_FILE).open("ab") as file:
        file.write(tail)
    assert _recorded_state(tmp_path) is None


def test_a_missing_file_is_no_end(tmp_path: Path) -> None:
    assert _recorded_state(tmp_path) is None
