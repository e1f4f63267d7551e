from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from rich.console import Console

from jupyter_mlops.events import (
    CellEvent,
    Event,
    LogEvent,
    MetricEvent,
    NoticeEvent,
    ResourceEvent,
    RunEvent,
    parse_event,
)
from jupyter_mlops.progress.state import ProgressState, Series
from jupyter_mlops.progress.terminal import live_view, show_progress, sparkline
from jupyter_mlops.spec import RunState

from .histories import HOSTILE, at, cell, expectations, failed_run, half_a_run, histories, succeeded_run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def plain(events: list[Event]) -> list[str]:
    out = io.StringIO()
    show_progress(events, console=Console(file=out, width=80), run_id="r1", interactive=False)
    return out.getvalue().splitlines()


def live(events: list[Event], *, height: int = 40) -> str:
    """What the last frame says, without the escape sequences of rich itself."""
    state = ProgressState("r1", clock=lambda: at(10))
    for event in events:
        state.apply(event)
    out = io.StringIO()
    Console(file=out, width=100, height=height, force_terminal=False, color_system=None).print(
        live_view(state, height=height)
    )
    return out.getvalue()


def test_a_log_gets_a_line_for_each_change() -> None:
    assert plain(succeeded_run()) == [
        "12:00:00 starting the kernel",
        "12:00:02 running",
        "12:00:04 cell 1/3 load the data … 2.0 s",
        "12:00:05 cell 2/3 train the model",
        "12:00:05 | epoch 1",
        "12:00:07 Dask has 4 workers",
        "12:00:09 metrics loss=0.25",
        "12:00:09 cell 2/3 train the model … 5.0 s",
        "12:00:10 cell 3/3 step 3 … 1.0 s",
        "12:00:10 succeeded after 10 s, 3 of 3 cells, peak memory 1.0 GiB",
        "12:00:10 MLflow: https://mlflow/#/runs/1",
    ]


def test_a_failure_is_told_with_its_place_and_remedy() -> None:
    lines = plain(failed_run())
    assert "12:00:09 cell 2/3 train the model … 5.0 s failed" in lines
    assert lines[-5:] == [
        "12:00:10 failed after 10 s, 1 of 3 cells, peak memory 1.0 GiB",
        "12:00:10 Cell 2 of 3: train the model",
        "12:00:10 model.fit(data)",
        "12:00:10 ValueError: the loss is nan",
        "12:00:10 Lower the learning rate.",
    ]


def test_a_long_cell_is_told_before_its_end_and_a_short_one_only_with_it() -> None:
    use = ResourceEvent(time=at(2), cpu_percent=1, memory=1)
    long = [cell(1, "running", 0), use, use, cell(1, "succeeded", 3, 3.0)]
    assert [line[9:] for line in plain(long)] == ["cell 1 step 1", "cell 1 step 1 … 3.0 s"]
    assert [line[9:] for line in plain([long[0], long[-1]])] == ["cell 1 step 1 … 3.0 s"]


def test_a_flood_of_metrics_is_a_line_now_and_then() -> None:
    flood: list[Event] = [MetricEvent(time=at(i / 10), key="m", value=i) for i in range(250)]
    assert len(plain(flood)) == 2


def test_long_lines_of_a_log_are_not_wrapped() -> None:
    assert len(plain([LogEvent(text="x" * 500)])) == 1


def test_json_lines_are_the_events_themselves() -> None:
    out = io.StringIO()
    events = [*succeeded_run()[:-1], MetricEvent(key="[red]m\x1b", value=float("inf")), succeeded_run()[-1]]
    final = show_progress(events, console=Console(file=out, width=20), run_id="r1", json_lines=True)
    lines = out.getvalue().splitlines()
    assert [parse_event(line) for line in lines] == events
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert final == events[-1]


