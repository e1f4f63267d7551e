"""Turns what a person sets (text of `-p`, a file, values of an API) into typed values of parameters.

All that is hostile about parameters ends here: a name that is no name, text that is no value, a secret,
something too large or not UTF-8. What comes out is plain JSON-like data. Knows no notebook and no language.
"""

from __future__ import annotations

import ast
import math
import numbers
import re
import unicodedata
import warnings
from collections import Counter
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, ParameterError, nearest
from .annotation import MOST_DIGITS, ParameterType, has_comment, is_too_long, is_variable
from .declaration import Parameter
from .strict_json import UnfitError, parse_json, too_large, twice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..spec import JSONValue

SIZE_LIMIT = 2**20
"""Bytes that all values of one run may have together."""
_DEEPEST = 60
_SHOWN = 60
_WORDS = {
    ParameterType.BOOL: "true or false",
    ParameterType.INT: "a whole number",
    ParameterType.FLOAT: "a number",
    ParameterType.STR: "text",
    ParameterType.LIST: "a list",
    ParameterType.DICT: "a mapping with text as keys",
    ParameterType.ANY: "a value",
}
_EXAMPLES = {
    ParameterType.BOOL: "true",
    ParameterType.INT: "10",
    ParameterType.FLOAT: "0.1",
    ParameterType.STR: "text",
    ParameterType.LIST: "'[1, 2]'",
    ParameterType.DICT: "'{\"a\": 1}'",
    ParameterType.ANY: "1",
}
_TRUTH = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class _TooLargeError(Exception):
    """All values together are over the limit: there is no point in looking on."""


