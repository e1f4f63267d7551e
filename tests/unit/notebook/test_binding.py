"""Text and values that a person sets: what becomes of them, and what is refused before anything starts."""

from __future__ import annotations

import contextlib
import enum
import json
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.errors import ConfigError, ParameterError
from jupyter_mlops.notebook.parameters import SIZE_LIMIT, bind_parameters, parse_assignments, read_parameters

from .values import HOSTILE_TEXTS, finite_values, same, short, texts, values

SECRET = r"(?i)(password|token|secret)"
ANY = "x = f()"


def bind(
    source: str, values: Mapping[Any, Any] | None = None, *, any_name: bool = False, **text: str
) -> dict[str, Any]:
    """Bind against the parameters that the source of a cell declares."""
    nb = v4.new_notebook(cells=[v4.new_code_cell(source, metadata={"tags": ["parameters"]})])
    return bind_parameters(
        read_parameters(nb), text=text, values=values or {}, secret_pattern=SECRET, any_name=any_name
    )


def refused(source: str, values: Mapping[Any, Any] | None = None, **text: str) -> ParameterError:
    with pytest.raises(ParameterError) as caught:
        bind(source, values, **text)
    assert len(caught.value.message) < 400
    return caught.value


@pytest.mark.parametrize(
    ("item", "name", "value"),
    [("a=1", "a", "1"), ("a=", "a", ""), ("a==b=c", "a", "=b=c"), (" a = 1 ", "a", " 1 "), ("a=x\ny", "a", "x\ny")],
)
def test_the_first_equals_sign_splits(item: str, name: str, value: str) -> None:
    assert parse_assignments([item]) == {name: value}


def test_the_last_of_two_assignments_counts() -> None:
    assert parse_assignments(["a=1", "b=2", "a=3"]) == {"a": "3", "b": "2"}


@pytest.mark.parametrize("item", ["a", "", "=1", " =1", "\x1b[31m" * 100])
def test_what_is_no_assignment_is_refused_and_shown_harmless(item: str) -> None:
    with pytest.raises(ParameterError, match="not of the form name=value") as caught:
        parse_assignments([item])
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 200


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), texts)
def test_an_assignment_is_split_or_refused_and_loses_nothing(name: str, value: str) -> None:
    try:
        found = parse_assignments([f"{name}={value}"])
    except ParameterError:
        assert not name.partition("=")[0].strip()
    else:
        first, _, rest = name.partition("=")
        assert found == {first.strip(): f"{rest}={value}" if "=" in name else value}


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        ("x: bool = True", "false", False), ("x: bool = True", "NO", False), ("x: bool = True", " off ", False),
        ("x: bool = True", "0", False), ("x: bool = False", "true", True), ("x: bool = False", "Yes", True),
        ("x: bool = False", "on", True), ("x: bool = False", "1", True), ("x: bool = False", "TRUE", True),
        ("x: int = 1", "3", 3), ("x: int = 1", " -3 ", -3), ("x: int = 1", "1_000", 1000),
        ("x: int = 1", "9" * 4000, int("9" * 4000)),
        ("x: float = 1", "3", 3.0), ("x: float = 1", "1e-3", 0.001), ("x: float = 1", "nan", math.nan),
        ("x: float = 1", "-Infinity", -math.inf), ("x: float = 1", "-0", -0.0), ("x: float = 1", ".5", 0.5),
        ("x: str = ''", "3", "3"), ("x: str = ''", "", ""), ("x: str = ''", " a ", " a "),
        ("x: str = ''", "none", "none"), ("x: str = ''", '"a"', '"a"'), ("x: str | None = ''", "None", None),
        ("x: str | None = ''", " null ", None), ("x: int | None = 1", "none", None), ("x = None", "none", None),
        ("x: list = []", "[1, 2]", [1, 2]), ("x: list = []", "['a', (1, 2)]", ["a", [1, 2]]),
        ("x: list[int] = []", "(1, 2)", [1, 2]), ("x: list = []", "[NaN, Infinity]", [math.nan, math.inf]),
        ("x: dict = {}", '{"a": null}', {"a": None}), ("x: dict = {}", "{'a': None}", {"a": None}),
        ("x: dict[str, int] | None = {}", "none", None),
        (ANY, "3", 3), (ANY, "true", True), (ANY, "True", True), (ANY, "null", None), (ANY, "None", None),
        (ANY, "yes", "yes"), (ANY, "a b", "a b"), (ANY, "'a b'", "a b"), (ANY, '"a"', "a"), (ANY, "", ""),
        (ANY, "3 #fff", "3 #fff"), (ANY, "#fff", "#fff"), (ANY, "f()", "f()"), (ANY, "1+2j", "1+2j"),
        (ANY, "b'a'", "b'a'"), (ANY, "...", "..."), (ANY, "1e400 is much", "1e400 is much"), (ANY, "nan", "nan"),
        (ANY, "NaN", math.nan), (ANY, "2024-01-01", "2024-01-01"), (ANY, "010", "010"), (ANY, "1e3", 1000.0),
        (ANY, "[" * 100_000, "[" * 100_000), (ANY, "-" * 100_000 + "1", "-" * 100_000 + "1"),
        (ANY, "__import__('os').system('id')", "__import__('os').system('id')"), (ANY, "nul\0", "nul\0"),
        ("x: Literal['a', 'b'] = 'a'", "b", "b"), ("x: Literal[1, 2] = 1", "2", 2),
        ("x: Literal[True, False] = True", "no", False), ("x: Literal['1', 1] = 1", "1", "1"),
        ("x: Literal['none'] | None = None", "none", "none"), ("x: Literal['a', None] = 'a'", "null", None),
        ("x: Union[int, str] = 1", "3", 3), ("x: Union[int, str] = 1", "a", "a"), ("x: int | float = 1", "3", 3.0),
    ],
    ids=short,
)  # fmt: skip
def test_text_is_read_by_the_declared_type(declared: str, text: str, value: Any) -> None:
    assert same(bind(declared, x=text), {"x": value})


