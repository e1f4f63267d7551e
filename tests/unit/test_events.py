import math
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.events import (
    EVENTS_FILE,
    MIRROR_VARIABLE,
    CellEvent,
    Event,
    EventWriter,
    LogEvent,
    MetricEvent,
    NoticeEvent,
    RunEvent,
    parse_event,
    read_events,
)
from jupyter_mlops.spec import FailureCode, RunState


def write(run_dir: Path, *events: Event) -> None:
    writer = EventWriter(run_dir)
    for event in events:
        writer.write(event)
    writer.close()


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    events = [
        RunEvent(state=RunState.RUNNING, phase="x", total_cells=3),
        CellEvent(index=1, number=1, state="running", title="a\nb", digest="d"),
        LogEvent(text="\x00\x1b[31m é \u2028 </script>"),
        NoticeEvent(message="n"),
        RunEvent(state=RunState.FAILED, code=FailureCode.CELL_FAILED, message="m"),
    ]
    write(tmp_path, *events)
    assert list(read_events(tmp_path)) == events


@given(st.floats())
def test_metrics_keep_nan_and_inf(value: float) -> None:
    event = MetricEvent(key="k", value=value)
    import json

    data = event.model_dump()
    data["time"] = event.time.isoformat()
    found = parse_event(json.dumps(data))
    assert isinstance(found, MetricEvent)
    assert found.value == value or (math.isnan(found.value) and math.isnan(value))


def test_a_line_torn_by_a_kill_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    write(tmp_path, NoticeEvent(message="first"))
    with (tmp_path / "events.jsonl").open("ab") as file:
        file.write(b'{"type":"notice","mess')
    write(tmp_path, NoticeEvent(message="second"))
    assert [event.message for event in read_events(tmp_path) if isinstance(event, NoticeEvent)] == ["first", "second"]


def test_following_ends_with_the_run(tmp_path: Path) -> None:
    def later() -> None:
        for state in (RunState.PENDING, RunState.RUNNING, RunState.SUCCEEDED):
            time.sleep(0.05)
            write(tmp_path, RunEvent(state=state))

    thread = threading.Thread(target=later)
    thread.start()
    states = [event.state for event in read_events(tmp_path, follow=True) if isinstance(event, RunEvent)]
    thread.join()
    assert states == [RunState.PENDING, RunState.RUNNING, RunState.SUCCEEDED]


def test_following_a_run_that_never_speaks_ends_when_told(tmp_path: Path) -> None:
    assert list(read_events(tmp_path, follow=True, stop=lambda: True)) == []


def test_an_event_of_an_unknown_type_is_no_event() -> None:
    with pytest.raises(ValueError, match="tag"):
        parse_event('{"type":"future"}')


def test_the_file_of_events_is_private(tmp_path: Path) -> None:
    write(tmp_path, NoticeEvent(message="x"))
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o077 == 0


def test_every_event_goes_to_the_open_file_of_the_variable_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    monkeypatch.setenv(MIRROR_VARIABLE, str(write))
    writer = EventWriter(tmp_path)
    events = [RunEvent(state=RunState.RUNNING), MetricEvent(key="loss", value=float("nan"))]
    for event in events:
        writer.write(event)
    writer.close()
    assert os.read(read, 65536) == (tmp_path / EVENTS_FILE).read_bytes()
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("number", ["", "no number", "987654"])
def test_a_mirror_that_is_none_harms_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str) -> None:
    monkeypatch.setenv(MIRROR_VARIABLE, number)
    writer = EventWriter(tmp_path)
    writer.write(RunEvent(state=RunState.RUNNING))
    writer.close()
    assert len(list(read_events(tmp_path))) == 1
