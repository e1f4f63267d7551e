"""The comparison as a figure of matplotlib, drawn without a display and without pyplot's state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..progress.state import format_metric, printable
from .comparison import ComparedRun, Comparison, MetricRow, short_ids
from .words import MISSING, arrow, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHARTS = 12
"""Metrics that a plot shows, each in a chart of its own."""
RUNS = 10
"""Runs that a plot shows."""
_COLUMNS = 3
_CHART = (3.9, 2.7)
"""Width and height of a chart in inches."""
_INK = "#787878"
"""Text and lines that are legible on white and on the near-black of dark themes alike (4.4 and 4.3 to 1)."""
_COLORS = ("#1f77b4", "#d9730d", "#2a9134", "#d1495b", "#9467bd", "#8c6d5a", "#c75dab", "#0e9aa7", "#8a8d00", "#5b6dcd")
_DASHES = ("-", "--", "-.", ":")
_LARGEST = 1e300
"""A chart's axis has to be wider than its values, and a float has an end."""
FORMATS = ("png", "svg", "pdf")


def plot(comparison: Comparison, path: Path | None) -> Figure:
    """A chart a metric: curves by step where a run has more than one, else bars. Needs no display and no pyplot.

    Args:
        comparison: The runs.
        path: Where to write the picture, by the ending of its name; None: nowhere.

    Returns:
        The figure, on a transparent ground, in colours that stand out on light and on dark.

    Raises:
        UsageError: the ending is no format that is known here, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    if path is not None and path.suffix.lower().lstrip(".") not in FORMATS:
        raise UsageError(
            f"The plot cannot be written to {printable(str(path))}: the name says no format.",
            hint=f"End it with {', '.join(f'.{name}' for name in FORMATS)}.",
        )
    runs = comparison.runs[:RUNS]
    # Where not all fit, those that tell the runs apart come first.
    metrics = sorted(comparison.metrics, key=lambda metric: not metric.differs)[:CHARTS]
    columns = min(_COLUMNS, max(1, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    labels = [f"{short}  {cut(run.name, 24)}" for short, run in zip(short_ids(comparison.runs), runs, strict=False)]
    legend_rows = math.ceil(len(runs) / columns)
    size = (max(_CHART[0] * columns, 5.0), _CHART[1] * rows + 0.25 * legend_rows + 0.3)
    figure = Figure(figsize=size, layout="constrained", facecolor="none")
    if not metrics:
        figure.text(0.5, 0.5, "These runs have no metrics.", ha="center", va="center", color=_INK)
    else:
        charts = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, metric in zip(charts, metrics, strict=False):
            _chart(axes, metric, runs)
        for axes in charts[len(metrics) :]:
            axes.set_axis_off()
        _name_runs(figure, labels, columns)
        more = [
            f"{count} more {noun}{'s' * (count != 1)}"
            for count, noun in ((len(comparison.metrics) - CHARTS, "metric"), (len(comparison.runs) - RUNS, "run"))
            if count > 0
        ]
        if more:
            figure.supxlabel(f"Not drawn: {' and '.join(more)}", fontsize=8, color=_INK)
    if path is not None:
        _write(figure, path)
    return figure


def _chart(axes: Axes, metric: MetricRow, runs: Sequence[ComparedRun]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_facecolor("none")
    axes.set_title(f"{cut(metric.name, 36)}{arrow(metric)}", fontsize=10, color=_INK, parse_math=False, loc="left")
    axes.tick_params(colors=_INK, labelsize=8)
    axes.grid(visible=True, color=_INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_color(_INK)
        spine.set_visible(side in ("left", "bottom"))
    curves = [_finite(run.history.get(metric.name, [])) for run in runs]
    if any(len({step for step, _ in curve}) > 1 for curve in curves):
        for place, curve in enumerate(curves):
            _curve(axes, place, curve)
        axes.set_xlabel("step", fontsize=8, color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.margins(x=0.03, y=0.08)
    else:
        _bars(axes, metric.values[: len(runs)])


def _finite(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    # A gap where there is no number, and not a line across it.
    return [(step, value if abs(value) < _LARGEST else math.nan) for step, value in points]


def _curve(axes: Axes, place: int, curve: Sequence[tuple[int, float]]) -> None:
    steps, values = [step for step, _ in curve], [value for _, value in curve]
    alone = len(curve) < 2
    axes.plot(
        steps,
        values,
        color=_COLORS[place % len(_COLORS)],
        linestyle=_DASHES[place % len(_DASHES)],
        linewidth=1.6,
        marker="o" if alone or len(curve) <= 15 else None,  # more points are a line by themselves
        markersize=5 if alone else 3,
    )


def _bars(axes: Axes, values: Sequence[float | None]) -> None:
    numbers = [value if value is not None and abs(value) < _LARGEST else math.nan for value in values]
    places = range(len(numbers))
    heights = [0.0 if math.isnan(number) else number for number in numbers]
    bars = axes.barh(places, heights, height=0.55, color=[_COLORS[place % len(_COLORS)] for place in places])
    texts = [MISSING if value is None else format_metric(value) for value in values]
    axes.bar_label(bars, labels=texts, padding=3, fontsize=8, color=_INK)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_yticks([])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.22)
    axes.set_ylim(len(numbers) - 0.4, -0.6)
    if not any(heights):  # an axis of nothing but zeros has no scale to show
        axes.set_xlim(0, 1)
        axes.set_xticks([])


def _name_runs(figure: Figure, labels: Sequence[str], columns: int) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=_COLORS[place % len(_COLORS)], linestyle=_DASHES[place % len(_DASHES)], linewidth=3)
        for place in range(len(labels))
    ]
    legend = figure.legend(
        handles, labels, loc="outside upper left", ncols=min(columns, len(labels)), frameon=False, fontsize=9,
        handlelength=3.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
        text.set_color(_INK)


def _write(figure: Figure, path: Path) -> None:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*missing from.*font")  # a box stands for such a letter
            figure.savefig(path, dpi=160)
    except OSError as error:
        raise UsageError(f"The plot cannot be written to {printable(str(path))}: {error.strerror or error}.") from None