@pytest.mark.parametrize(
    ("declared", "text", "said"),
    [
        ("x: bool = True", "maybe", "true or false"), ("x: bool = True", "2", "true or false"),
        ("x: bool = True", "none", "true or false"), ("x: int = 1", "1.0", "a whole number"),
        ("x: int = 1", "1e3", "a whole number"), ("x: int = 1", "0x10", "a whole number"),
        ("x: int = 1", "", "a whole number"), ("x: int = 1", "true", "a whole number"),
        ("x: int | None = 1", "nothing", "a whole number or none"), ("x: float = 1", "fast", "a number"),
        ("x: float = 1", "1,5", "a number"), ("x: float = 1", "1e400", "too large for a float"),
        ("x: float = 1", "9" * 400, "too large for a float"), ("x: int = 1", "9" * 4001, "more than 4,000 digits"),
        ("x: list = []", "1", "a list"), ("x: list = []", "{}", "a list"), ("x: list = []", "a", "a list"),
        ("x: list = []", "'a'", "a list"), ("x: list = []", "[1, 2", "a list"), ("x: list = []", "none", "a list"),
        ("x: list = []", "[f()]", "a list"), ("x: list = []", "[1] # c", "a list"),
        ("x: list = []", "{1, 2}", "a set, which cannot be recorded"),
        ("x: list = []", "[b'a']", "a bytes, which cannot be recorded"),
        ("x: dict = {}", "[]", "a mapping"), ("x: dict = {}", "{1: 2}", "keys that are no text"),
        ("x: dict = {}", "{'a': 1, 'a': 2}", "'a' is there twice"),
        ("x: dict = {}", '{"a": 1, "a": 2}', "'a' is there twice"),
        ("x: dict = {}", '{"b": {"a": 1, "a": 2}}', "'a' is there twice"),
        (ANY, "[1e400]", "1e400 is too large"), (ANY, "['a', -1e999]", "1e999 is too large"),
        (ANY, "[" + "9" * 5000 + "]", "more than 4,000 digits"), (ANY, "0x" + "f" * 5000, "more than 4,000 digits"),
        (ANY, "[" * 62 + "]" * 62, "more than 60 levels"), (ANY, "-" + "9" * 4001, "more than 4,000 digits"),
        ("x: Literal['a', 'b'] = 'a'", "c", "one of 'a', 'b'"), ("x: Literal[1, 2] = 1", "3", "one of 1, 2"),
        ("x: Literal['a'] = 'a'", "'a'", "one of 'a'"), ("x: Literal[1, 'a'] = 1", "true", "one of 1, 'a'"),
    ],
    ids=short,
)  # fmt: skip
def test_text_of_the_wrong_type_is_refused_with_what_is_due(declared: str, text: str, said: str) -> None:
    error = refused(declared, x=text)
    assert "'x'" in error.message
    assert said in error.message


