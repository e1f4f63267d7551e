"""What parameters a notebook declares: the assignments of its cell tagged `parameters`, as for papermill.

papermill's own inspection goes by a regular expression a line: it drops lines with two `=`, takes a `#`
inside a string for a comment, and knows no dotted, `|` or quoted annotation. Python is therefore read with
`ast`; papermill's inspection is kept for cells that are no Python and for the languages that it, or a plug-in
of it, can inspect. Nothing of the notebook is executed. Knows nothing of values that a person sets; see
`binding`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from ..spec import JSONValue
from .annotation import (
    DeclaredType,
    ParameterType,
    declared_type,
    literal_value,
    parse_expression,
    type_of,
    type_of_source,
)
from .document import notebook_language

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbformat import NotebookNode

PARAMETERS_TAG = "parameters"
_TEXT_LIMIT = 200
"""Characters of an annotation, a default's source or a help that are kept."""
_LINE_LIMIT = 1000
_CELL_LIMIT = 50_000
"""papermill's pattern takes time in the square of what it reads; longer lines and cells are not given to it."""


class Parameter(BaseModel):
    """One parameter as the notebook declares it.

    Attributes:
        name: The variable.
        type: From the annotation, else from the default.
        optional: Whether None is a value of it.
        annotation: The annotation as text, empty without one.
        choices: The only values it takes (an annotation `Literal[...]`); empty: no such limit.
        default: The default where it is a literal that JSON can say, else None.
        default_source: The default as source text where it is more than such a literal.
        required: It has no default (`data: str`, or `...`): a run must set it.
        help: The comment behind the assignment.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    type: ParameterType = ParameterType.ANY
    optional: bool = False
    annotation: str = ""
    choices: tuple[JSONValue, ...] = ()
    default: JSONValue = None
    default_source: str = ""
    required: bool = False
    help: str = ""

    @property
    def has_default(self) -> bool:
        """Whether a run may leave it unset."""
        return not self.required

    @property
    def type_name(self) -> str:
        """The type for people: "int", "float | None", or the choices."""
        name = " | ".join(repr(choice) for choice in self.choices) if self.choices else self.type.value
        return f"{name} | None" if self.optional and self.type is not ParameterType.ANY else name


def parameters_cell_index(nb: NotebookNode, tag: str = PARAMETERS_TAG) -> int | None:
    """Where the first code cell with this tag is, or None; papermill, too, takes the first of several."""
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "code" and tag in cell.metadata.get("tags", []):
            return index
    return None


def accepts_any_name(nb: NotebookNode) -> bool:
    """Whether a run may set names that `read_parameters` does not list.

    So it is where the parameters cell is there but in a language that nobody can inspect (R, Julia, ...).
    """
    index = parameters_cell_index(nb)
    return index is not None and notebook_language(nb) != "python" and not read_parameters(nb)


def read_parameters(nb: NotebookNode) -> tuple[Parameter, ...]:
    """The parameters that a notebook declares, in the order of its cell.

    Without a cell tagged `parameters`, and in languages that papermill cannot inspect, there are none.
    """
    index = parameters_cell_index(nb)
    if index is None:
        return ()
    cell = nb.cells[index]
    if notebook_language(nb) == "python":
        module = parse_cell(cell.source)
        if module is not None:
            return _from_module(module, cell.source)
    return _from_papermill(nb, cell)


def parse_cell(source: str) -> ast.Module | None:
    """The cell as Python, lines of magics and shell commands left out; None if it is none."""
    for text in _readings(source):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "\d" in the person's strings is not our warning
                return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _readings(source: str) -> Iterable[str]:
    """The source as it stands, for `!` and `%` may begin a line inside a string, then without magics."""
    return dict.fromkeys((source, re.sub(r"^([ \t]*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)))


def _from_module(module: ast.Module, source: str) -> tuple[Parameter, ...]:
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    annotations: dict[str, ast.expr] = {}
    values: dict[str, ast.expr] = {}
    for statement in module.body:
        comment = comments.get(statement.end_lineno or statement.lineno) or comments.get(statement.lineno, "")
        for name, annotation, value in _assignments(statement):
            # `lr: float` above or below `lr = 1` belongs to it.
            if annotation is not None:
                annotations[name] = annotation
            if value is not None:
                values[name] = value
            comment = comment or (found[name].help if name in found else "")
            found[name] = _parameter(name, annotations.get(name), values.get(name), comment)
    return tuple(found.values())


def _assignments(statement: ast.stmt) -> list[tuple[str, ast.expr | None, ast.expr | None]]:
    """Name, annotation and value of each variable that the statement sets."""
    if isinstance(statement, ast.AnnAssign):
        if isinstance(statement.target, ast.Name) and statement.simple:
            return [(statement.target.id, statement.annotation, statement.value)]
        return []
    if not isinstance(statement, ast.Assign):
        return []
    found: list[tuple[str, ast.expr | None, ast.expr | None]] = []
    for target in statement.targets:
        if isinstance(target, ast.Name):
            found.append((target.id, None, statement.value))
        elif isinstance(target, (ast.Tuple, ast.List)) and isinstance(statement.value, (ast.Tuple, ast.List)):
            pairs = zip(target.elts, statement.value.elts, strict=False)
            same = len(target.elts) == len(statement.value.elts)
            found += [(one.id, None, value) for one, value in pairs if same and isinstance(one, ast.Name)]
    return found


def _parameter(name: str, annotation: ast.expr | None, value: ast.expr | None, comment: str) -> Parameter:
    text = _source_of(annotation) if annotation is not None else ""
    if annotation is None and (match := re.match(r"type:\s*(\S+)\s*(.*)", comment)):
        text, comment = match[1], match[2]
        annotation = parse_expression(text)
    declared = declared_type(annotation)
    required = value is None or (isinstance(value, ast.Constant) and value.value is Ellipsis)
    default: JSONValue = None
    source = ""
    if not required:
        assert value is not None
        known, default = literal_value(value)
        if not known:
            default, source = None, _cut(_source_of(value))
        if annotation is None or text in ("Final", "typing.Final"):
            declared = DeclaredType(type_of(default) if known else type_of_source(value))
        if known and default is None:
            declared = declared._replace(optional=True)
        # `lr: float = 1` means 1.0 to whoever reads it, and 1 to Python: the default stays what the notebook
        # has.
    return Parameter(
        name=name,
        type=declared.type,
        optional=declared.optional,
        annotation=_cut(text),
        choices=tuple(choice for choice in declared.choices if choice is not None),
        default=default,
        default_source=source,
        required=required,
        help=_cut(comment.strip()),
    )


def _comments(source: str) -> dict[int, str]:
    """The comment behind code, by line from 1."""
    found: dict[int, str] = {}
    for text in _readings(source):
        with_code: set[int] = set()
        try:
            for token in tokenize.generate_tokens(io.StringIO(text).readline):
                if token.type == tokenize.COMMENT and token.start[0] in with_code:
                    found[token.start[0]] = token.string.lstrip("#").strip()
                elif token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
                    with_code.add(token.end[0])
        except (tokenize.TokenError, SyntaxError, RecursionError):
            continue  # what was found up to there is right
        break
    return found


def _from_papermill(nb: NotebookNode, cell: NotebookNode) -> tuple[Parameter, ...]:
    from papermill.exceptions import PapermillException
    from papermill.translators import papermill_translators

    kernel_name = nb.metadata.get("kernelspec", {}).get("name")
    lines = [line for line in cell.source[:_CELL_LIMIT].splitlines() if len(line) <= _LINE_LIMIT]
    try:
        translator = papermill_translators.find_translator(kernel_name, notebook_language(nb))
        inspected = translator.inspect({"source": "\n".join(lines)})
    except (PapermillException, NotImplementedError):
        return ()
    found: dict[str, Parameter] = {}
    for one in inspected:
        annotation = "" if one.inferred_type_name in ("None", "NoneType") else one.inferred_type_name
        value = parse_expression(one.default)
        if value is not None:
            found[one.name] = _parameter(one.name, parse_expression(annotation), value, one.help)
        else:
            found[one.name] = Parameter(
                name=one.name,
                annotation=_cut(annotation),
                default_source=_cut(one.default),
                help=_cut(one.help),
            )
    return tuple(found.values())


def _source_of(node: ast.expr) -> str:
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):  # ValueError: 0xfff… with more digits than Python writes
        return "…"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
