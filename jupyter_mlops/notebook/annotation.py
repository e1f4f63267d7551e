"""What a piece of Python source says about a value: of an annotation, a literal, a simple expression.

Pure functions over syntax trees; nothing is executed. Knows no notebook.
"""

from __future__ import annotations

import ast
import io
import keyword
import math
import tokenize
import unicodedata
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from ..spec import JSONValue

MOST_DIGITS = 4000
"""Python refuses to read integers of more than 4,300 digits, and JSON's other readers give up long before."""
_FIRST_TOO_LONG: int = 10**MOST_DIGITS
_DEEPEST = 60


class ParameterType(str, Enum):
    """What values a parameter takes; `any` takes all that JSON can say."""

    BOOL = "bool"
    INT = "int"
    FLOAT = "float"
    STR = "str"
    LIST = "list"
    DICT = "dict"
    ANY = "any"


class DeclaredType(NamedTuple):
    """What an annotation says: the type, whether None is a value, and the only values if there are such."""

    type: ParameterType
    optional: bool = False
    choices: tuple[Any, ...] = ()


ANY_TYPE = DeclaredType(ParameterType.ANY)
_NONE = DeclaredType(ParameterType.ANY, optional=True, choices=(None,))
_NAMES = {
    **{kind.value: kind for kind in ParameterType if kind is not ParameterType.ANY},
    **dict.fromkeys(("List", "Sequence", "MutableSequence", "Iterable", "Collection"), ParameterType.LIST),
    # JSON has no tuple and no set: what is set for one arrives as a list.
    **dict.fromkeys(("tuple", "Tuple", "set", "Set", "frozenset", "FrozenSet"), ParameterType.LIST),
    **dict.fromkeys(("Dict", "Mapping", "MutableMapping", "OrderedDict"), ParameterType.DICT),
    **dict.fromkeys(("Text", "LiteralString"), ParameterType.STR),
}
_TRANSPARENT = ("Annotated", "Final", "ClassVar", "Required")


def is_variable(name: str) -> bool:
    """Whether a name can be assigned to and is, for Python, written as it stands here."""
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and name != "__debug__"
        and unicodedata.normalize("NFKC", name) == name
    )


def parse_expression(text: str) -> ast.expr | None:
    """The expression of a text; None if it is none."""
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def declared_type(node: ast.expr | None, depth: int = 0) -> DeclaredType:  # noqa: PLR0911 - a table of cases
    """What an annotation says; `any` without one."""
    if node is None or depth > _DEEPEST:
        return ANY_TYPE
    if isinstance(node, ast.Constant):
        if node.value is None:
            return _NONE
        return declared_type(parse_expression(node.value), depth + 1) if isinstance(node.value, str) else ANY_TYPE
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([declared_type(node.left, depth + 1), declared_type(node.right, depth + 1)])
    name = node.value if isinstance(node, ast.Subscript) else node
    simple = name.id if isinstance(name, ast.Name) else name.attr if isinstance(name, ast.Attribute) else ""
    if not isinstance(node, ast.Subscript):
        # numpy.float64 or a person's own class `list` of some module is not what JSON brings.
        known = isinstance(name, ast.Name) or (isinstance(name, ast.Attribute) and _is_typing(name.value))
        return DeclaredType(_NAMES.get(simple, ParameterType.ANY)) if known else ANY_TYPE
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    first = inner[0] if inner else None  # `Optional[()]` is syntax, though no type
    if simple == "Optional":
        return declared_type(first, depth + 1)._replace(optional=True)
    if simple == "Union":
        return _union([declared_type(one, depth + 1) for one in inner])
    if simple in _TRANSPARENT:
        return declared_type(first, depth + 1)
    if simple == "Literal":
        return _choices(inner, depth)
    return DeclaredType(_NAMES.get(simple, ParameterType.ANY))


def _is_typing(node: ast.expr) -> bool:
    return ast.unparse(node) in (
        "typing",
        "t",
        "typing_extensions",
        "collections.abc",
        "abc",
        "builtins",
        "collections",
    )


def _union(members: list[DeclaredType]) -> DeclaredType:
    optional = any(member.optional for member in members)
    rest = [member for member in members if member != _NONE]
    kinds = {member.type for member in rest}
    if kinds == {ParameterType.INT, ParameterType.FLOAT}:
        return DeclaredType(ParameterType.FLOAT, optional)
    if len(kinds) != 1:
        return DeclaredType(ParameterType.ANY, optional)
    choices = tuple(choice for member in rest for choice in member.choices)
    return DeclaredType(kinds.pop(), optional, choices if all(member.choices for member in rest) else ())


