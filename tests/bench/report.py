"""What the bench found, as a table, as JSON and as a picture. Knows samples and names; measures nothing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .contestants import OURS, OURS_READY, OURS_WARM, PAPERMILL_WARM
from .measure import Sample, Summary, differences, ends, first_cells, processors, ratios, summary

Samples = Mapping[str, Sequence[Sample]]
PACKAGES = ("jupyter-mlops", "papermill", "nbconvert", "nbclient", "mlflow", "ipykernel", "ipython", "nbformat")
PROMISES = {
    "%load_ext jupyter_mlops": ("IPython, %load_ext jupyter_mlops", "bare IPython", 0.15),
    "jupyter mlops --help": ("jupyter mlops --help", None, 0.3),
}
"""What start-up is to stay under: whose time, over whose, in seconds."""


@dataclass
class Results:
    """Everything that was measured.

    Attributes:
        runs: Samples by contestant, by notebook.
        start_ups: Samples by command.
        first_ever: Runs without MLflow's database.
        about: The machine, the versions, the time.
    """

    runs: dict[str, Samples] = field(default_factory=dict)
    start_ups: Samples = field(default_factory=dict)
    first_ever: list[Sample] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)


def about_this_machine() -> dict[str, Any]:
    """What a reader needs to judge the times."""
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "versions": {name: version(name) for name in PACKAGES},
    }


def tables(results: Results) -> str:
    """The results as Markdown, which reads well in a terminal too."""
    about = results.about
    parts = [
        f"{about['date']}, {about['cores']} cores, {about['system']}, Python {about['python']}, load average before "
        f"and after {_load(about.get('load'))} and {_load(about.get('load_after'))}. "
        + ", ".join(f"{name} {number}" for name, number in about["versions"].items())
        + ".",
        "Seconds: median (smallest to largest). Ratio: how many times as long `jupyter mlops train` took, the median "
        "of the ratios of the rounds; below 1 it is faster. Processor: seconds of all its processes together, which depend "
        "less on what else the machine does. Engine ready: an earlier run has left one waiting, see `warm_engine_timeout`.",
    ]
    for title, samples in results.runs.items():
        parts.append(f"### {title}\n\n{_runs_table(samples)}")
        parts += [_stages_table(name, samples[name]) for name in (OURS, OURS_READY)
                  if name in samples and samples[name][0].stages]  # fmt: skip
    if results.first_ever:
        first = summary(sample.first_cell for sample in results.first_ever if sample.first_cell is not None)
        end = summary(sample.end for sample in results.first_ever)
        parts.append(
            "### The very first run on a machine\n\n"
            f"Makes MLflow's database and the store: first cell after {_seconds(first)}, end after {_seconds(end)}."
        )
    if results.start_ups:
        parts.append(f"### Start-up\n\n{_start_up_table(results.start_ups)}")
    return "\n\n".join(parts) + "\n"


def write(results: Results, directory: Path) -> list[Path]:
    """The tables, every sample, and a picture.

    Returns:
        The files.
    """
    directory.mkdir(parents=True, exist_ok=True)
    text, data, picture = (directory / f"bench.{suffix}" for suffix in ("md", "json", "png"))
    text.write_text(tables(results), encoding="utf-8")
    data.write_text(json.dumps(asdict(results), indent=1), encoding="utf-8")
    if not results.runs:
        return [text, data]
    _picture(results, picture)
    return [text, data, picture]


def _runs_table(samples: Samples) -> str:
    lines = [
        "| | first cell | end | ratio, first cell | ratio, end | the same, engine ready | | processor |",
        f"|{' --- |' * 8}",
    ]
    for name in samples:
        known = processors(samples, name)
        spent = f"{summary(known).median:.2f}" if known else ""
        cells = [name, _seconds(summary(first_cells(samples, name))), _seconds(summary(ends(samples, name)))]
        for own in (OURS_WARM if name == PAPERMILL_WARM else OURS, OURS_READY):
            beside_itself = name in (OURS, OURS_READY, OURS_WARM) or (name, own) == (PAPERMILL_WARM, OURS_READY)
            if beside_itself or own not in samples:
                cells += ["", ""]
            else:
                cells.append(_times(ratios(first_cells(samples, own), first_cells(samples, name))))
                cells.append(_times(ratios(ends(samples, own), ends(samples, name))))
        lines.append(f"| {' | '.join([*cells, spent])} |")
    return "\n".join(lines)


def _stages_table(name: str, samples: Sequence[Sample]) -> str:
    lines = [f"| stage of {name} | seconds |", "| --- | --- |"]
    lines += [f"| {stage} | {_seconds(summary(s.stages[stage] for s in samples))} |" for stage in samples[0].stages]
    return "\n".join(lines)


def _start_up_table(samples: Samples) -> str:
    lines = ["| | seconds |", "| --- | --- |"]
    lines += [f"| `{name}` | {_seconds(summary(ends(samples, name)), 3)} |" for name in samples]
    lines.append("")
    for what, (own, over, limit) in PROMISES.items():
        found = differences(ends(samples, own), ends(samples, over)) if over else summary(ends(samples, own))
        kept = "kept" if found.median <= limit else "missed"
        beyond = f" over {over}" if over else ""
        lines.append(f"- {what}: {_seconds(found, 3)} s{beyond}; the goal is {limit:g} s: {kept}")
    return "\n".join(lines)


def _seconds(found: Summary, digits: int = 2) -> str:
    return f"{found.median:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def _times(found: Summary) -> str:
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def _load(load: Sequence[float] | None) -> str:
    return f"{load[0]:.1f}" if load else "unknown"


def _picture(results: Results, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(results.runs)
    figure = Figure(figsize=(9, 0.6 + 3.4 * count), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, samples) in enumerate(results.runs.items(), start=1):
        axes = figure.add_subplot(count, 1, number)
        names = list(samples)[::-1]
        for position, name in enumerate(names):
            color = "tab:orange" if name in (OURS, OURS_READY, OURS_WARM) else "tab:blue"
            first, end = first_cells(samples, name), ends(samples, name)
            axes.barh(position, summary(end).median, color=color, alpha=0.35)
            axes.barh(position, summary(first).median, color=color)
            axes.plot(end, [position] * len(end), ".", color="black", markersize=4)
            axes.plot(first, [position] * len(first), ".", color="white", markersize=4, markeredgecolor="black")
        axes.set_yticks(range(len(names)), names)
        axes.set_title(title, loc="left")
        axes.set_xlabel("seconds: until the first cell (dark) and until the end (light); a dot is a measurement")
    figure.savefig(path, dpi=120)
