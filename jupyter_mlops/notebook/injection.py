"""Puts values into a notebook, as papermill does: a cell `injected-parameters` after the parameters cell.

papermill's translators write the values. What differs, and why:

- Python source is not run through Black, which papermill does where Black happens to be installed: the same
  run has the same source everywhere, and a megabyte of values does not take minutes.
- The metadata of the notebook holds strict JSON: a nan in it would make the executed notebook unreadable to
  browsers.
- The cell's id is the same each time.
- Names are checked: papermill pastes them as code.
- Several translators of other languages do not quote what their language expands or ends a string with
  (`$(...)` in Julia and PowerShell, a backtick in PowerShell), or cannot say a value and say another one.
  What such a translator does not carry exactly is refused.
"""

from __future__ import annotations

import copy
import keyword
import math
import re
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from .declaration import parameters_cell_index
from .document import notebook_language
from .naming import shown_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

    from ..spec import JSONValue

INJECTED_TAG = "injected-parameters"
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9 _.,:;/@+=*()\[\]<>|~^#&?!-]*")
"""Text that means itself between quotes in every language that papermill writes."""
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def parameterize(nb: NotebookNode, parameters: Mapping[str, JSONValue], kernel_name: str) -> NotebookNode:
    """A copy of the notebook with the values in place; the given one stays as it is.

    Args:
        nb: As `read_notebook` gives it.
        parameters: Bound values by name; none: the copy is unchanged.
        kernel_name: The kernel that is going to execute it.

    Raises:
        ParameterError: a value cannot be written in the notebook's language.
    """
    from nbformat import NotebookNode, v4

    changed = copy.deepcopy(nb)
    if not parameters:
        return changed
    source = injected_source(parameters, kernel_name=kernel_name, language=notebook_language(nb))
    earlier = parameters_cell_index(changed, INJECTED_TAG)
    changed.cells = [
        cell for cell in changed.cells if cell.cell_type != "code" or INJECTED_TAG not in cell.metadata.get("tags", [])
    ]
    declared = parameters_cell_index(changed)
    position = declared + 1 if declared is not None else earlier or 0
    cell = v4.new_code_cell(source, metadata={"tags": [INJECTED_TAG]})
    cell["id"] = _free_id(INJECTED_TAG, {cell.get("id") for cell in changed.cells})
    changed.cells.insert(position, cell)
    changed.metadata.setdefault("papermill", NotebookNode())["parameters"] = _strict(dict(parameters))
    return changed


def injected_source(
    parameters: Mapping[str, JSONValue], *, kernel_name: str = "python3", language: str = "python"
) -> str:
    """The source of the cell that sets these values.

    Args:
        parameters: Bound values by name.
        kernel_name: papermill looks for a translator by the kernel first,
        language: and then by the language.

    Raises:
        ParameterError: a name or a value cannot be written in the language.
    """
    from papermill.exceptions import PapermillException
    from papermill.translators import PythonTranslator, papermill_translators

    for name in parameters:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ParameterError(f"{shown_text(repr(name))} cannot be the name of a parameter.")
    try:
        translator = papermill_translators.find_translator(kernel_name, language)
    except PapermillException as error:
        raise ParameterError(
            f"papermill has no translator that puts parameters into a notebook in {shown_text(language)}.",
            hint="Run it without parameters, or install a package that registers a papermill.translators.",
        ) from error
    if issubclass(translator, PythonTranslator):
        return str(super(PythonTranslator, translator).codify(dict(parameters)))
    for name, value in parameters.items():
        if not _PLAIN_NAME.fullmatch(name):
            raise ParameterError(
                f"The parameter '{name}' has a name that not every language can write.",
                hint="Use ASCII letters, digits and _, beginning with a letter.",
            )
        _refuse_foreign(value, name, language)
    try:
        return str(translator.codify(dict(parameters)))
    except NotImplementedError as error:
        raise ParameterError(
            f"papermill cannot write one of the values in {shown_text(language)}: {error}.",
            hint="Give it as text and parse it in the notebook.",
        ) from error


def _refuse_foreign(value: JSONValue, name: str, language: str) -> None:
    """Refuse what a translator of another language than Python writes as something else."""
    reason = ""
    if isinstance(value, str):
        if language == "bash":
            reason = "a NUL character" if "\0" in value else ""
        elif not _PLAIN_TEXT.fullmatch(value):
            reason = "quotes, backslashes, `$`, `%`, braces, control or non-ASCII characters in text"
    elif isinstance(value, float) and not math.isfinite(value):
        reason = "nan or inf"
    elif isinstance(value, list):
        for item in value:
            _refuse_foreign(item, name, language)
    elif isinstance(value, dict):
        for key, item in value.items():
            _refuse_foreign(key, name, language)
            _refuse_foreign(item, name, language)
    if reason:
        raise ParameterError(
            f"The value of '{name}' has {reason}, which papermill does not carry safely into {shown_text(language)}.",
            hint="Put the value into a file and give the file's path as the parameter.",
        )


def _free_id(wanted: str, taken: set[Any]) -> str:
    number = 1
    free = wanted
    while free in taken:
        number += 1
        free = f"{wanted}-{number}"
    return free


def _strict(value: JSONValue) -> JSONValue:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    return value
