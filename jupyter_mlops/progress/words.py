"""What every view says about a run, in words: one wording for the terminal, the notebook and plain text.

Pure functions over `ProgressState`. They may not know how their words are drawn; what comes from the run is
made printable here, and a view only has to quote it for its own medium.
"""

from __future__ import annotations

from ..spec import RunState
from .state import (
    Cell,
    ProgressState,
    format_bytes,
    format_duration,
    format_metric,
    format_percent,
    printable,
)

STATE_WORDS = {
    RunState.PENDING: "Waiting",
    RunState.RUNNING: "Running",
    RunState.SUCCEEDED: "Succeeded",
    RunState.FAILED: "Failed",
    RunState.CANCELLED: "Cancelled",
}
_GPUS_SHOWN = 16
_TITLE, _MESSAGE = 120, 4000


def title(cell: Cell) -> str:
    """The cell's title, printable and short; empty when it has none."""
    return shorten(printable(cell.title), _TITLE)


def cell_count(state: ProgressState, number: int) -> str:
    """``cell 3 of 9``, or ``cell 3`` while the number of cells is unknown."""
    return f"cell {number} of {state.total_cells}" if state.total_cells else f"cell {number}"


def place(state: ProgressState, cell: Cell) -> str:
    """``Cell 3 of 9: train the model``."""
    named = title(cell)
    return _sentence(cell_count(state, cell.number) + (f": {named}" if named else ""))


def doing(state: ProgressState) -> str:
    """What the run does now: its cell, else its phase; empty once it has ended."""
    if state.final is not None:
        return ""
    if state.current is not None:
        return place(state, state.current)
    return _sentence(shorten(printable(state.phase), _TITLE))


def times(state: ProgressState) -> str:
    """How long the run took, or takes and will take."""
    elapsed = format_duration(state.elapsed)
    if state.final is not None:
        return f"after {elapsed}"
    rest = state.remaining
    if rest is None:
        return elapsed
    return f"{elapsed}, about {format_duration(rest)} left" if rest >= 1 else f"{elapsed}, about to end"


def cells_done(state: ProgressState) -> str:
    """``2 of 9 cells``."""
    if state.total_cells is None:
        return f"{state.done} cells" if state.done != 1 else "1 cell"
    return f"{min(state.done, state.total_cells)} of {state.total_cells} cells"


def resources(state: ProgressState) -> list[tuple[str, str]]:
    """What the run uses, as (what, how much); after the end only what is still worth knowing."""
    use = state.resource
    if use is None:
        return []
    if state.final is not None:
        return [("Peak memory", format_bytes(state.peak_memory))]
    memory = format_bytes(use.memory)
    if use.memory_limit:
        memory += f" of {format_bytes(use.memory_limit)}"
    found = [
        ("Memory", f"{memory}, peak {format_bytes(state.peak_memory)}"),
        ("CPU", format_percent(use.cpu_percent)),
    ]
    if use.dask is not None:
        dask = use.dask
        said = [f"{dask.workers} workers" if dask.workers != 1 else "1 worker", f"{dask.tasks} tasks"]
        if dask.processing:
            said.append(f"{dask.processing} in progress")
        if dask.erred:
            said.append(f"{dask.erred} failed")
        if dask.memory:
            said.append(format_bytes(dask.memory))
        found.append(("Dask", ", ".join(said)))
    for gpu in use.gpus[:_GPUS_SHOWN]:
        used = f"{format_bytes(gpu.memory_used)} of {format_bytes(gpu.memory_total)}"
        found.append((f"GPU {gpu.index}", f"{format_percent(gpu.utilization)}, {used}"))
    if len(use.gpus) > _GPUS_SHOWN:
        found.append(("GPUs", f"{len(use.gpus) - _GPUS_SHOWN} more"))
    return found


def failure(state: ProgressState) -> list[tuple[str, str]]:
    """Why the run ended other than well, as (kind, text) for cell, line, message and hint."""
    final = state.final
    if final is None or final.state is RunState.SUCCEEDED:
        return []
    cell = state.failed_cell
    kinds = (
        ("cell", place(state, cell) if cell is not None else ""),
        ("line", shorten(printable((final.line or "").strip(), keep_lines=True), _MESSAGE)),
        ("message", shorten(printable(final.message, keep_lines=True), _MESSAGE)),
        ("hint", shorten(printable(final.hint, keep_lines=True), _MESSAGE)),
    )
    return [(kind, text) for kind, text in kinds if text]


def summary(state: ProgressState) -> str:
    """The whole in some lines of plain text, for where nothing better can be shown."""
    stands = f"{STATE_WORDS[state.state].lower()} {times(state)}, {cells_done(state)}"
    lines = [f"Run {printable(state.run_id)}: {stands}"]
    if doing(state):
        lines.append(doing(state))
    lines += [text for _, text in failure(state)]
    lines += [f"{printable(key)} = {format_metric(series.last)}" for key, series in state.metrics.items()]
    return "\n".join(lines)


def shorten(text: str, limit: int) -> str:
    """Text of at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _sentence(text: str) -> str:
    # Not str.capitalize, which makes MLflow Mlflow.
    return text[:1].upper() + text[1:]