def test_a_fraction_for_a_whole_default_is_told_how_to_declare_it() -> None:
    assert "Write `x: float = ...`" in refused("x = 1", x="0.5").hint
    assert "-p x=10" in refused("x: int = 1", x="0.5").hint


class Color(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("declared", "given_value", "value"),
    [
        ("x: float = 1", 3, 3.0), ("x: float = 1", np.float32(0.5), 0.5), ("x: int = 1", np.int64(3), 3),
        ("x: bool = True", np.bool_(False), False), ("x: str = ''", np.str_("a"), "a"), ("x: str = ''", Color.RED, "red"),
        ("x: int = 1", Level.HIGH, 3), ("x: list = []", (1, (2,)), [1, [2]]), ("x: dict = {}", OrderedDict(a=1), {"a": 1}),
        (ANY, None, None), (ANY, {"a": [Color.RED, np.float64(-0.0)]}, {"a": ["red", -0.0]}),
        ("x: int | None = 1", None, None),
    ],
    ids=short,
)  # fmt: skip
def test_values_become_plain_ones(declared: str, given_value: Any, value: Any) -> None:
    bound = bind(declared, {"x": given_value})
    assert same(bound, {"x": value})


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("x: float = 1", "3"), ("x: float = 1", True), ("x: float = 1", 10**400), ("x: int = 1", 3.0),
        ("x: int = 1", True), ("x: bool = True", 1), ("x: bool = True", "true"), ("x: str = ''", 1),
        ("x: str = ''", None), ("x: list = []", "[]"), ("x: dict = {}", [1]), ("x: int = 1", None),
        ("x: Literal[1] = 1", True), ("x: Literal['a'] = 'a'", "b"),
        (ANY, date(2024, 1, 1)), (ANY, b"a"), (ANY, {1, 2}), (ANY, Decimal("1")), (ANY, Fraction(1, 2)), (ANY, 1j),
        (ANY, Path("a")), (ANY, Ellipsis), (ANY, {1: 2}), (ANY, [{None: 1}]), (ANY, np.zeros(2)), (ANY, float),
        (ANY, 10**4001), (ANY, "half \ud83d"), (ANY, {"\ud83d": 1}), (ANY, np.datetime64("2024-01-01")),
    ],
    ids=short,
)  # fmt: skip
def test_values_of_another_type_are_refused_and_not_converted(declared: str, value: Any) -> None:
    assert "'x'" in refused(declared, {"x": value}).message


def test_a_value_that_holds_itself_is_refused() -> None:
    circular: list[Any] = []
    circular.append(circular)
    assert "60 levels" in refused(ANY, {"x": circular}).message


@pytest.mark.parametrize("name", ["1a", "", "a b", "a-b", "for", "None", "__debug__", "a=1", "x\ny", "a;b", "\ud83d"])
def test_a_name_that_cannot_be_assigned_is_refused(name: str) -> None:
    for any_name in (False, True):
        with pytest.raises(ParameterError, match="cannot be the name of a parameter") as caught:
            bind("x = 1", {name: 1}, any_name=any_name)
        caught.value.message.encode()


@pytest.mark.parametrize("name", [1, None, ("a",), b"a"])
def test_a_name_that_is_no_text_is_refused(name: object) -> None:
    assert "cannot be the name" in refused("x = 1", {name: 1}).message


def test_a_name_that_python_reads_as_another_is_told_so() -> None:
    assert "as 'fi'" in refused("fi = 1", {"ﬁ": 2}).message


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    error = refused("learning_rate = 0.1\ndepth = 3", lerning_rate="1")
    assert "no parameter 'lerning_rate'" in error.message
    assert "Did you mean 'learning_rate'?" in error.hint
    assert "--tag" in refused("import os", lr="1").hint


def test_any_name_is_taken_where_nobody_can_inspect() -> None:
    assert bind("import os", any_name=True, lr="0.1", who="none") == {"lr": 0.1, "who": None}


def test_a_missing_value_is_refused_with_how_to_set_it() -> None:
    error = refused("data: str\nn: int = ...")
    assert "'data' (str) has no default" in error.message
    assert "'n' (int) has no default" in error.message
    assert "-p data=text" in error.hint
    assert bind("data: str", data="") == {"data": ""}
    assert refused("data: str").code == "parameter_missing"


def test_all_problems_are_told_at_once() -> None:
    error = refused("a: int = 1\nb: bool = True\nc: str", {"z": 1}, a="x", b="y")
    assert len(error.message.splitlines()) == 4


