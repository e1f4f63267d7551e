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
- The language is the one of the kernel that is going to execute it: a notebook may say nothing of it, or be
  run with another kernel than its own, and Python's quotes hold nothing back in Julia.
"""

from __future__ import annotations

import copy
import math
import re
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from .annotation import is_variable
from .declaration import parameters_cell_index
from .document import kernel_language, notebook_language
from .naming import shown_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nbformat import NotebookNode

    from ..spec import JSONValue

INJECTED_TAG = "injected-parameters"
_PLAIN_TEXT = re.compile(r"[A-Za-z0-9 _.,:;/@+=*()\[\]<>|~^#&?!-]*")
"""Text that means itself between quotes in every language that papermill writes."""
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
"""What a terminal acts on (the bash kernel types into one), or takes for another line end than \\n."""
_LARGEST_WHOLE = 2**53
"""Up to here every whole number has a place in a float, which is all that R and MATLAB have."""
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
    language = kernel_language(kernel_name) or notebook_language(nb)
    source = injected_source(parameters, kernel_name=kernel_name, language=language)
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
        if not is_variable(name):
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
        _refuse_foreign(value, name, language, translator)
    try:
        return str(translator.codify(dict(parameters)))
    except NotImplementedError as error:
        raise ParameterError(
            f"papermill cannot write one of the values in {shown_text(language)}: {error}.",
            hint="Give it as text and parse it in the notebook.",
        ) from error


def _refuse_foreign(value: JSONValue, name: str, language: str, translator: Any) -> None:
    """Refuse what a translator of another language than Python writes as something else."""
    if reason := _not_carried(value, translator, nested=False):
        raise ParameterError(
            f"The value of '{name}' has {reason}, which papermill does not carry safely into {shown_text(language)}.",
            hint="Put the value into a file and give the file's path as the parameter.",
        )


def _not_carried(value: JSONValue, translator: Any, *, nested: bool) -> str:  # noqa: PLR0911 - a table of cases
    """What about a value would arrive as something else, in words; empty if nothing."""
    from papermill.translators import BashTranslator, JuliaTranslator, MatlabTranslator

    is_bash = issubclass(translator, BashTranslator)
    if isinstance(value, str) and is_bash:
        return "control characters in text" if _CONTROL.search(value) else ""
    if isinstance(value, str):
        is_plain = _PLAIN_TEXT.fullmatch(value)
        return "" if is_plain else "quotes, backslashes, `$`, `%`, braces, control or non-ASCII characters in text"
    if isinstance(value, float) and not math.isfinite(value):
        return "nan or inf"
    if isinstance(value, int) and not issubclass(translator, (BashTranslator, JuliaTranslator)):
        return "a whole number beyond 2^53" if abs(value) > _LARGEST_WHOLE else ""
    if value is None and (issubclass(translator, MatlabTranslator) or (is_bash and nested)):
        return "none"
    if isinstance(value, (list, dict)) and is_bash and nested:
        return "a list in a list"
    if isinstance(value, dict):
        value = [*value, *value.values()]
    reasons = [_not_carried(item, translator, nested=True) for item in value] if isinstance(value, list) else []
    return next(filter(None, reasons), "")


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