def test_the_live_view_shows_what_runs_and_what_it_uses() -> None:
    shown = live(half_a_run())
    for text in ("Running", "1 of 3 cells", "Cell 2 of 3: train the model", "6.0 s", "1.0 GiB of 8.0 GiB",
                 "4 workers", "GPU 0 87 %", "loss", "0.25", "│ epoch 1"):  # fmt: skip
        assert text in shown


def test_the_live_view_fits_a_small_terminal() -> None:
    log = [LogEvent(text="".join(f"line {i}\n" for i in range(100)))]
    shown = live([*half_a_run(), *log], height=12)
    assert len(shown.splitlines()) <= 12


def test_the_live_view_ends_with_why_it_failed() -> None:
    shown = live(failed_run())
    for text in ("Failed", "Cell 2 of 3", "model.fit(data)", "the loss is nan", "Lower the learning rate."):
        assert text in shown


def test_a_terminal_gets_the_live_view_and_the_end_is_returned() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=30, _environ={"TERM": "xterm-256color"})
    final = show_progress(succeeded_run(), console=console, run_id="r1")
    assert final is not None
    assert final.state is RunState.SUCCEEDED
    assert "Succeeded" in out.getvalue()
    assert out.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_events_that_end_before_the_run_return_nothing() -> None:
    assert show_progress(half_a_run(), console=Console(file=io.StringIO()), run_id="r1") is None


@pytest.mark.parametrize("interactive", [True, False])
def test_an_interrupt_leaves_the_view_and_restores_the_terminal(interactive: bool) -> None:
    def interrupted() -> Iterator[Event]:
        yield from half_a_run()
        raise KeyboardInterrupt

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=30, _environ={"TERM": "xterm"})
    with pytest.raises(KeyboardInterrupt):
        show_progress(interrupted(), console=console, run_id="r1", interactive=interactive)
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == int(interactive)
    console.print("still works")
    assert "still works" in out.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_and_not_obeyed(text: str) -> None:
    events: list[Event] = [
        RunEvent(time=at(0), state=RunState.RUNNING, phase=text, total_cells=2, mlflow_url=text),
        cell(1, "running", 1, title=text),
        MetricEvent(time=at(3), key=text, value=1),
        LogEvent(time=at(3), text=text + "\n"),
        NoticeEvent(time=at(3), message=text),
        RunEvent(time=at(4), state=RunState.FAILED, message=text, hint=text, line=text, cell_index=1),
    ]
    for shown in ("\n".join(plain(events)), live(events), live(events[:-1])):
        assert not set(shown) & set("\x1b\x07\x9b\r\x00\u202e\u2066")
        for piece in ("[red]", "<script>", "javascript:"):
            assert piece not in text or shown.count(piece) >= 3
        assert "\x1b" not in text or "␛" in shown


@given(histories, expectations)
def test_any_events_in_any_order_are_shown_without_an_escape(events: list[Event], expected: dict[str, float]) -> None:
    for interactive, json_lines in ((False, False), (False, True)):
        out = io.StringIO()
        show_progress(
            events,
            console=Console(file=out, width=60),
            run_id="r1",
            expected=expected,
            interactive=interactive,
            json_lines=json_lines,
        )
        assert not set(out.getvalue()) & set("\x1b\x9b\r\u202e")
    assert "\x1b" not in live(events)


def test_a_sparkline_follows_the_values_and_survives_all_of_them() -> None:
    def line(*values: float) -> str:
        series = Series("m")
        series.points.extend(enumerate(values))
        return sparkline(series)

    assert line(0, 1, 2, 7) == "▁▂▃█"
    assert line(5, 5) == "▄▄"
    assert line(1, float("nan"), 2) == "▁·█"
    assert line(float("inf")) == "·"
    assert line(-1.7e308, 1.7e308) == "▁█"


def test_a_cell_that_nobody_announced_is_told_all_the_same() -> None:
    assert plain([CellEvent(time=at(0), index=4, number=4, state="succeeded", duration=1.0)]) == [
        "12:00:00 cell 4 … 1.0 s"
    ]
