"""The notebook view of a run as HTML: a pure function from what is known to a fragment.

May not know ipywidgets, and runs no script. Every text is escaped, every link is http(s) or a relative
path, and every colour is a variable of JupyterLab's theme, so that light, dark and high contrast come by
themselves; elsewhere the fallbacks take the colours of the surroundings.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from html import escape
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit, urlunsplit

from ..errors import as_magic
from ..spec import RunState
from . import words
from .state import ProgressState, Series, format_duration, format_metric, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

CHARTS = 24
_LOG_LINES = 200
_NEWLINE = "\n"
_WIDTH, _HEIGHT, _MARGIN = 120.0, 28.0, 3.0


@dataclass(frozen=True)
class Links:
    """Where more of a run is to be seen.

    Attributes:
        mlflow: The run in MLflow (http or https); the address that the run itself tells comes first.
        notebook: The executed notebook, relative to the notebook that shows the run.
        files: The run's directory as a person knows it; shown as text once the run has ended, without a link.
    """

    mlflow: str | None = None
    notebook: str | None = None
    files: str | None = None


STYLE = """<style>
.mlops-run{color:var(--jp-ui-font-color1,inherit);font-family:var(--jp-ui-font-family,system-ui,sans-serif);
 font-size:var(--jp-ui-font-size1,13px);line-height:1.5;max-width:880px;font-variant-numeric:tabular-nums}
