"""Reads files of parameters: JSON, or YAML 1.2's core schema: `1e-3` is a number, `no` a word, a date text.

PyYAML's own schema is YAML 1.1's: `1e-3` is text, `no` is false, `12:30` is 750 and `010` is 8.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from .annotation import MOST_DIGITS, is_too_long
from .naming import shown_text
from .strict_json import TOO_MANY_DIGITS, UnfitError, parse_json, too_large, twice

if TYPE_CHECKING:
    from pathlib import Path

    from ..spec import JSONValue

_FILE_LIMIT = 4 * 2**20
"""Bytes of a file that is read at all; white space and comments are no part of the values."""


def load_parameter_file(path: Path) -> dict[str, JSONValue]:
    """The parameters in a file, JSON if its name ends in `.json`, else YAML.

    Raises:
        ParameterError: it cannot be read, or does not hold a mapping with names as keys; tells the line.
    """
    shown = shown_text(str(path))
    text = _read(path, shown)
    try:
        found = _parse_json(text) if path.suffix.lower() == ".json" else _parse_yaml(text)
    except _NotReadableError as error:
        raise ParameterError(f"The parameters in {shown} cannot be read: {error}.", hint=_EXAMPLE) from error
    except RecursionError as error:
        raise ParameterError(f"The parameters in {shown} are nested too deeply.", hint=_EXAMPLE) from error
    if not isinstance(found, dict):
        what = "is empty" if found is None else f"holds a {type(found).__name__}"
        raise ParameterError(f"{shown} {what}, not parameters by name.", hint=_EXAMPLE)
    for name in found:
        if not isinstance(name, str):
            raise ParameterError(f"{shown} has a name that is not text: {shown_text(repr(name))}.", hint=_EXAMPLE)
    return found


_EXAMPLE = "A file of parameters has lines like `lr: 0.1`, or is a JSON object."


class _NotReadableError(Exception):
    """What is wrong and where, in words."""


def _read(path: Path, shown: str) -> str:
    try:
        if not path.is_file():
            kind = "is a directory" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
            raise ParameterError(f"The file of parameters {shown} {kind}.", hint="Check the path.")
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        if len(data) > _FILE_LIMIT:
            raise ParameterError(
                f"The file of parameters {shown} is larger than {_FILE_LIMIT // 2**20} MiB.",
                hint="Put large data into a file of its own and give its path as a parameter.",
                code="parameter_size",
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"The file of parameters {shown} is not text in UTF-8 (byte {error.start}).",
            hint="Save it as UTF-8.",
        ) from error
    except (OSError, ValueError) as error:
        raise ParameterError(
            f"The file of parameters {shown} cannot be read: {getattr(error, 'strerror', None) or error}.",
            hint="Check the path and your rights.",
        ) from error


def _parse_json(text: str) -> Any:
    if not text.strip():
        return None
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise _NotReadableError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (ValueError, UnfitError) as error:
        raise _NotReadableError(str(error)) from error


def _parse_yaml(text: str) -> Any:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Composes by YAML 1.2's core schema; values are made by `_Nodes`."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to set them

    for tag, (pattern, first) in _SCHEMA.items():
        Loader.add_implicit_resolver(_TAGS + tag, re.compile(f"^(?:{pattern})$"), list(first))
    try:
        root = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _NotReadableError(f"{where}{shown_text(error.problem or error.context or 'not YAML')}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise _NotReadableError(shown_text(str(error).splitlines()[0] if str(error) else "not YAML")) from error
    return None if root is None else _Nodes().value(root)


_TAGS = "tag:yaml.org,2002:"
_SCHEMA = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "merge": ("<<", "<"),
}
_MOST_MERGED = 100_000


class _Nodes:
    """Turns YAML's nodes into values: what aliases repeat is made once, so that they cannot make it explode.

    PyYAML's own constructor also makes dates, sets and bytes, breaks on `!!bool maybe`, takes a name twice, and
    copies what `<<` merges as often as it is merged.
    """

    def __init__(self) -> None:
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()
        self._merged = 0

    def value(self, node: Any) -> Any:
        """The value of a node.

        Raises:
            _NotReadableError: it has none in the core schema; tells where.
        """
        if id(node) in self._open:
            raise _wrong(node, "it holds itself")
        if id(node) not in self._made:
            self._open.add(id(node))
            self._made[id(node)] = self._make(node)
            self._open.remove(id(node))
        return self._made[id(node)]

    def _make(self, node: Any) -> Any:
        tag = node.tag.removeprefix(_TAGS)
        if node.id == "scalar" and tag == "str":
            return node.value
        if node.id == "scalar" and tag in _SCHEMA:
            if re.fullmatch(_SCHEMA[tag][0], node.value) is None:
                raise _wrong(node, f"'{shown_text(node.value)}' is no {tag}")
            return _scalar(tag, node)
        if node.id == "sequence" and tag == "seq":
            return [self.value(item) for item in node.value]
        if node.id == "mapping" and tag == "map":
            return self._mapping(node)
        raise _wrong(node, f"YAML's core schema has no {node.id} of the type {shown_text(tag)}")

    def _mapping(self, node: Any) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for name, value in node.value:
            if name.tag == f"{_TAGS}merge":
                self._merge(value, merged)
                continue
            key = self.value(name)
            if isinstance(key, (list, dict)):
                raise _wrong(name, "a name is not text")
            if key in own:
                raise _wrong(name, twice(str(key)))
            own[key] = self.value(value)
        return {**merged, **own}

    def _merge(self, node: Any, merged: dict[Any, Any]) -> None:
        for source in node.value if node.id == "sequence" else [node]:
            found = self.value(source)
            if not isinstance(found, dict):
                raise _wrong(source, "what `<<` merges is not a mapping")
            self._merged += len(found)
            if self._merged > _MOST_MERGED:
                raise _wrong(source, "`<<` merges too much")
            for key, value in found.items():
                merged.setdefault(key, value)


def _scalar(tag: str, node: Any) -> JSONValue:
    text = node.value
    if tag == "null":
        return None
    if tag == "bool":
        return bool(text.lower() == "true")
    if tag == "int":
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        # Without leading zeros, for `000…1` is short; Python itself refuses to read what is far too long in base 10.
        digits = text.lstrip("+-").lstrip("0") if base == 10 else text
        if len(digits) > MOST_DIGITS or is_too_long(whole := int(digits or "0", base)):
            raise _wrong(node, TOO_MANY_DIGITS)
        return -whole if text.startswith("-") else whole
    if tag == "float":
        number = float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        if math.isinf(number) and "inf" not in text.lower():
            raise _wrong(node, too_large(text))
        return number
    return str(text)  # `<<` as a value


def _wrong(node: Any, what: str) -> _NotReadableError:
    mark = node.start_mark
    return _NotReadableError(f"line {mark.line + 1}, column {mark.column + 1}: {what}")
