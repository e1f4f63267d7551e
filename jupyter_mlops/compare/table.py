"""The comparison for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..progress.state import format_metric, printable
from .comparison import Comparison, short_ids
from .words import (
    MISSING,
    NAME_LENGTH,
    VALUE_LENGTH,
    arrow,
    cut,
    difference_text,
    duration_text,
    left_out,
    legend,
    shown_rows,
)

if TYPE_CHECKING:
    from rich.console import Group


def to_table(comparison: Comparison, *, only_different: bool = True) -> Group:
    """For a terminal: a column a run, a line a parameter and a metric; the best value is bold with a star.

    Args:
        comparison: The runs.
        only_different: Leave out what is the same in all runs.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parameters, metrics = shown_rows(comparison, only_different=only_different)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for short in short_ids(comparison.runs):
        table.add_column(Text(short), overflow="fold")
    runs = comparison.runs
    table.add_row(Text("name"), *(Text(cut(run.name, NAME_LENGTH)) for run in runs))
    table.add_row(Text("state"), *(Text(printable(run.state)) for run in runs))
    table.add_row(Text("took"), *(Text(duration_text(run)) for run in runs))
    if parameters:
        table.add_section()
        table.add_row(Text("parameters", style="bold"))
        for row in parameters:
            values = (MISSING if value is None else cut(value, VALUE_LENGTH) for value in row.values)
            style = "yellow" if row.differs else "dim"
            table.add_row(Text(f"  {cut(row.name, NAME_LENGTH)}"), *(Text(value, style=style) for value in values))
    if metrics:
        table.add_section()
        table.add_row(Text("metrics", style="bold"))
    for metric in metrics:
        cells = []
        for place, number in enumerate(metric.values):
            best = place in metric.best
            text = Text(MISSING if number is None else format_metric(number), style="bold green" if best else "")
            text.append(" *" if best else "")
            difference = difference_text(metric, place)
            text.append(f"  {difference}" if difference else "", style="not bold dim")
            cells.append(text)
        table.add_row(Text(f"  {cut(metric.name, NAME_LENGTH)}{arrow(metric)}"), *cells)
    notes = [left_out(comparison, only_different=only_different), legend(metrics)]
    return Group(table, *(Text(note, style="dim") for note in notes if note))
