"""Tags a notebook's parameters cell in its file, and changes nothing else in it.

Works on the file's own JSON and not on the notebook that `read_notebook` upgrades: the format version, the
order of keys and the indentation stay, so that the difference in Git is the tag.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

from ..errors import NotebookError
from .annotation import literal_value
from .declaration import PARAMETERS_TAG, parameters_cell_index, parse_cell
from .document import check_notebook, notebook_language, parse_notebook, read_bytes, replace_file
from .naming import shown_text

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode


def tag_parameters(path: Path, *, cell_index: int | None = None, cell_id: str | None = None) -> int:
    """Tag a code cell as `parameters` in the notebook's file.

    Args:
        path: The notebook.
        cell_index: The cell, counted from 0 among all cells.
        cell_id: The cell, by its id. With neither: the first code cell that only assigns literals.

    Returns:
        The cell's index.

    Raises:
        NotebookError: a cell is tagged already, no cell fits, or the file cannot be read or written.
    """
    data = read_bytes(path)
    nb = check_notebook(parse_notebook(data, path), path)
    raw = parse_notebook(data, path)
    tagged = parameters_cell_index(nb)
    if tagged is not None:
        raise NotebookError(
            f"Cell {tagged + 1} of {shown_text(path.name)} is tagged `{PARAMETERS_TAG}` already.",
            hint="Remove its tag first (JupyterLab: the gear, Cell Tags), or add parameters to it.",
            code="notebook_tagged",
        )
    index = _chosen(nb, path, cell_index, cell_id)
    metadata = raw["cells"][index].setdefault("metadata", {})
    metadata["tags"] = [*metadata.get("tags", []), PARAMETERS_TAG]
    replace_file(path, _as_it_was(raw, data))
    return index


def _chosen(nb: NotebookNode, path: Path, cell_index: int | None, cell_id: str | None) -> int:
    shown = shown_text(path.name)
    if cell_id is not None:
        found = [index for index, cell in enumerate(nb.cells) if cell.id == cell_id]
        if not found:
            raise NotebookError(f"{shown} has no cell with the id {shown_text(repr(cell_id))}.", hint=_code_cells(nb))
        cell_index = found[0]
    if cell_index is None:
        return _first_of_literals(nb, shown)
    if not 0 <= cell_index < len(nb.cells):
        raise NotebookError(f"{shown} has {len(nb.cells)} cells, not {cell_index + 1}.", hint=_code_cells(nb))
    if nb.cells[cell_index].cell_type != "code":
        raise NotebookError(f"Cell {cell_index + 1} of {shown} is not a code cell.", hint=_code_cells(nb))
    return cell_index


def _first_of_literals(nb: NotebookNode, shown: str) -> int:
    if notebook_language(nb) == "python":
        for index, cell in enumerate(nb.cells):
            if cell.cell_type == "code" and _only_assigns_literals(cell.source):
                return index
    raise NotebookError(
        f"No cell of {shown} only assigns values, so none can be taken for the parameters.",
        hint="Put the parameters into one code cell (lr = 0.1), or name the cell: "
        f"jupyter mlops params NOTEBOOK --tag --cell N. {_code_cells(nb)}",
        code="notebook_no_parameters",
    )


def _only_assigns_literals(source: str) -> bool:
    module = parse_cell(source)
    return module is not None and bool(module.body) and all(map(_is_parameter, module.body))


def _is_parameter(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.AnnAssign):
        # `data: str` without a value is a parameter that must be set.
        return isinstance(statement.target, ast.Name) and (statement.value is None or _is_literal(statement.value))
    return (
        isinstance(statement, ast.Assign)
        and all(isinstance(target, ast.Name) for target in statement.targets)
        and _is_literal(statement.value)
    )


def _is_literal(node: ast.expr) -> bool:
    if literal_value(node)[0]:
        return True
    try:
        ast.literal_eval(node)  # a tuple, a set
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _code_cells(nb: NotebookNode) -> str:
    numbers = [str(index + 1) for index, cell in enumerate(nb.cells) if cell.cell_type == "code"]
    more = ", …" if len(numbers) > 30 else ""
    return f"Its code cells are: {', '.join(numbers[:30])}{more}."


def _as_it_was(raw: dict[str, Any], data: bytes) -> bytes:
    """The notebook's JSON, indented like the file was."""
    indent = re.match(rb'(?:\xef\xbb\xbf)?\{\r?\n([ \t]*)"', data)
    text = json.dumps(
        raw,
        ensure_ascii=False,
        indent=indent[1].decode() if indent else None,
        separators=(",", ": ") if indent or b'": ' in data[:1000] else (",", ":"),
    )
    end = "\n" if data.endswith(b"\n") else ""
    return (text + end).encode("utf-8", "backslashreplace")