def parse_assignments(items: Sequence[str]) -> dict[str, str]:
    """Names and texts of `name=value` items; the first `=` splits, the last of several for one name counts.

    Raises:
        ParameterError: an item has no `=`, or nothing before it.
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name.strip():
            raise ParameterError(
                f"{_shown(item)} is not of the form name=value.",
                hint="For example: -p lr=0.1 -p name='a b'",
            )
        found[name.strip()] = value
    return found


def bind_parameters(
    declared: Sequence[Parameter],
    *,
    text: Mapping[str, str],
    values: Mapping[str, JSONValue],
    secret_pattern: str,
    any_name: bool = False,
) -> dict[str, JSONValue]:
    """The values that were set, each of its parameter's type; all problems are told at once.

    Text is read by the declared type: true/false/yes/no/on/off/1/0 for a bool, Python's spelling for numbers,
    JSON or a Python literal for lists and mappings, and as it is for text. A parameter without a type takes a
    JSON or Python literal where the text is one, else the text. `none` and `null` are None where None is
    allowed. Values are checked, not converted, but for an int where a float is due and a tuple where a list
    is.

    Args:
        declared: What the notebook declares.
        text: By name, as given to `-p`; wins over `values`.
        values: By name, from a file or an API.
        secret_pattern: Regular expression of names that hold secrets. Declared numbers and bools hold none.
        any_name: Take names that are not declared; see `accepts_any_name`.

    Raises:
        ParameterError: a name, a type or a value is wrong, a required one is missing, a secret is among them,
            or all together are larger than 1 MiB.
        ConfigError: the pattern is no regular expression.
    """
    try:
        secret = re.compile(secret_pattern).search
    except re.error as error:
        raise ConfigError(f"The setting secret_pattern is not a regular expression: {error}.") from error
    if sum(map(len, text.values())) > SIZE_LIMIT:
        raise _too_large()
    known = {parameter.name: parameter for parameter in declared}
    size = _Size()
    bound: dict[str, JSONValue] = {}
    problems: list[ParameterError] = []
    for name in dict.fromkeys([*values, *text]):
        try:
            parameter = _parameter(name, known, is_secret=secret, any_name=any_name)
            given = _from_text(parameter, text[name]) if name in text else values[name]
            bound[name] = _fitting(parameter, size.plain(given, name))
        except ParameterError as problem:
            problems.append(problem)
        except _TooLargeError:
            raise _too_large() from None
    problems += [_missing(one) for one in declared if one.required and one.name not in {*text, *values}]
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ParameterError(
            "\n".join(problem.message for problem in problems),
            hint="\n".join(dict.fromkeys(problem.hint for problem in problems if problem.hint)),
        )
    return bound


def _parameter(
    name: object, known: Mapping[str, Parameter], *, is_secret: Callable[[str], object], any_name: bool
) -> Parameter:
    """The parameter of that name.

    Names are pasted into a cell as code: only a name that Python reads as it is written gets through.
    """
    readable = unicodedata.normalize("NFKC", name) if isinstance(name, str) else ""
    if not isinstance(name, str) or not is_variable(readable):
        shown = _shown(name) if isinstance(name, str) else f"A {type(name).__name__}"
        raise ParameterError(
            f"{shown} cannot be the name of a parameter.",
            hint="A name is a word of letters, digits and _ that does not begin with a digit: -p lr=0.1",
        )
    if readable != name:
        raise ParameterError(f"Python reads the name {_shown(name)} as {_shown(readable)}.", hint="Write it so.")
    parameter = known.get(name)
    number = parameter is not None and parameter.type in (
        ParameterType.INT, ParameterType.FLOAT, ParameterType.BOOL
    )  # fmt: skip
    if is_secret(name) and not number:
        raise ParameterError(
            f"'{name}' looks like a secret, and parameters are recorded where everyone can read them.",
            hint=f'Read it from the environment in the notebook: os.environ["{name.upper()}"]. '
            "A number (max_tokens: int = 100) may be set if it is annotated so.",
            code="parameter_secret",
        )
    if parameter is None and not any_name:
        raise ParameterError(
            f"The notebook has no parameter '{name}'.",
            hint=nearest(name, known, noun="parameter")
            if known
            else "It has none at all: tag the cell that sets them, jupyter mlops params NOTEBOOK --tag",
        )
    return parameter or Parameter(name=name, optional=True)


def _missing(parameter: Parameter) -> ParameterError:
    return ParameterError(
        f"The parameter '{parameter.name}' ({parameter.type_name}) has no default and was not set.",
        hint=f"Set it: -p {parameter.name}={_EXAMPLES[parameter.type]}",
        code="parameter_missing",
    )


def _wrong(parameter: Parameter, given: object, *, also: str = "") -> ParameterError:
    words = _WORDS[parameter.type]
    if parameter.choices:
        words = f"one of {', '.join(map(repr, parameter.choices))}"
    elif parameter.optional:
        words += " or none"
    hint = f"For example: -p {parameter.name}={_EXAMPLES[parameter.type]}" if not parameter.choices else ""
    if parameter.type is ParameterType.INT and not parameter.annotation and _looks_like_float(given):
        hint = f"Its default is a whole number. Write `{parameter.name}: float = ...` if it may be a fraction."
    return ParameterError(f"The parameter '{parameter.name}' takes {words}, not {_shown(given)}{also}.", hint=hint)


def _looks_like_float(given: object) -> bool:
    try:
        return isinstance(given, float) or (isinstance(given, str) and math.isfinite(float(given)))
    except ValueError:
        return False


def _from_text(parameter: Parameter, text: str) -> JSONValue:
    kind = parameter.type
    if parameter.choices:
        for choice in parameter.choices:
            if text == (choice if isinstance(choice, str) else str(choice)):
                return choice
    if parameter.optional and text.strip().casefold() in ("none", "null"):
        return None
    if kind is ParameterType.STR:
        return text
    if kind is ParameterType.BOOL and text.strip().casefold() in _TRUTH:
        return _TRUTH[text.strip().casefold()]
    if kind in (ParameterType.INT, ParameterType.FLOAT):
        return _number(parameter, text)
    if kind is ParameterType.BOOL:
        raise _wrong(parameter, text)
    return _literal(parameter, text)


def _number(parameter: Parameter, text: str) -> int | float:
    if parameter.type is ParameterType.INT:
        _few_digits(parameter, text)
        try:
            return int(text)
        except ValueError:
            raise _wrong(parameter, text) from None
    try:
        number = float(text)
    except ValueError:
        raise _wrong(parameter, text) from None
    if math.isinf(number) and "inf" not in text.casefold():
        raise _wrong(parameter, text, also=": it is too large for a float")
    return number


def _few_digits(parameter: Parameter, text: str) -> None:
    found = re.fullmatch(r"\s*[-+]?([\d_]+)\s*", text) if len(text) > MOST_DIGITS else None
    if found is not None and len(found[1].replace("_", "")) > MOST_DIGITS:
        raise ParameterError(
            f"The parameter '{parameter.name}' was given a number of more than {MOST_DIGITS:,} digits.",
            hint="Give it as text, or compute it in the notebook.",
        )


def _literal(parameter: Parameter, text: str) -> JSONValue:
    _few_digits(parameter, text)
    found: Any = text
    try:
        try:
            found = parse_json(text)
        except (ValueError, RecursionError):
            # Python would drop what it takes for a comment: `3 #fff` is text.
            if not has_comment(text):
                found = _python_literal(text.strip())
    except UnfitError as error:
        raise ParameterError(
            f"The parameter '{parameter.name}' cannot be {_shown(text)}: {error}.",
            hint="Give what does not fit as text, or leave it out.",
        ) from error
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        pass
    if isinstance(found, (bytes, complex)) or found is Ellipsis:
        found = text
    if parameter.type is not ParameterType.ANY and isinstance(found, str):
        raise _wrong(parameter, text)
    return found


def _python_literal(text: str) -> Any:
    """The value of a Python literal, held to what `parse_json` holds JSON to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(text, mode="eval")
        value = ast.literal_eval(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float) and math.isinf(node.value):
            raise UnfitError(too_large(ast.get_source_segment(text, node) or "a number"))
        if isinstance(node, ast.Dict):
            names = Counter(key.value for key in node.keys if isinstance(key, ast.Constant))
            if names and (name := names.most_common(1)[0])[1] > 1:
                raise UnfitError(twice(str(name[0])))
    return value


