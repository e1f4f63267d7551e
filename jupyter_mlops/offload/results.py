"""Both ends of the way back: what the run saves of a cell's names, and how the session takes it.

The file with the results lies in the run's own directory and is read from nowhere else: unpickling executes what it
is told to, and only our own run may tell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from ..errors import MLOpsError, NotebookError, NotFoundError
from .cell import CELL_ID
from .pickling import KERNELS_OWN, SessionPickler, digest, load, problem_with, read_header, write_header

RESULTS_FILE = "results.pkl"
_RUN_DIR_VARIABLE = "JUPYTER_MLOPS_RUN_DIR"
_WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Results:
    """What came back.

    Attributes:
        values: By name.
        changed: Names that went with the cell, were not assigned, and have another value now.
        problems: Why the others did not come, by name.
    """

    values: dict[str, Any]
    changed: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)


_at_start: set[str] = set()
_sent: dict[str, bytes | None] = {}


def load_names(namespace: dict[str, Any], file: str | None = None) -> None:
    """In the run, before the cell: put the names of the session into the kernel's.

    Args:
        namespace: The kernel's globals.
        file: Where they are; None: the cell reads none.

    Raises:
        MLOpsError: they were pickled by another Python.
    """
    before = set(namespace)
    if file is not None:
        with Path(file).open("rb") as stream:
            read_header(stream, what="The names of the session")
            namespace.update(load(stream, namespace))
    _sent.clear()
    for name, value in namespace.items():
        if name not in before and not isinstance(value, (FunctionType, type, ModuleType)):
            _sent[name] = digest(value, namespace)
    _at_start.clear()
    _at_start.update(namespace)


def save_results(namespace: dict[str, Any], assigned: Sequence[str]) -> None:
    """In the run, after the cell: keep what it assigned, made or changed, as far as that can be pickled.

    Args:
        namespace: The kernel's globals.
        assigned: The names that the cell's source assigns.
    """
    made = [name for name in namespace if name not in _at_start and not name.startswith("_")]
    names = [name for name in (*assigned, *made) if name.strip("_") and name not in KERNELS_OWN]
    wanted = {name: namespace[name] for name in names if name in namespace}
    changed = [
        name
        for name, before in _sent.items()
        if name in namespace and name not in wanted and digest(namespace[name], namespace) != before
    ]
    wanted.update({name: namespace[name] for name in changed})
    modules = {
        name: value.__name__
        for name, value in wanted.items()
        if isinstance(value, ModuleType) and sys.modules.get(value.__name__) is value
    }
    values = {name: value for name, value in wanted.items() if name not in modules}
    problems = {}
    for name, value in list(values.items()):
        problem = problem_with(value, namespace)
        if problem is not None:
            problems[name] = f"{type(value).__qualname__}: {problem}"
            del values[name]
    _write(values, namespace, changed=[name for name in changed if name in values], modules=modules, problems=problems)


def _write(values: dict[str, Any], namespace: dict[str, Any], **facts: Any) -> None:
    target = Path(os.environ.get(_RUN_DIR_VARIABLE) or ".") / RESULTS_FILE
    temporary = target.with_name(f".{RESULTS_FILE}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            write_header(stream, **facts)
            SessionPickler(stream, namespace).dump(values)
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def load_results(run_dir: Path, namespace: dict[str, Any]) -> Results:
    """In the session, after the run: what the cell left.

    Args:
        run_dir: The run's directory.
        namespace: The session's names, for the functions among the results; nothing is put into it.

    Raises:
        NotFoundError: the run left none.
        MLOpsError: they cannot be read here; the session is as it was.
    """
    try:
        stream = (run_dir / RESULTS_FILE).open("rb")
    except OSError:
        raise NotFoundError(
            "The cell left no results: it ended the run itself (sys.exit), or it was never run to its end.",
            hint="jupyter mlops logs shows what it printed.",
            code="no_results",
        ) from None
    with stream:
        facts = read_header(stream, what="The results of the cell")
        values: dict[str, Any] = {}
        problems = dict(facts.get("problems", {}))
        for name, module in dict(facts.get("modules", {})).items():
            try:
                values[name] = import_module(module)
            except Exception as error:  # noqa: BLE001 - a module may raise anything when it is imported
                problems[name] = f"the module {module} cannot be imported here: {error}"
        try:
            values.update(load(stream, namespace))
        except Exception as error:
            raise MLOpsError(
                f"The results of the cell cannot be read here: {type(error).__name__}: {error}.",
                hint=f"They are kept in {run_dir / RESULTS_FILE}. What they need may be missing in this session.",
                code="results",
            ) from error
    return Results(values, tuple(facts.get("changed", ())), problems)


def cell_outputs(notebook: Path) -> list[dict[str, Any]]:
    """What the offloaded cell displayed, as outputs of the notebook format; nothing when there is no such cell.

    Views of widgets are left out: what they show ended with the run's kernel.

    Args:
        notebook: The executed notebook, which may not be there.
    """
    from ..notebook.document import read_notebook

    try:
        cells = read_notebook(notebook).cells
    except NotebookError:
        return []
    outputs = [output for cell in cells if cell.get("id") == CELL_ID for output in cell.get("outputs", [])]
    return [output for output in outputs if _WIDGET not in output.get("data", {})]
