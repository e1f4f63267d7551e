"""The texts that a Python expression may stand for, told from its syntax: constants, names, joined paths.

Simple cases only, and always with a bound on work and length: the code may be anybody's.
"""

from __future__ import annotations

import ast
import posixpath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOLE = "\ue000"
"""Stands in a text for a part that only the run knows."""

_LONGEST = 2000
_MOST_VALUES = 8
_DEEPEST = 40

_UNCHANGED = frozenset(
    {
        "str",
        "os.fspath",
        "os.path.abspath",
        "os.path.realpath",
        "os.path.expanduser",
        "glob.glob",
        "glob.iglob",
    }
)
"""Functions whose result stands for the same file as their argument."""


class Texts:
    """What expressions stand for, given the names that were assigned before.

    Attributes:
        names: The texts of each name.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}

    def learn(self, name: str, value: ast.expr) -> None:
        """Note an assignment; a name that is assigned twice stands for both."""
        known = self.names.setdefault(name, [])
        known += [text for text in self.of(value) if text not in known][: _MOST_VALUES - len(known)]

    def of(self, node: ast.AST, depth: int = 0) -> list[str]:  # noqa: PLR0911 - one per kind of syntax
        """The texts that an expression may be; none when that cannot be told simply."""
        if depth > _DEEPEST:
            return []
        if isinstance(node, ast.Constant):
            return [node.value] if isinstance(node.value, str) and len(node.value) <= _LONGEST else []
        if isinstance(node, ast.Name):
            return self.names.get(node.id, [])
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.FormattedValue) else part for part in node.values]
            return _concatenated([self.of(part, depth + 1) for part in parts])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self.of(node.left, depth + 1), self.of(node.right, depth + 1)
            return _concatenated([left, right]) if left or right else []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return joined([self.of(node.left, depth + 1), self.of(node.right, depth + 1)])
        if isinstance(node, ast.Attribute) and node.attr == "parent":
            return _parents(self.of(node.value, depth + 1))
        if isinstance(node, ast.Call):
            return self._called_texts(node, depth)
        return []

    def _called_texts(self, node: ast.Call, depth: int) -> list[str]:  # noqa: PLR0911 - one per function
        name, dotted = called_name(node), dotted_name(node.func)
        inner = [self.of(argument, depth + 1) for argument in node.args]
        if dotted in ("Path.cwd", "pathlib.Path.cwd", "os.getcwd"):
            return ["."]
        if dotted.endswith("path.join") or name in ("Path", "PurePath", "PosixPath", "PurePosixPath"):
            return joined(inner) if inner else ["."]
        if dotted in _UNCHANGED:
            return inner[0] if inner else []
        if dotted == "os.path.dirname":
            return _parents(inner[0]) if inner else []
        if isinstance(node.func, ast.Attribute):
            owner = self.of(node.func.value, depth + 1)
            if owner and name in ("resolve", "absolute", "expanduser", "as_posix"):
                return owner
            if owner and inner and name in ("joinpath", "glob"):
                return joined([owner, *inner])
            if owner and inner and name == "rglob":
                return joined([owner, ["**"], *inner])
        return []


def _concatenated(parts: Sequence[list[str]]) -> list[str]:
    texts = [""]
    for values in parts:
        texts = [text + value for text in texts for value in values or [HOLE]][:_MOST_VALUES]
    return [text for text in texts if len(text) <= _LONGEST]


def _parents(texts: Iterable[str]) -> list[str]:
    return [posixpath.dirname(text) or "." for text in texts]


def joined(parts: Sequence[list[str]]) -> list[str]:
    """The texts put together as parts of a path."""
    texts = [""]
    for values in parts:
        texts = [posixpath.join(text, value) for text in texts for value in values][:_MOST_VALUES]
    return [text for text in texts if len(text) <= _LONGEST]


def called_name(node: ast.Call) -> str:
    """The last part of what is called: `read_csv` of `pd.read_csv(…)`."""
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def dotted_name(node: ast.AST) -> str:
    """The whole of a dotted name, or nothing for another expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
