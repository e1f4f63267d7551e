"""How a run ended and what the person reads about it: pure functions over what was seen."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from ..spec import FailureCode, RunState

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b")
_CELL_LINE = re.compile(r"Cell In\s*\[\d+\](?:, line |:)(\d+)")
_GPU_MEMORY = re.compile(
    r"(?i)cuda(?:.{0,20})out of memory|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|std::bad_alloc.*(?:CUDA|RMM)"
    r"|RMM failure|OutOfMemoryError"
)
_MLFLOW_AWAY = re.compile(
    r"API request to .* failed with exception|Max retries exceeded with url: /api/2\.0/mlflow"
    r"|failed with error code 5\d\d"
)
_LONGEST = 400


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        state: A terminal state.
        code: Why, when it is not SUCCEEDED.
        message: One sentence for the person.
        hint: The next step.
        cell_index: The cell at fault, from 0 in the executed notebook.
        line: The source line at fault, as text.
    """

    state: RunState
    code: FailureCode | None = None
    message: str = ""
    hint: str = ""
    cell_index: int | None = None
    line: str | None = None


class EngineStop(Exception):  # noqa: N818 - it ends a run, and not always badly
    """Ends the execution with this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.message)
        self.outcome = outcome


def plain(text: str) -> str:
    """Text without the terminal's escape sequences."""
    return _ANSI.sub("", text)


def source_line(source: str, traceback: Sequence[str]) -> str | None:
    """The line of the cell at which an error arose, from IPython's traceback, or None where it does not tell.

    The last frame inside the cell itself counts: deeper ones are library code.
    """
    numbers = [int(found) for part in traceback for found in _CELL_LINE.findall(plain(part))]
    lines = source.splitlines()
    # A frame of an earlier cell (a function defined there) may point past this cell's end.
    fitting = [number for number in numbers if 0 < number <= len(lines)]
    return lines[fitting[0] - 1].strip() if fitting else None


def cell_error(
    *, ename: str, evalue: str, traceback: Sequence[str], source: str, cell_index: int, number: int
) -> Outcome:
    """The outcome of a run whose cell raised.

    Args:
        ename: The exception's class.
        evalue: Its text.
        traceback: IPython's, with colours or without.
        source: The cell's.
        cell_index: From 0, in the executed notebook.
        number: From 1, among the code cells.
    """
    what = _shorten(f"{ename}: {plain(evalue)}" if evalue else ename)
    line = source_line(source, traceback)
    at = f" at `{_shorten(line, 120)}`" if line else ""
    whole = plain("\n".join([ename, evalue, *traceback]))
    code, hint = FailureCode.CELL_FAILED, ""
    message = f"Cell {number} failed{at}: {what}"
    if ename == "MemoryError" or _GPU_MEMORY.search(f"{ename}: {evalue}"):
        code = FailureCode.OUT_OF_MEMORY
        kind = "GPU memory" if ename != "MemoryError" else "memory"
        message = f"Cell {number} ran out of {kind}{at}: {what}"
        hint = "Use a profile with more of it, smaller batches or partitions, or a Dask collection."
    elif "No space left on device" in evalue:
        code = FailureCode.DISK_FULL
        message = f"Cell {number} found the disk full{at}: {what}"
        hint = "Free some space where the run writes, then retry."
    elif "mlflow" in whole and _MLFLOW_AWAY.search(whole):
        code = FailureCode.MLFLOW_UNREACHABLE
        message = f"Cell {number} could not reach MLflow{at}: {what}"
        hint = "Start the MLflow server again, then retry the run."
    elif ename in ("ModuleNotFoundError", "ImportError"):
        hint = "Install it in the kernel's environment; a local module ships with --include."
    elif ename == "FileNotFoundError":
        hint = "A file beside the notebook ships with --include GLOB; `jupyter mlops show` lists what shipped."
    elif ename == "StdinNotImplementedError":
        hint = "A run cannot answer input(): make it a parameter."
    return Outcome(RunState.FAILED, code, message, hint, cell_index, line)


def kernel_death(
    *,
    returncode: int | None,
    oom_kills: int,
    last_memory: int | None,
    limit: int | None,
    cell_index: int | None,
    number: int | None,
    moment: str = "before the first cell",
) -> Outcome:
    """The outcome of a run whose kernel is gone.

    Args:
        returncode: As `subprocess.Popen` gives it: negative for a signal; None when unknown.
        oom_kills: How often the system's out-of-memory killer struck in this control group meanwhile.
        last_memory: Resident bytes at the last look, or None.
        limit: Bytes that the kernel could have, of its profile or of its control group, or None.
        cell_index: The cell that ran, from 0; None: before the first.
        number: The same from 1 among the code cells.
        moment: When, if it was in no cell.
    """
    where = f"in cell {number}" if number is not None else moment
    used = f", {format_bytes(last_memory)} in use at the last look" if last_memory else ""
    if returncode == -signal.SIGKILL and oom_kills > 0:
        full = f"the limit is {format_bytes(limit)}" if limit else "the machine's memory was full"
        return Outcome(
            RunState.FAILED, FailureCode.OUT_OF_MEMORY,
            f"The kernel was ended {where} for want of memory: {full}{used}.",
            "Use a profile with more memory, or process the data in parts (a Dask collection).", cell_index,
        )  # fmt: skip
    hints = {
        -signal.SIGSEGV: "A compiled library crashed: look at the last output, and at its version.",
        -signal.SIGKILL: f"Somebody or the system killed it{used}; `dmesg` tells whether memory was short.",
        -signal.SIGABRT: "A compiled library gave up: look at the last output.",
    }
    hint = hints.get(returncode or 0, "The cell ended the process itself (`os._exit`, `exit` of a library).")
    how = describe_exit(returncode)
    return Outcome(RunState.FAILED, FailureCode.KERNEL_DIED, f"The kernel died {where} ({how}).", hint, cell_index)


def over_memory_limit(*, used: int, limit: int, cell_index: int | None, number: int | None) -> Outcome:
    """The outcome of a run that went over its profile's memory."""
    where = f"in cell {number}" if number is not None else "before the first cell"
    return Outcome(
        RunState.FAILED, FailureCode.OUT_OF_MEMORY,
        f"The run was stopped {where}: out of memory, it used {format_bytes(used)} and its limit is "
        f"{format_bytes(limit)}.",
        "Use --memory or a profile with more, or process the data in parts (a Dask collection).", cell_index,
    )  # fmt: skip


def format_bytes(count: int) -> str:
    """Bytes for a person, in binary units: `1.5 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def describe_exit(returncode: int | None) -> str:
    """How a process ended, in words: `exit code 7`, `signal SIGKILL`.

    Args:
        returncode: As `subprocess.Popen` gives it: negative for a signal; None when unknown.
    """
    if returncode is None:
        return "how is not known"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"signal {signal.Signals(-returncode).name}"
    except ValueError:
        return f"signal {-returncode}"


def _shorten(text: str, longest: int = _LONGEST) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= longest else flat[: longest - 1] + "…"
