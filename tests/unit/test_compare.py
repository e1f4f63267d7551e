"""Runs side by side: what differs, what is best, and that nothing in a run is obeyed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from jupyter_mlops.compare import ComparedRun, Comparison, compare_runs, plot, to_dict, to_html, to_table
from jupyter_mlops.compare.comparison import better, short_ids
from jupyter_mlops.compare.figure import CHARTS, RUNS
from jupyter_mlops.errors import UsageError


def run(number: int, **changes: Any) -> ComparedRun:
    return ComparedRun(**{"run_id": f"{number:04x}cafe0000", "name": f"run {number}", "state": "succeeded", **changes})


def two(**metrics: tuple[float | None, float | None]) -> Comparison:
    first, second = (
        {name: pair[place] for name, pair in metrics.items() if pair[place] is not None} for place in (0, 1)
    )
    return compare_runs(
        [
            run(1, metrics=first, params={"lr": "0.1", "same": "x"}),
            run(2, metrics=second, params={"lr": "1", "same": "x"}),
        ]
    )


def text(comparison: Comparison, **options: Any) -> str:
    console = Console(width=200, force_terminal=False)
    with console.capture() as capture:
        console.print(to_table(comparison, **options))
    return capture.get()


def test_parameters_and_metrics_stand_side_by_side_and_missing_ones_differ() -> None:
    comparison = compare_runs([run(1, params={"a": "1", "b": "2"}, metrics={"m": 1.0}), run(2, params={"a": "1"})])
    assert [(row.name, row.values, row.differs) for row in comparison.parameters] == [
        ("a", ("1", "1"), False),
        ("b", ("2", None), True),
    ]
    (metric,) = comparison.metrics
    assert (metric.values, metric.differs, metric.differences) == ((1.0, None), True, (0.0, None))


@pytest.mark.parametrize("runs", [[], [run(1)], [run(1), run(1)]])
def test_fewer_than_two_different_runs_are_refused(runs: list[ComparedRun]) -> None:
    with pytest.raises(UsageError, match="two different runs"):
        compare_runs(runs)


@pytest.mark.parametrize(
    ("name", "way"),
    [("loss", "lower"), ("val_loss", "lower"), ("training_log_loss", "lower"), ("trainLoss", "lower"),
     ("mean_squared_error", "lower"), ("neg_mean_squared_error", "higher"), ("accuracy", "higher"),
     ("test_f1_score", "higher"), ("eval/auc", "higher"), ("r2", "higher"), ("error_score", "higher"),
     ("accuracy_loss", "lower"), ("epoch", None), ("lossy_count", None), ("lr", None), ("", None)],
)  # fmt: skip
def test_the_name_of_a_metric_says_which_way_it_is_better(name: str, way: str | None) -> None:
    assert better(name) == way


def test_the_best_values_are_marked_where_the_name_says_what_is_better() -> None:
    comparison = compare_runs(
        [
            run(1, metrics={"loss": 0.5, "accuracy": 0.9, "count": 1.0, "mae": math.nan}),
            run(2, metrics={"loss": 0.2, "accuracy": 0.9, "count": 2.0, "mae": 3.0}),
            run(3, metrics={"loss": 0.2, "accuracy": 0.9, "count": 3.0, "mae": 1.0}),
        ]
    )
    assert {row.name: row.best for row in comparison.metrics} == {
        "loss": {1, 2}, "accuracy": frozenset(), "count": frozenset(), "mae": {2},
    }  # fmt: skip


def test_nan_and_inf_are_compared_with_care_and_leave_strict_json() -> None:
    comparison = two(loss=(math.nan, math.nan), mae=(1.0, math.inf), acc=(math.inf, math.inf))
    assert [row.differs for row in comparison.metrics] == [False, False, True]
    data = json.loads(json.dumps(to_dict(comparison), allow_nan=False))
    first, second = (found["run_id"] for found in data["runs"])
    assert data["metrics"]["loss"]["values"] == {first: "nan", second: "nan"}
    assert data["metrics"]["mae"]["values"] == {first: 1.0, second: "inf"}
    assert data["metrics"]["mae"]["differences"][second] is None
    assert data["metrics"]["mae"]["best"] == [first]
    assert data["parameters"]["lr"] == {"differs": True, "values": {first: "0.1", second: "1"}}


def test_ids_are_cut_to_what_tells_them_apart() -> None:
    assert short_ids([run(1), run(2)]) == ["0001", "0002"]
    assert short_ids([ComparedRun("aaaaaa1b", "", ""), ComparedRun("aaaaaa2b", "", "")]) == ["aaaaaa1", "aaaaaa2"]


def test_the_table_shows_differences_the_best_and_what_it_leaves_out() -> None:
    comparison = two(loss=(0.5, 0.25), step=(7.0, 7.0))
    shown = text(comparison)
    assert "lr" in shown
    assert "\n  same" not in shown
    assert "0.25 *  −0.25, −50 %" in shown
    assert "1 parameter and 1 metric are the same in all runs; --all shows them." in shown
    everything = text(comparison, only_different=False)
    assert "\n  same" in everything
    assert "step" in everything
    assert "--all" not in everything


HOSTILE = "[bold]x[/bold] \x1b[31m\x07<img src=x onerror=alert(1)>\u202e$x_1$\x00{0}%s"


def hostile() -> Comparison:
    return compare_runs(
        [
            run(number, name=HOSTILE, state=HOSTILE, params={HOSTILE: f"{HOSTILE}{number}"}, metrics={HOSTILE: number})
            for number in (1, 2)
        ]
    )


def test_the_table_shows_markup_and_control_characters_as_text() -> None:
    shown = text(hostile(), only_different=False)
    assert "[bold]x[/bold] ␛[31m␇" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=4, max_size=4))
def test_no_text_of_a_run_becomes_html(words: list[str]) -> None:
    name, state, key, value = words

    def page(*given: str) -> _Tags:
        found = _Tags()
        name, state, key, value = given
        runs = [
            run(number, name=name, state=state, params={key or "k": f"{number}{value}"}, metrics={key or "k": number})
            for number in (1, 2)
        ]
        found.feed(to_html(compare_runs(runs)))
        return found

    hostile_words = (f"<b onclick=x>{name}", f'"><script>{state}', f"</td>{key}", f"<!--{value}")
    plain_length = len(page("n", "s", "key", "v").tags)
    tags = page(*hostile_words).tags
    # A cut name may lose its arrow and its best mark with it, never gain a tag.
    assert {tag for tag, _ in tags} <= {"style", "div", "table", "thead", "tbody", "tr", "th", "td", "code", "span"}
    assert len(tags) <= plain_length + 2
    assert not any(attribute.startswith("on") for _, attributes in tags for attribute, _ in attributes)


def test_the_page_takes_its_colours_from_the_theme() -> None:
    page = to_html(two(loss=(0.5, 0.25)))
    colours = [line for line in page.replace(";", "\n").splitlines() if "color:" in line]
    assert colours
    assert all("var(--jp-" in line or "inherit" in line for line in colours)
    assert '<span class="mlops-best">0.25 *</span>' in page


def curves(number: int, points: int = 5) -> ComparedRun:
    history = [(step, number / (step + 1)) for step in range(points)]
    return run(number, metrics={"loss": history[-1][1], "f1": 0.5}, history={"loss": history, "f1": [(0, 0.5)]})


def test_a_plot_has_curves_for_histories_and_bars_for_single_values() -> None:
    figure = plot(compare_runs([curves(1), curves(2)]), None)
    lines, bars = figure.axes  # what differs comes first
    assert (lines.get_title(loc="left"), bars.get_title(loc="left")) == ("loss ↓", "f1 ↑")
    assert len(bars.patches) == 2
    assert [list(line.get_xdata()) for line in lines.lines] == [[0, 1, 2, 3, 4]] * 2
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == ["0001  run 1", "0002  run 2"]


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_a_plot_is_written_in_the_format_of_its_name(tmp_path: Path, suffix: str, start: bytes) -> None:
    path = tmp_path / f"plot{suffix}"
    plot(compare_runs([curves(1), curves(2)]), path)
    assert path.read_bytes().startswith(start)


def test_a_plot_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    comparison = compare_runs([curves(1), curves(2)])
    for name in ("plot", "plot.docx"):
        with pytest.raises(UsageError, match="says no format"):
            plot(comparison, tmp_path / name)
    with pytest.raises(UsageError, match="cannot be written"):
        plot(comparison, tmp_path / "missing" / "plot.png")


def test_many_metrics_and_runs_are_bounded_and_said_to_be() -> None:
    runs = [
        run(number, metrics={f"m{key:02}": number * key for key in range(CHARTS + 3)}) for number in range(RUNS + 2)
    ]
    figure = plot(compare_runs(runs), None)
    assert len([axes for axes in figure.axes if axes.axison]) == CHARTS
    assert len(figure.legends[0].get_texts()) == RUNS
    assert figure.get_supxlabel() == "Not drawn: 3 more metrics and 2 more runs"


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2**53), st.floats()), max_size=6),
    st.lists(st.floats(), min_size=2, max_size=2),
)
def test_any_number_can_be_drawn(points: list[tuple[int, float]], values: list[float]) -> None:
    runs = [
        run(number, metrics={"m": value, "n": value}, history={"m": sorted(points, key=lambda point: point[0])})
        for number, value in enumerate(values)
    ]
    plot(compare_runs(runs), None).savefig(BytesSink(), format="png", dpi=30)


class BytesSink:
    """Takes what it is given."""

    def write(self, data: bytes) -> int:
        return len(data)

    def flush(self) -> None:
        pass


def test_a_hostile_name_is_drawn_as_text_and_runs_without_metrics_have_a_picture(tmp_path: Path) -> None:
    figure = plot(hostile(), tmp_path / "hostile.png")
    assert "\x1b" not in figure.axes[0].get_title(loc="left")
    empty = plot(compare_runs([run(1), run(2)]), tmp_path / "empty.svg")
    assert [entry.get_text() for entry in empty.texts] == ["These runs have no metrics."]


def test_a_plot_needs_no_display_and_leaves_pyplot_alone(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from jupyter_mlops.compare import ComparedRun, compare_runs, plot
assert 'matplotlib' not in sys.modules
plot(compare_runs([ComparedRun('a', 'a', 's', metrics={{'m': 1}}), ComparedRun('b', 'b', 's', metrics={{'m': 2}})]),
     Path({str(tmp_path / "plot.png")!r}))
assert 'matplotlib.pyplot' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"MPLBACKEND": "TkAgg"})
    assert done.returncode == 0, done.stderr