.mlops-run *{box-sizing:border-box}
.mlops-head{display:flex;flex-wrap:wrap;align-items:center;gap:2px 10px}
.mlops-state{font-weight:600;color:var(--jp-ui-font-color0,inherit);display:inline-flex;align-items:center;gap:6px}
.mlops-state svg{width:14px;height:14px;flex:none}
.mlops-id,.mlops-label,.mlops-time,.mlops-notice,.mlops-hint,.mlops-more{color:var(--jp-ui-font-color2,inherit)}
.mlops-id{font-family:var(--jp-code-font-family,monospace);font-size:var(--jp-code-font-size,13px)}
.mlops-time{margin-left:auto}
.mlops-bar{height:6px;border-radius:3px;margin:6px 0;overflow:hidden;background:var(--jp-border-color2,#8886);
 forced-color-adjust:none}
.mlops-fill{height:100%;border-radius:3px;background:var(--mlops-tone)}
.mlops-doing{display:flex;flex-wrap:wrap;gap:0 10px;overflow-wrap:anywhere}
.mlops-facts{display:flex;flex-wrap:wrap;gap:2px 18px;margin-top:4px;font-size:var(--jp-ui-font-size0,12px)}
.mlops-tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:8px;margin-top:10px}
.mlops-tile{border:1px solid var(--jp-border-color2,#8886);border-radius:4px;padding:6px 8px;min-width:0;
 background:var(--jp-layout-color1,transparent)}
.mlops-tile div{display:flex;justify-content:space-between;gap:8px;font-size:var(--jp-ui-font-size0,12px)}
.mlops-key{color:var(--jp-ui-font-color2,inherit);overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.mlops-tile b{font-weight:600;color:var(--jp-ui-font-color0,inherit);white-space:nowrap}
.mlops-tile svg{display:block;width:100%;height:28px;margin-top:4px}
.mlops-more,.mlops-notice{font-size:var(--jp-ui-font-size0,12px);margin-top:6px;overflow-wrap:anywhere}
.mlops-notice b{color:var(--jp-ui-font-color1,inherit)}
.mlops-why{border-left:3px solid var(--mlops-tone);background:var(--jp-layout-color2,transparent);
 padding:8px 12px;margin-top:10px;border-radius:0 4px 4px 0;overflow-wrap:anywhere;white-space:pre-wrap}
.mlops-why>div+div{margin-top:4px}
.mlops-place{font-weight:600;color:var(--jp-ui-font-color0,inherit)}
.mlops-run code,.mlops-run pre.mlops-log{font-family:var(--jp-code-font-family,monospace);
 font-size:var(--jp-code-font-size,13px);color:var(--jp-content-font-color1,inherit);background:transparent}
.mlops-logbox{display:flex;flex-direction:column-reverse;max-height:220px;overflow:auto;
 margin-top:8px;
 border:1px solid var(--jp-border-color2,#8886);border-radius:4px;
 background:var(--jp-layout-color1,transparent)}
.mlops-run pre.mlops-log{flex:none;margin:0;padding:6px 10px;overflow:visible;
 white-space:pre-wrap;overflow-wrap:anywhere;
 line-height:1.4;font-size:var(--jp-ui-font-size0,12px)}
.mlops-log .mlops-stderr{background:var(--jp-rendermime-error-background,transparent)}
.mlops-run.mlops-run .mlops-line code{padding:0;background:transparent}
.mlops-run summary{cursor:pointer;color:var(--jp-ui-font-color2,inherit);margin-top:8px}
.mlops-links{display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline}
.mlops-run>.mlops-links{margin-top:8px}
.mlops-run>.mlops-beside{margin-top:0;line-height:28px}
.mlops-run a{color:var(--jp-content-link-color,LinkText);text-decoration:none}
.mlops-run a:hover,.mlops-run a:focus-visible{text-decoration:underline}
@media (forced-colors:active){.mlops-bar{background:Canvas;border:1px solid CanvasText}
 .mlops-fill{background:Highlight}}
</style>"""

_TONES = {
    RunState.PENDING: "var(--jp-ui-font-color2,GrayText)",
    RunState.RUNNING: "var(--jp-brand-color1,#1976d2)",
    RunState.SUCCEEDED: "var(--jp-success-color1,#388e3c)",
    RunState.FAILED: "var(--jp-error-color1,#d32f2f)",
    RunState.CANCELLED: "var(--jp-warn-color1,#f57c00)",
}
_SHAPES = {  # a shape each, so that nobody has to tell colours apart
    RunState.PENDING: '<circle cx="8" cy="8" r="5.5" fill="none" stroke-width="2"/>',
    RunState.RUNNING: '<path d="M4 2.5 L13.5 8 L4 13.5 Z" fill="currentColor" stroke="none"/>',
    RunState.SUCCEEDED: '<path d="M2.5 8.5 L6.5 12.5 L13.5 4" fill="none" stroke-width="2.4"/>',
    RunState.FAILED: '<path d="M3.5 3.5 L12.5 12.5 M12.5 3.5 L3.5 12.5" fill="none" stroke-width="2.4"/>',
    RunState.CANCELLED: '<rect x="3.5" y="3.5" width="9" height="9" fill="currentColor" stroke="none"/>',
}


def render(state: ProgressState, links: Links) -> str:
    """The whole view, complete in itself: what a saved notebook keeps.

    Args:
        state: What is known of the run.
        links: Where more is to be seen.

    Returns:
        A well-formed HTML fragment, its style included.
    """
    log = render_log(state)
    if log:
        log = f"<details><summary>Log</summary>{log}</details>"
    found = render_links(state, links)
    return (
        STYLE
        + opening(state)
        + render_status(state)
        + render_metrics(state)
        + log
        + (f'<div class="mlops-links">{found}</div>' if found else "")
        + "</div>"
    )


def opening(state: ProgressState) -> str:
    """The start tag that each part stands in; closed by ``</div>``."""
    # The classes that end in _ignore keep MathJax from reading dollar signs of a log as formulas.
    tone = _TONES[state.state]
    return f'<div class="mlops-run mathjax_ignore tex2jax_ignore" dir="ltr" style="--mlops-tone:{tone}">'


def render_status(state: ProgressState) -> str:
    """State, progress, current cell, use of resources, notices, and why it failed."""
    parts = [
        f'<div class="mlops-head"><span class="mlops-state">{_icon(state.state)}'
        f"{words.STATE_WORDS[state.state]}</span><span>{_text(words.cells_done(state))}</span>"
        f'<span class="mlops-id">{_text(printable(state.run_id))}</span>'
        f'<span class="mlops-time">{_text(words.times(state))}</span></div>',
        _bar(state),
    ]
    doing = words.doing(state)
    if doing:
        since = format_duration(state.cell_elapsed) if state.current is not None else ""
        parts.append(
            f'<div class="mlops-doing"><span>{_text(doing)}</span><span class="mlops-label">{_text(since)}</span></div>'
        )
    facts = words.resources(state)
    if facts:
        parts.append(f'<div class="mlops-facts">{"".join(_fact(*fact) for fact in facts)}</div>')
    for notice in list(state.notices)[-5:]:
        label = "Warning: " if notice.level == "warning" else ""
        text = words.shorten(printable(notice.message), 1000)
        parts.append(f'<div class="mlops-notice"><b>{label}</b>{_text(text)}</div>')
    parts.append(_why(state))
    return "".join(parts)


def render_metrics(state: ProgressState) -> str:
    """A tile with a line chart for each metric, the user's before the system's; empty without metrics."""
    series = sorted(state.metrics.values(), key=lambda one: one.key.startswith("system/"))
    if not series:
        return ""
    more = max(0, len(series) - CHARTS) + state.metrics_left_out
    said = f'<div class="mlops-more">{more} more metrics are in MLflow.</div>' if more else ""
    return f'<div class="mlops-tiles" role="list">{"".join(map(_tile, series[:CHARTS]))}</div>{said}'


def render_log(state: ProgressState) -> str:
    """The last lines that the run printed, the newest in sight; empty while it printed nothing."""
    lines = state.log.lines(_LOG_LINES)
    if not lines:
        return ""
    shown = [f'<span class="mlops-label">… {state.log.left_out} lines before</span>'] if state.log.left_out else []
    for line in lines:
        kind = ' class="mlops-stderr"' if line.stream == "stderr" else ""
        shown.append(f"<span{kind}>{_text(printable(line.text, keep_lines=True))}</span>")
    return (
        '<div class="mlops-logbox" role="log" aria-label="Log" tabindex="0">'
        f'<pre class="mlops-log">{_NEWLINE.join(shown)}</pre></div>'
    )


def render_links(state: ProgressState, links: Links) -> str:
    """Links to the run in MLflow and to the executed notebook; empty when there are none."""
    found = []
    url = safe_url(state.mlflow_url) or safe_url(links.mlflow)
    if url:
        found.append(f'<a href="{_text(url)}" target="_blank" rel="noopener noreferrer">Open in MLflow</a>')
    target = safe_path(links.notebook)
    if target and state.state is not RunState.PENDING:
        found.append(f'<a href="{_text(target)}" target="_blank" rel="noopener noreferrer">Executed notebook</a>')
    elif links.files and state.final is not None:
        found.append(f'<span class="mlops-label">Files: <code>{_text(printable(links.files))}</code></span>')
    return "".join(found)


def safe_url(url: str | None) -> str | None:
    """The http(s) address without user name and password, or None for everything else."""
    if not url or printable(url) != url or any(character in url for character in " \\\"'<>`"):
        return None
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not host:
        return None
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def safe_path(path: str | None) -> str | None:
    """A relative path below the notebook's own directory, quoted for a link, or None for everything else.

    Hidden directories are refused too: a Jupyter server does not serve them, so such a link is dead.
    """
    if not path or path.startswith("/"):
        return None
    if any(part.startswith(".") for part in PurePosixPath(path).parts):
        return None
    return quote(path, safe="/", errors="replace")


def _text(text: str) -> str:
    return escape(text, quote=True)


def _icon(state: RunState) -> str:
    return (
        '<svg viewBox="0 0 16 16" aria-hidden="true" stroke="currentColor" stroke-linecap="round" '
        f'style="color:var(--mlops-tone)">{_SHAPES[state]}</svg>'
    )


def _bar(state: ProgressState) -> str:
    fraction = state.fraction
    now = "" if fraction is None else f' aria-valuenow="{100 * fraction:.0f}"'
    said = f"{words.STATE_WORDS[state.state]}, {words.cells_done(state)}"
    label = f"Progress of run {printable(state.run_id)}"
    return (
        f'<div class="mlops-bar" role="progressbar" aria-label="{_text(label)}" '
        f'aria-valuemin="0" aria-valuemax="100"{now} aria-valuetext="{_text(said)}">'
        f'<div class="mlops-fill" style="width:{100 * (fraction or 0):.1f}%"></div></div>'
    )


def _fact(label: str, value: str) -> str:
    return f'<span><span class="mlops-label">{_text(label)}</span> {_text(value)}</span>'


def _why(state: ProgressState) -> str:
    classes = {"cell": "mlops-place", "line": "mlops-line", "message": "mlops-message", "hint": "mlops-hint"}
    lines = []
    for kind, text in words.failure(state):
        shown = f"<code>{_text(text)}</code>" if kind == "line" else _text(as_magic(text))
        lines.append(f'<div class="{classes[kind]}">{shown}</div>')
    return f'<div class="mlops-why">{"".join(lines)}</div>' if lines else ""


def _tile(series: Series) -> str:
    key = _text(words.shorten(printable(series.key), 250))
    last = format_metric(series.last)
    return (
        f'<div class="mlops-tile" role="listitem"><div><span class="mlops-key" title="{key}">{key}</span>'
        f"<b>{last}</b></div>{_chart(series, key)}</div>"
    )


def _chart(series: Series, key: str) -> str:
    steps = [step for step, _ in series.points]
    # Whoever logs without a step logs each value at step 0: then the order is the axis.
    rising = all(before < after for before, after in itertools.pairwise(steps))
    across = _scaled([float(x) for x in (steps if rising else range(len(steps)))], _MARGIN, _WIDTH - _MARGIN)
    down = _scaled([value for _, value in series.points], _HEIGHT - _MARGIN, _MARGIN)
    path, pen_down = [], False
    for x, y in zip(across, down, strict=True):
        if x is not None and y is not None:
            path.append(f"{'L' if pen_down else 'M'}{x:.1f} {y:.1f}")
        pen_down = y is not None
    if not path:
        return ""
    finite = [value for _, value in series.points if math.isfinite(value)]
    last = path[-1][1:].split()
    lowest, highest = format_metric(min(finite)), format_metric(max(finite))
    said = f"{key}: last {format_metric(series.last)}, lowest {lowest}, highest {highest}"
    return (
        f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" preserveAspectRatio="none" role="img" '
        f'aria-label="{said}">'
        f'<path d="{"".join(path)}" fill="none" stroke="var(--jp-brand-color1,#1976d2)" stroke-width="1.5" '
        'stroke-linejoin="round" stroke-linecap="round" vector-effect="non-scaling-stroke"/>'
        # A line of no length with round ends is a dot that the stretched picture does not flatten.
        f'<path d="M{last[0]} {last[1]}h0" stroke="var(--jp-brand-color1,#1976d2)" stroke-width="5" '
        'stroke-linecap="round" vector-effect="non-scaling-stroke"/></svg>'
    )


def _scaled(values: Sequence[float], start: float, end: float) -> list[float | None]:
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return [None] * len(values)
    low, high = min(finite), max(finite)
    span = high / 2 - low / 2  # halves: the whole may be beyond a float
    middle = (start + end) / 2
    return [
        (middle if span == 0 else start + (end - start) * ((value / 2 - low / 2) / span))
        if math.isfinite(value)
        else None
        for value in values
    ]