@pytest.mark.parametrize("name", ["api_token", "DB_PASSWORD", "secret"])
def test_a_secret_is_refused_and_its_value_is_not_shown(name: str) -> None:
    error = refused(f"{name} = ''", **{name: "hunter2"})
    assert error.code == "parameter_secret"
    assert f'os.environ["{name.upper()}"]' in error.hint
    assert "hunter2" not in str(error.as_dict())


def test_a_number_is_no_secret() -> None:
    assert bind("max_tokens: int = 100", max_tokens="5") == {"max_tokens": 5}


def test_a_broken_pattern_of_secrets_is_told() -> None:
    with pytest.raises(ConfigError, match="secret_pattern"):
        bind_parameters([], text={}, values={}, secret_pattern="(")


def test_text_wins_over_a_value_and_the_value_is_not_even_looked_at() -> None:
    assert bind("x: int = 1", {"x": "wrong"}, x="2") == {"x": 2}


def test_the_order_is_the_one_that_was_given() -> None:
    assert list(bind("a = 1\nb = 1\nc = 1", {"c": 3, "a": 1}, b="2")) == ["c", "a", "b"]


def test_a_megabyte_is_taken_and_more_is_not() -> None:
    fits = "x" * (SIZE_LIMIT - 100)
    assert bind("x: str = ''", x=fits) == {"x": fits}
    for given_text, given_values in (({"x": "x" * (SIZE_LIMIT + 1)}, {}), ({}, {"x": "é" * (SIZE_LIMIT // 2 + 1)})):
        error = refused("x: str = ''", given_values, **given_text)
        assert error.code == "parameter_size"
        assert "1 MiB" in error.message


def test_all_values_together_are_limited() -> None:
    assert refused("a = ''\nb = ''", {"a": "x" * 600_000, "b": "x" * 600_000}).code == "parameter_size"


def test_a_few_lists_that_stand_for_gigabytes_are_refused_at_once() -> None:
    bomb: Any = ["x"] * 9
    for _ in range(12):
        bomb = [bomb] * 9
    begin = time.process_time()
    assert refused(ANY, {"x": bomb}).code == "parameter_size"
    assert time.process_time() - begin < 10


@pytest.mark.parametrize(
    "text",
    ["1" * 1_000_000, " " * 1_000_000, "(" * 1_000_000, "'" * 100_000 + "#", "1." * 100_000, "[1," * 50_000,
     "\\\n" * 30_000 + "#", "(\n" * 20_000 + "#", "not " * 50_000, "{" * 30_000 + "#", "f'{" * 50_000],
    ids=short,
)  # fmt: skip
@pytest.mark.parametrize("declared", [ANY, "x: int = 1", "x: float = 1.0"])
def test_no_text_takes_long_to_be_read_or_refused(declared: str, text: str) -> None:
    begin = time.process_time()
    with contextlib.suppress(ParameterError):
        assert bind(declared, x=text)["x"] == text
    assert time.process_time() - begin < 10


@settings(deadline=None, max_examples=50)
@given(texts)
def test_text_arrives_as_it_is(text: str) -> None:
    assert bind("x: str = ''", x=text) == {"x": text}


@settings(deadline=None, max_examples=50)
@given(values)
def test_a_value_arrives_as_it_is(value: Any) -> None:
    assert same(bind(ANY, {"x": value}), {"x": value})


@settings(deadline=None, max_examples=50)
@given(values, st.booleans())
def test_json_on_the_command_line_is_the_value(value: Any, ascii_only: bool) -> None:
    assert same(bind(ANY, x=json.dumps(value, ensure_ascii=ascii_only)), {"x": value})


@settings(deadline=None, max_examples=50)
@given(finite_values)
def test_a_python_literal_on_the_command_line_is_the_value(value: Any) -> None:
    assert same(bind(ANY, x=repr(value)), {"x": value})


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.characters()) | st.sampled_from(HOSTILE_TEXTS), st.sampled_from(["bool", "int", "float", "list", "dict"])
)
def test_any_text_becomes_a_value_of_the_type_or_is_refused_in_words(text: str, kind: str) -> None:
    try:
        value = bind(f"x: {kind} = y", x=text)["x"]
    except ParameterError as error:
        refusal = error.message
    else:
        assert type(value).__name__ == kind
        return
    refusal.encode()
    assert refusal.isprintable()
