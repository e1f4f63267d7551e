from __future__ import annotations

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.events import CellEvent, Event, LogEvent, MetricEvent, NoticeEvent, ResourceEvent, RunEvent
from jupyter_mlops.progress.state import (
    LOG_BYTES,
    LOG_LINES,
    SERIES_COUNT,
    SERIES_POINTS,
    ProgressState,
    expected_durations,
    format_bytes,
    format_duration,
    format_metric,
    format_percent,
    printable,
)
from jupyter_mlops.progress.words import summary
from jupyter_mlops.spec import RunState

from .histories import GIB, HOSTILE, at, cell, expectations, failed_run, half_a_run, histories, succeeded_run


def folded(events: list[Event], *, now: float = 10, expected: dict[str, float] | None = None) -> ProgressState:
    state = ProgressState("r1", expected=expected or {}, clock=lambda: at(now))
    for event in events:
        state.apply(event)
    return state


def test_a_run_in_mid_flight_tells_what_it_does_and_for_how_long() -> None:
    state = folded(half_a_run())
    assert (state.state, state.done, state.total_cells) == (RunState.RUNNING, 1, 3)
    assert state.current is not None
    assert (state.current.number, state.current.title) == (2, "train the model")
    assert (state.elapsed, state.cell_elapsed) == (10, 6)
    assert state.fraction == pytest.approx(1 / 3)
    assert list(state.metrics["loss"].points) == [(1, 0.5), (2, 0.25)]
    assert [line.text for line in state.log.lines()] == ["epoch 1"]


def test_a_view_that_comes_late_sees_the_same_as_one_from_the_start() -> None:
    early = folded(succeeded_run()[:4])
    for event in succeeded_run()[4:]:
        early.apply(event)
    assert summary(early) == summary(folded(succeeded_run(), now=99_999))


def test_time_stops_at_the_end_of_the_run() -> None:
    state = folded(succeeded_run(), now=99_999)
    assert (state.elapsed, state.current, state.fraction) == (10, None, 1.0)
    assert state.final is not None
    assert state.final.state is RunState.SUCCEEDED
    assert state.mlflow_url == "https://mlflow/#/runs/1"


def test_the_cell_and_line_at_fault_are_known_after_a_failure() -> None:
    state = folded(failed_run())
    assert state.failed_cell is not None
    assert (state.failed_cell.number, state.failed_line) == (2, "model.fit(data)")


def test_a_failed_cell_is_known_before_the_run_has_ended() -> None:
    state = folded(failed_run()[:-1])
    assert state.final is None
    assert state.failed_cell is not None
    assert state.failed_cell.number == 2


def test_the_first_end_stands() -> None:
    state = folded([*succeeded_run(), RunEvent(time=at(20), state=RunState.FAILED, message="the worker died")])
    assert state.state is RunState.SUCCEEDED
    assert state.end_time == at(10)


def test_facts_once_learned_are_not_forgotten_by_events_that_do_not_repeat_them() -> None:
    first = RunEvent(state=RunState.RUNNING, total_cells=3, mlflow_run_id="m", mlflow_url="http://m")
    state = folded([first, RunEvent(state=RunState.RUNNING)])
    assert (state.total_cells, state.mlflow_run_id, state.mlflow_url) == (3, "m", "http://m")


@pytest.mark.parametrize(
    ("expected", "remaining"),
    [
        ({}, None),
        (
            {"digest1": 2.0, "digest2": 8.0, "digest3": 5.0},
            2 + 5,
        ),  # the current cell has run 6 of its 8 seconds
        ({"digest1": 2.0, "digest2": 3.0, "digest3": 5.0}, 0 + 5),  # it takes longer than last time
        ({"digest1": 2.0, "digest3": 16.0}, (9 - 6) + 16),  # an unknown cell takes the mean
        ({"digest1": 2.0, "digest2": 10.0}, 4 + 6),
        ({"digest2": 6.0, "a": 1.0, "b": 3.0}, 2),  # one cell to come, of which two there is no telling
        ({"digest2": math.nan, "digest3": -5.0}, None),
    ],
)
def test_the_rest_is_estimated_from_the_cells_of_earlier_runs(
    expected: dict[str, float], remaining: float | None
) -> None:
    state = folded(half_a_run(), expected=expected)
    assert state.remaining == (None if remaining is None else pytest.approx(remaining))
    assert state.expected_total == (None if remaining is None else pytest.approx(10 + remaining))


def test_durations_of_an_earlier_run_leave_out_what_tells_nothing() -> None:
    again = CellEvent(index=9, number=9, state="succeeded", digest="digest1", duration=4.0)
    assert expected_durations([*failed_run(), again]) == {"digest1": 3.0}


def test_peak_memory_outlives_a_smaller_use() -> None:
    uses = [ResourceEvent(cpu_percent=1, memory=memory) for memory in (GIB, 3 * GIB, GIB)]
    assert folded(uses).peak_memory == 3 * GIB