def _fitting(parameter: Parameter, value: JSONValue) -> JSONValue:
    """The value if the parameter takes it."""
    kind = parameter.type
    if value is None and (parameter.optional or kind is ParameterType.ANY):
        return None
    if kind is ParameterType.FLOAT and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise _wrong(parameter, value, also=": it is too large for a float") from None
    python = {
        ParameterType.BOOL: bool, ParameterType.INT: int, ParameterType.FLOAT: float,
        ParameterType.STR: str, ParameterType.LIST: list, ParameterType.DICT: dict,
    }.get(kind)  # fmt: skip
    if python is not None and type(value) is not python:  # a bool is an int to isinstance
        raise _wrong(parameter, value)
    chosen = [choice for choice in parameter.choices if type(choice) is type(value) and choice == value]
    if parameter.choices and not chosen:
        raise _wrong(parameter, value)
    return value


class _Size:
    """Copies values into plain ones and stops where all of them together are too large.

    Copying counts: a few lines of YAML with aliases can stand for gigabytes.
    """

    def __init__(self) -> None:
        self._left = SIZE_LIMIT

    def plain(self, value: object, name: str, depth: int = 0) -> JSONValue:
        """The value in JSON's own types; what derives from one of them (NumPy's, enums) becomes it.

        Raises:
            ParameterError: it, or something in it, has no word in JSON or is not UTF-8.
            _TooLargeError: the limit is reached.
        """
        self._take(4)
        if depth > _DEEPEST:
            raise ParameterError(
                f"The value of '{name}' is nested more than {_DEEPEST} levels deep.",
                hint="Put it into a file and give the file's path.",
            )
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._text(value, name)
        if isinstance(value, (int, float, numbers.Integral, numbers.Real)):
            return self._number(value, name)
        if type(value).__module__ == "numpy" and type(value).__name__ in ("bool", "bool_"):
            return bool(value)  # the one scalar of NumPy that is no number
        if isinstance(value, (list, tuple)):
            return [self.plain(item, name, depth + 1) for item in value]
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {self._text(key, name): self.plain(item, name, depth + 1) for key, item in value.items()}
        what = "a mapping with keys that are no text" if isinstance(value, dict) else f"a {type(value).__name__}"
        raise ParameterError(
            f"The value of '{name}' is, or holds, {what}, which cannot be recorded.",
            hint="A value is text, a number, true, false, none, a list, or a mapping with text as keys.",
        )

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise _TooLargeError

    def _text(self, value: str, name: str) -> str:
        text = str.__str__(value)
        try:
            self._take(len(text.encode("utf-8")))
        except UnicodeEncodeError as error:
            raise ParameterError(
                f"The value of '{name}' is not Unicode text: character {error.start + 1} is half of a pair.",
                hint="Give it in UTF-8.",
            ) from error
        return text

    def _number(self, value: Any, name: str) -> int | float:
        if isinstance(value, float) or not isinstance(value, numbers.Integral):
            if isinstance(value, numbers.Rational):
                raise ParameterError(
                    f"The value of '{name}' is a {type(value).__name__}, which cannot be recorded.",
                    hint="Give a float.",
                )
            return float(value)
        number = int(value)
        self._take(number.bit_length() // 3)
        if is_too_long(number):
            raise ParameterError(
                f"The parameter '{name}' was given a number of more than {MOST_DIGITS:,} digits.",
                hint="Give it as text, or compute it in the notebook.",
            )
        return number


def _too_large() -> ParameterError:
    return ParameterError(
        f"The parameters are larger than {SIZE_LIMIT // 2**20} MiB together.",
        hint="Put large data into a file, give the file's path as a parameter and ship it with --include.",
        code="parameter_size",
    )


def _shown(value: object) -> str:
    """A value for a message: cut, on one line, and nothing invisible in it."""
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else text[:_SHOWN] + "…"
