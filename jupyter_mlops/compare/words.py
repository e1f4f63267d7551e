"""What a comparison says, in words: one wording for the table, the page and the plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..progress.state import format_duration, format_metric, printable
from .comparison import ComparedRun, Comparison, MetricRow, ParameterRow

MISSING = "–"
NAME_LENGTH, VALUE_LENGTH = 40, 200


def shown_rows(comparison: Comparison, *, only_different: bool) -> tuple[list[ParameterRow], list[MetricRow]]:
    """The parameters and the metrics to show."""
    parameters = [row for row in comparison.parameters if row.differs or not only_different]
    metrics = [row for row in comparison.metrics if row.differs or not only_different]
    return parameters, metrics


def left_out(comparison: Comparison, *, only_different: bool) -> str:
    """What the table does not show, in a sentence; empty when it shows everything."""
    if not only_different:
        return ""
    same_parameters = sum(not row.differs for row in comparison.parameters)
    same_metrics = sum(not row.differs for row in comparison.metrics)
    counts = [
        f"{count} {noun}{'s' * (count != 1)}"
        for count, noun in ((same_parameters, "parameter"), (same_metrics, "metric"))
        if count
    ]
    if not counts:
        return ""
    are, them = ("is", "it") if same_parameters + same_metrics == 1 else ("are", "them")
    return f"{' and '.join(counts)} {are} the same in all runs; --all shows {them}."


def duration_text(run: ComparedRun) -> str:
    """How long a run took."""
    return MISSING if run.duration is None else format_duration(run.duration)


def cut(text: str, limit: int) -> str:
    """Text of anyone as it can be shown: printable, on one line, at most so many characters."""
    text = printable(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def difference_text(row: MetricRow, place: int) -> str:
    """`+0.0131` and how much that is of the first run's value."""
    gap, first = row.differences[place], row.values[0]
    if place == 0 or gap is None or gap == 0 or first is None:
        return ""
    sign = "+" if gap > 0 else "−"
    part = abs(gap) / abs(first) * 100 if first else math.inf
    share = f", {sign}{part:.3g} %" if part < 1e4 else ""  # beyond it a percentage says nothing
    return f"{sign}{format_metric(abs(gap))}{share}"


def arrow(row: MetricRow) -> str:
    """Which way a metric is better, after its name."""
    return {"higher": " ↑", "lower": " ↓", None: ""}[row.better]


def legend(metrics: Sequence[MetricRow]) -> str:
    """What the marks mean."""
    parts = []
    if any(row.best for row in metrics):
        parts.append("* the best; ↑ higher is better and ↓ lower is, by the metric's name.")
    if metrics:
        parts.append("Differences are to the first run.")
    return " ".join(parts)