def _choices(nodes: list[ast.expr], depth: int) -> DeclaredType:
    """What `Literal` says; `any` where one of its values (bytes, a member of an enum) cannot be seen from here."""
    values: list[JSONValue] = []
    for node in nodes:
        if isinstance(node, ast.Subscript):  # Literal[Literal["a"], "b"] is Literal["a", "b"]
            nested = declared_type(node, depth + 1)
            known = bool(nested.choices)
            values += nested.choices
        else:
            known, value = literal_value(node)
            values.append(value)
        if not known:
            return ANY_TYPE
    kinds = {type_of(value) for value in values if value is not None}
    kind = kinds.pop() if len(kinds) == 1 else ParameterType.ANY
    return DeclaredType(kind, optional=None in values, choices=tuple(values))


def literal_value(node: ast.expr) -> tuple[bool, JSONValue]:
    """Whether an expression is a literal that JSON can say, and its value."""
    try:
        if (number := _special_float(node)) is not None:
            return True, number
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None
    return (True, value) if is_plain(value) else (False, None)


def _special_float(node: ast.expr) -> float | None:
    """`float("nan")` and `float("-inf")`, the only way to write them without an import."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _special_float(node.operand)
        return None if number is None else -number
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "float"
        and len(node.args) == 1
        and not node.keywords
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, str)
    ):
        try:
            number = float(node.args[0].value)
        except ValueError:
            return None
        return None if math.isfinite(number) else number
    return None


def has_comment(text: str) -> bool:
    """Whether Python would leave a part of the text out as a comment."""
    if "#" not in text:
        return False
    try:
        return any(token.type == tokenize.COMMENT for token in tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        return True


def is_too_long(number: int) -> bool:
    """Whether it has more than `MOST_DIGITS` digits, as `0xfff…` may have in a source that Python reads."""
    return abs(number) >= _FIRST_TOO_LONG


def is_plain(value: object, depth: int = 0) -> bool:
    """Whether JSON (with nan and inf) has a word for the value and for all in it."""
    if depth > _DEEPEST:
        return False
    if value is None or isinstance(value, (int, float)):
        return not isinstance(value, int) or not is_too_long(value)
    if isinstance(value, str):
        return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, list):
        return all(is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(key) and is_plain(item, depth + 1) for key, item in value.items())
    return False


def type_of(value: JSONValue) -> ParameterType:
    """The type of a value; `any` for None."""
    for kind, python in (
        (ParameterType.BOOL, bool),  # before int: True is one
        (ParameterType.INT, int),
        (ParameterType.FLOAT, float),
        (ParameterType.STR, str),
        (ParameterType.LIST, list),
        (ParameterType.DICT, dict),
    ):
        if isinstance(value, python):
            return kind
    return ParameterType.ANY


def type_of_source(node: ast.expr | None) -> ParameterType:
    """The type of an expression as far as it can be seen without executing it."""
    if isinstance(node, (ast.Tuple, ast.Set, ast.List, ast.ListComp, ast.SetComp)):
        return ParameterType.LIST
    if isinstance(node, (ast.Dict, ast.DictComp)):
        return ParameterType.DICT
    if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return ParameterType.STR
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _NAMES.get(node.func.id, ParameterType.ANY) if node.func.id.islower() else ParameterType.ANY
    try:
        return _number_type(node)
    except RecursionError:
        return ParameterType.ANY


def _number_type(node: ast.expr | None) -> ParameterType:  # noqa: PLR0911 - a table of cases
    """Of sums and products of number literals, which people write for readability (60 * 60)."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        return type_of(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return _number_type(node.operand)
    if isinstance(node, ast.BinOp):
        sides = {_number_type(node.left), _number_type(node.right)}
        if not sides <= {ParameterType.INT, ParameterType.FLOAT}:
            return ParameterType.ANY
        if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)):
            return ParameterType.FLOAT if ParameterType.FLOAT in sides else ParameterType.INT
        if isinstance(node.op, ast.Div):
            return ParameterType.FLOAT
        if isinstance(node.op, ast.Pow) and isinstance(node.right, ast.Constant):  # 2**10, not 2**-10
            return ParameterType.FLOAT if ParameterType.FLOAT in sides else ParameterType.INT
    return ParameterType.ANY