def test_metrics_are_bounded_and_tell_how_many_are_left_out() -> None:
    many: list[Event] = [MetricEvent(key=f"m{i}", value=1) for i in range(SERIES_COUNT + 3)]
    points: list[Event] = [MetricEvent(key="m0", value=i, step=i) for i in range(SERIES_POINTS * 2)]
    state = folded([*many, *many, *points])
    assert (len(state.metrics), state.metrics_left_out) == (SERIES_COUNT, 3)
    assert len(state.metrics["m0"].points) == SERIES_POINTS
    assert state.metrics["m0"].last == SERIES_POINTS * 2 - 1


def test_the_log_keeps_its_last_lines_within_its_bounds() -> None:
    state = folded([LogEvent(text="".join(f"line {i}\n" for i in range(1000)))])
    lines = state.log.lines()
    assert len(lines) == LOG_LINES
    assert lines[-1].text == "line 999"
    assert lines[0].text == f"line {1000 - LOG_LINES}"
    assert state.log.left_out == 1000 - LOG_LINES


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text("ab\n\r€", max_size=4000)), max_size=20))
def test_the_log_is_never_larger_than_its_bounds(pieces: list[tuple[str, str]]) -> None:
    state = folded([LogEvent(stream=stream, text=text * 20) for stream, text in pieces])
    lines = state.log.lines()
    assert len(lines) <= LOG_LINES
    assert sum(len(line.text.encode()) for line in lines) <= LOG_BYTES
    assert not any("\n" in line.text or "\r" in line.text for line in lines)


def test_a_line_that_comes_in_pieces_is_one_line_of_its_stream() -> None:
    state = folded(
        [
            LogEvent(text="a"),
            LogEvent(text="b\nc"),
            LogEvent(stream="stderr", text="warn\n"),
            LogEvent(text="d\n"),
        ]
    )
    assert [(line.stream, line.text) for line in state.log.lines()] == [
        ("stdout", "ab"),
        ("stdout", "c"),
        ("stderr", "warn"),
        ("stdout", "d"),
    ]


def test_a_progress_bar_that_rewrites_its_line_keeps_its_last_form() -> None:
    state = folded([LogEvent(text="10%\r50%"), LogEvent(text="\r100%\r\ndone\n")])
    assert [line.text for line in state.log.lines()] == ["100%", "done"]


def test_a_notice_that_repeats_itself_is_kept_once() -> None:
    state = folded([NoticeEvent(message="MLflow is slow"), NoticeEvent(message="MLflow is slow")])
    assert len(state.notices) == 1


def test_a_cell_that_runs_again_is_not_done_any_more() -> None:
    state = folded([cell(1, "running", 0), cell(1, "succeeded", 1, 1.0), cell(1, "running", 2)])
    assert (state.done, state.current is not None) == (0, True)


@given(histories, expectations)
def test_any_events_in_any_order_are_folded_and_summed_up(events: list[Event], expected: dict[str, float]) -> None:
    state = folded(events, expected=expected)
    assert state.elapsed >= 0
    assert state.remaining is None or state.remaining >= 0
    assert state.fraction is None or 0 <= state.fraction <= 1
    assert "\x1b" not in summary(state)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.035, "35 ms"),
        (0.0996, "0.1 s"),
        (4.1, "4.1 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.7, "1 min 00 s"),
        (65, "1 min 05 s"),
        (3599.9, "1 h 00 min"),
        (7380, "2 h 03 min"),
        (100_800, "1 d 04 h"),
        (-1, "?"),
        (math.nan, "?"),
        (math.inf, "?"),
        (1e300, "?"),
    ],
)
def test_durations_are_written_with_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (int(1.2 * GIB), "1.2 GiB"),
        (200 * 2**20, "200 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (-1, "?"),
        (math.nan, "?"),
    ],
)
def test_bytes_are_written_in_binary_units(count: float, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.97312, "0.9731"),
        (1.234e-5, "1.23e-05"),
        (12345.678, "12345.7"),
        (12345.0, "12345"),
        (3.2e9, "3.2e+09"),
        (-0.5, "-0.5"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_metrics_are_written_in_few_digits(value: float, text: str) -> None:
    assert format_metric(value) == text


@given(st.floats(), st.integers())
def test_every_number_has_a_short_form(value: float, count: int) -> None:
    for text in (format_duration(value), format_bytes(value), format_bytes(count), format_metric(value),
                 format_percent(value)):  # fmt: skip
        assert 0 < len(text) < 40


@given(st.text() | st.sampled_from(HOSTILE), st.booleans())
def test_printable_text_holds_nothing_that_is_obeyed(text: str, keep_lines: bool) -> None:
    shown = printable(text, keep_lines=keep_lines)
    kept = "\n\t" if keep_lines else ""
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c not in kept]
    bidi = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not [c for c in shown if unicodedata.bidirectional(c) in bidi]
    assert printable(shown, keep_lines=keep_lines) == shown


def test_printable_shows_what_it_takes_away_the_power_of() -> None:
    assert printable("\x1b[31m\u202ea\x07\x9b\x7f\nb\tc") == "␛[31m\\u202ea␇\\u009b␡␊b c"
    assert printable("a\r\nb\n\tc", keep_lines=True) == "a\nb\n\tc"
    assert printable("naïve 日本語 👩‍🔬 [x]") == "naïve 日本語 👩‍🔬 [x]"
