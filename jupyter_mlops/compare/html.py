"""The comparison for a notebook: a fragment in which every text is escaped and every colour is the theme's."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ..progress.state import format_metric, printable
from .comparison import Comparison, MetricRow, short_ids
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

STYLE = """<style>
.mlops-compare{color:var(--jp-ui-font-color1,inherit);font-family:var(--jp-ui-font-family,system-ui,sans-serif);
 font-size:var(--jp-ui-font-size1,13px);line-height:1.5;font-variant-numeric:tabular-nums;overflow-x:auto}
.mlops-compare table.mlops-compared{border-collapse:collapse;margin:0;background:transparent;
 color:inherit;font-size:var(--jp-ui-font-size1,13px);table-layout:auto}
.mlops-compare .mlops-compared th,.mlops-compare .mlops-compared td{text-align:left;vertical-align:top;
 padding:3px 24px 3px 0;border:0;background:transparent;color:inherit;max-width:28em;overflow-wrap:anywhere;
 white-space:normal}
.mlops-compare .mlops-compared thead th{font-weight:600;border-bottom:1px solid var(--jp-border-color1,#8888);
 color:var(--jp-ui-font-color0,inherit)}
.mlops-compare .mlops-compared tbody th{font-weight:400;color:var(--jp-ui-font-color2,inherit)}
.mlops-compare .mlops-compared th.mlops-group{font-weight:600;padding-top:10px;color:var(--jp-ui-font-color0,inherit)}
.mlops-compare .mlops-compared thead span{display:block;font-weight:400;color:var(--jp-ui-font-color2,inherit)}
.mlops-compare code{font-family:var(--jp-code-font-family,monospace);background:transparent;padding:0;
 color:inherit;font-size:var(--jp-code-font-size,13px)}
.mlops-compare .mlops-best{font-weight:600;color:var(--jp-success-color0,inherit)}
.mlops-compare .mlops-gap,.mlops-compare .mlops-note{color:var(--jp-ui-font-color2,inherit);
 font-size:var(--jp-ui-font-size0,12px)}
.mlops-compare .mlops-gap{margin-left:8px;white-space:nowrap}
.mlops-compare .mlops-note{margin-top:6px}
</style>"""


def to_html(comparison: Comparison, *, only_different: bool = True) -> str:
    """For a notebook: the same table as a well-formed fragment in the colours of JupyterLab's theme.

    Args:
        comparison: The runs.
        only_different: Leave out what is the same in all runs.
    """
    parameters, metrics = shown_rows(comparison, only_different=only_different)
    runs = comparison.runs
    head = "".join(
        f'<th scope="col"><code>{escape(short)}</code><span>{escape(cut(run.name, NAME_LENGTH))}</span></th>'
        for short, run in zip(short_ids(runs), runs, strict=True)
    )
    lines = [
        _line("state", [escape(printable(run.state)) for run in runs]),
        _line("took", [escape(duration_text(run)) for run in runs]),
    ]
    if parameters:
        lines.append(_group("Parameters", len(runs)))
        lines += [
            _line(
                cut(row.name, NAME_LENGTH),
                [
                    MISSING if value is None else f"<code>{escape(cut(value, VALUE_LENGTH))}</code>"
                    for value in row.values
                ],
            )
            for row in parameters
        ]
    if metrics:
        lines.append(_group("Metrics", len(runs)))
        lines += [
            _line(f"{cut(row.name, NAME_LENGTH)}{arrow(row)}", [_metric_html(row, place) for place in range(len(runs))])
            for row in metrics
        ]
    notes = "".join(
        f'<div class="mlops-note">{escape(note)}</div>'
        for note in (left_out(comparison, only_different=only_different), legend(metrics))
        if note
    )
    # The classes that end in _ignore keep MathJax from reading dollar signs of a name as formulas.
    return (
        f'{STYLE}<div class="mlops-compare mathjax_ignore tex2jax_ignore" dir="ltr"><table class="mlops-compared">'
        f'<thead><tr><th scope="col">run</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>{notes}</div>'
    )


def _line(label: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{escape(label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _group(label: str, count: int) -> str:
    return f'<tr><th class="mlops-group" colspan="{count + 1}">{escape(label)}</th></tr>'


def _metric_html(row: MetricRow, place: int) -> str:
    value = row.values[place]
    text = MISSING if value is None else escape(format_metric(value))
    if place in row.best:
        text = f'<span class="mlops-best">{text} *</span>'
    difference = difference_text(row, place)
    return text + (f'<span class="mlops-gap">{escape(difference)}</span>' if difference else "")
