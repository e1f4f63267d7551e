"""Tags a notebook's parameters cell in its file, and changes no other byte of it.

Writing the JSON anew would change what its writer chose (escapes, indentation, line ends, how a float is
spelled), so the tag is put into the text, in the style of what stands around it: the difference in Git is the
tag.
"""

from __future__ import annotations

import ast
import json
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

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
        NotebookError: a cell is tagged already, no cell fits, the file is read-only or changed meanwhile, or it
            cannot be read or written.
    """
    data = read_bytes(path)
    nb = check_notebook(parse_notebook(data, path), path)
    tagged = parameters_cell_index(nb)
    if tagged is not None:
        raise NotebookError(
            f"Cell {tagged + 1} of {shown_text(path.name)} is tagged `{PARAMETERS_TAG}` already.",
            hint="Remove its tag first (JupyterLab: the gear, Cell Tags), or add parameters to it.",
            code="notebook_tagged",
        )
    index = _chosen(nb, path, cell_index, cell_id)
    _refuse_read_only(path)
    tagged_text = _with_tag(data.decode("utf-8"), index)
    if read_bytes(path) != data:
        raise NotebookError(
            f"{shown_text(path.name)} was saved by someone else in this moment; it was not tagged.",
            hint="Try again.",
            code="notebook_write",
        )
    replace_file(path, tagged_text.encode("utf-8"))
    return index


def _refuse_read_only(path: Path) -> None:
    # Replacing a file asks its directory, and root may everything: the file's own mode would hold nothing back.
    try:
        writable = path.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) and os.access(path, os.W_OK)
    except OSError:
        return  # it is gone: reading it again tells
    if not writable:
        shown = shown_text(str(path))
        raise NotebookError(
            f"{shown} is read-only.", hint=f"Make it writable: chmod u+w {shown}", code="notebook_write"
        )


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


class _Member(NamedTuple):
    """A member of a JSON object: its name, and where name and value begin and end in the text."""

    name: str
    name_start: int
    name_end: int
    start: int
    end: int


_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")


def _with_tag(text: str, index: int) -> str:
    """The text of a valid notebook with the tag in the metadata of that cell."""
    root = _members(text, _after_space(text, 1 if text.startswith("\ufeff") else 0))
    unit = _space_before(text, root[0].name_start).lstrip("\r\n")
    cell_start, _ = _items(text, _named(root, "cells").start)[index]
    metadata = _named(_members(text, cell_start), "metadata")
    members = _members(text, metadata.start)
    place = (
        _space_before(text, members[-1].name_start)
        if members
        else _deeper(_space_before(text, metadata.name_start), unit)
    )
    colon = text[metadata.name_end : metadata.start]
    new_list = f'[{_deeper(place, unit)}"{PARAMETERS_TAG}"{place if _is_line(place) else ""}]'
    if any(member.name == "tags" for member in members):
        tags = _named(members, "tags")
        if items := _items(text, tags.start):
            start, end = items[-1]
            space = _after_comma(_space_before(text, start), colon, alone=len(items) == 1)
            return f'{text[:end]},{space}"{PARAMETERS_TAG}"{text[end:]}'
        return f"{text[: tags.start]}{new_list}{text[tags.end :]}"
    tags_member = f'"tags"{colon}{new_list}'
    if members:
        space = _after_comma(place, colon, alone=len(members) == 1)
        return f"{text[: members[-1].end]},{space}{tags_member}{text[members[-1].end :]}"
    closing = _space_before(text, metadata.name_start) if _is_line(place) else ""
    return f"{text[: metadata.start]}{{{place}{tags_member}{closing}}}{text[metadata.end :]}"


def _is_line(space: str) -> bool:
    return "\n" in space


def _deeper(space: str, unit: str) -> str:
    """The white space before what stands one level deeper; none where all is on one line."""
    return space + unit if _is_line(space) else ""


def _after_comma(before_last: str, colon: str, *, alone: bool) -> str:
    """The white space before one more item; one item alone on its line shows none, but writers do as after a colon."""
    return " " if alone and not _is_line(before_last) and colon.endswith(" ") else before_last


def _named(members: list[_Member], name: str) -> _Member:
    """The member of that name; of several, the one that JSON's readers take."""
    return next(member for member in reversed(members) if member.name == name)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None
    return found.end()


def _space_before(text: str, at: int) -> str:
    start = at
    while text[start - 1] in " \t\r\n":
        start -= 1
    return text[start:at]


def _members(text: str, start: int) -> list[_Member]:
    """The members of the object that begins there."""
    found: list[_Member] = []
    at = _after_space(text, start + 1)
    while text[at] != "}":
        name, name_end = _DECODER.raw_decode(text, at)
        value = _after_space(text, _after_space(text, name_end) + 1)
        _, end = _DECODER.raw_decode(text, value)
        found.append(_Member(name, at, name_end, value, end))
        at = _after_space(text, end)
        at = _after_space(text, at + 1) if text[at] == "," else at
    return found


def _items(text: str, start: int) -> list[tuple[int, int]]:
    """Begin and end of each item of the list that begins there."""
    found: list[tuple[int, int]] = []
    at = _after_space(text, start + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        found.append((at, end))
        at = _after_space(text, end)
        at = _after_space(text, at + 1) if text[at] == "," else at
    return found
