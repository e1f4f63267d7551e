"""Reads files of parameters: JSON, or YAML 1.2's core schema: `1e-3` is a number, `no` a word, a date text.

PyYAML's own schema is YAML 1.1's: `1e-3` is text, `no` is false, `12:30` is 750 and `010` is 8.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from ..errors import ParameterError
from .naming import shown_text

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
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise _NotReadableError(f"'{shown_text(name)}' is there twice")
            found[name] = value
        return found

    if not text.strip():
        return None
    try:
        return json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise _NotReadableError(f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except ValueError as error:
        raise _NotReadableError(str(error)) from error


def _parse_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's core schema, and no key twice."""

        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way to set them

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge":
                    continue
                if (key.tag, key.value) in seen if isinstance(key, yaml.ScalarNode) else False:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"'{shown_text(str(key.value))}' is there twice", key.start_mark
                    )
                if isinstance(key, yaml.ScalarNode):
                    seen.add((key.tag, key.value))
            return super().construct_mapping(node, deep=deep)

    for tag, pattern, first in _SCHEMA:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list(first))
    Loader.add_constructor("tag:yaml.org,2002:int", _yaml_int)
    Loader.add_constructor("tag:yaml.org,2002:float", _yaml_float)
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - derives from SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _NotReadableError(f"{where}{shown_text(error.problem or error.context or 'not YAML')}") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise _NotReadableError(shown_text(str(error).splitlines()[0] if str(error) else "not YAML")) from error


_SCHEMA = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", "<<", "<"),
)


def _yaml_int(loader: Any, node: Any) -> int:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2].lower(), 10)
    return int(text, base)


def _yaml_float(loader: Any, node: Any) -> float:
    return float(str(loader.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan"))
