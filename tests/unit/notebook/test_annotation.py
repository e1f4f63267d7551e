"""What annotations, literals and simple expressions say about a value, without executing them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_mlops.notebook.annotation import (
    ANY_TYPE,
    DeclaredType,
    ParameterType,
    declared_type,
    has_comment,
    is_plain,
    is_variable,
    literal_value,
    parse_expression,
    type_of_source,
)

from .values import finite_values, same, short

BOOL, INT, FLOAT, STR, LIST, DICT, ANY = (
    ParameterType.BOOL, ParameterType.INT, ParameterType.FLOAT, ParameterType.STR, ParameterType.LIST,
    ParameterType.DICT, ParameterType.ANY,
)  # fmt: skip


def said(annotation: str) -> DeclaredType:
    node = parse_expression(annotation)
    assert node is not None
    return declared_type(node)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("bool", BOOL), ("int", INT), ("float", FLOAT), ("str", STR), ("list", LIST), ("dict", DICT),
        ("list[int]", LIST), ("List[str]", LIST), ("typing.List[str]", LIST), ("t.Sequence[int]", LIST),
        ("collections.abc.Iterable[str]", LIST), ("tuple[int, ...]", LIST), ("set[str]", LIST),
        ("dict[str, int]", DICT), ("Mapping[str, Any]", DICT), ("typing.Dict[str, list[int]]", DICT),
        ("Final[int]", INT), ("Annotated[float, 'between 0 and 1']", FLOAT), ("typing.Annotated[int, Gt(0)]", INT),
        ("'int'", INT), ("'list[int]'", LIST), ("\"'int'\"", INT), ("builtins.int", INT),
        ("Any", ANY), ("object", ANY), ("np.float64", ANY), ("pd.DataFrame", ANY), ("mine.list", ANY),
        ("Callable[[int], str]", ANY), ("3", ANY), ("'not an expression ['", ANY), ("f()", ANY), ("b'int'", ANY),
    ],
    ids=short,
)  # fmt: skip
def test_an_annotation_names_the_type_of_what_json_brings(annotation: str, kind: ParameterType) -> None:
    assert said(annotation) == DeclaredType(kind)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("int | None", INT), ("None | int", INT), ("Optional[int]", INT), ("typing.Optional[list[int]]", LIST),
        ("Union[int, None]", INT), ("Union[None, str]", STR), ("'str | None'", STR), ("Optional[Optional[str]]", STR),
        ("Annotated[int | None, 'x']", INT), ("str | Literal[None]", STR), ("int | float | None", FLOAT),
        ("int | str | None", ANY), ("None", ANY),
    ],
    ids=short,
)  # fmt: skip
def test_none_in_an_annotation_makes_it_optional(annotation: str, kind: ParameterType) -> None:
    assert said(annotation)[:2] == (kind, True)


@pytest.mark.parametrize(
    ("annotation", "declared"),
    [
        ("int | float", DeclaredType(FLOAT)),
        ("int | int", DeclaredType(INT)),
        ("list[int] | list[str]", DeclaredType(LIST)),
        ("int | str", ANY_TYPE),
        ("Union[int, str, bool]", ANY_TYPE),
        ("int | pd.DataFrame", ANY_TYPE),
    ],
)
def test_a_union_is_a_type_only_if_its_members_agree(annotation: str, declared: DeclaredType) -> None:
    assert said(annotation) == declared


@pytest.mark.parametrize(
    ("annotation", "declared"),
    [
        ("Literal['a', 'b']", DeclaredType(STR, choices=("a", "b"))),
        ("typing.Literal[1, -1]", DeclaredType(INT, choices=(1, -1))),
        ("Literal[True, False]", DeclaredType(BOOL, choices=(True, False))),
        ("Literal['a', 1]", DeclaredType(ANY, choices=("a", 1))),
        ("Literal['a', None]", DeclaredType(STR, optional=True, choices=("a", None))),
        ("Literal['a'] | None", DeclaredType(STR, optional=True, choices=("a",))),
        ("Literal['a'] | Literal['b']", DeclaredType(STR, choices=("a", "b"))),
        ("Literal[Literal['a'], 'b']", DeclaredType(STR, choices=("a", "b"))),
        ("Literal['a'] | str", DeclaredType(STR)),
        ("Literal['a'] | Literal[1]", ANY_TYPE),
    ],
)
def test_literals_are_the_only_values(annotation: str, declared: DeclaredType) -> None:
    assert said(annotation) == declared


@pytest.mark.parametrize(
    "annotation",
    ["Literal[Color.RED]", "Literal['a', Color.RED]", "Literal[b'a']", "Literal['\\ud83d']", "Literal[int[str]]",
     "Literal[()]", "Annotated[()]", "Union[()]", "Literal[0x" + "f" * 5000 + "]"],
)  # fmt: skip
def test_what_cannot_be_seen_from_here_limits_nothing(annotation: str) -> None:
    assert said(annotation) == ANY_TYPE


@pytest.mark.parametrize("annotation", ["Optional[" * 500 + "int" + "]" * 500, "|".join(["int"] * 900), "Optional[()]"])
def test_a_monstrous_annotation_is_no_error(annotation: str) -> None:
    node = parse_expression(annotation)
    assert node is None or declared_type(node).type is ANY


@pytest.mark.parametrize("text", ["x[", "", "a b", "x = 1", "nul\0", "\ud83d", "-" * 100_000, "[" * 100_000])
def test_what_is_no_expression_is_none(text: str) -> None:
    assert parse_expression(text) is None


@settings(deadline=None, max_examples=40)
@given(finite_values)
def test_a_literal_is_known_by_its_value(value: Any) -> None:
    node = parse_expression(repr(value))
    assert node is not None
    known, found = literal_value(node)
    assert known
    assert same(found, value)


@pytest.mark.parametrize(
    ("source", "value"),
    [("float('nan')", math.nan), ("float('-inf')", -math.inf), ("-float('inf')", -math.inf), ("-0.0", -0.0),
     ("[1, {'a': None}]", [1, {"a": None}]), ("'a' 'b'", "ab"), ("1_000", 1000), ("0x1f", 31), ("+1", 1)],
)  # fmt: skip
def test_the_spellings_of_a_literal(source: str, value: Any) -> None:
    node = parse_expression(source)
    assert node is not None
    known, found = literal_value(node)
    assert known
    assert same(found, value)


@pytest.mark.parametrize(
    "source",
    ["(1, 2)", "{1, 2}", "b'a'", "1j", "...", "{1: 2}", "x", "f()", "f'a'", "float('1.5')", "float(x)", "float('a')",
     "float('inf', 1)", "'\\ud83d'", "['\\ud83d']", "{'\\ud83d': 1}", "[" * 70 + "]" * 70, "0x" + "f" * 5000],
)  # fmt: skip
def test_what_json_has_no_word_for_is_no_literal(source: str) -> None:
    node = parse_expression(source)
    assert node is not None
    assert literal_value(node) == (False, None)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("(1, 2)", LIST), ("{1, 2}", LIST), ("[x for x in y]", LIST), ("{**a}", DICT), ("f'{x}'", STR),
        ("int(x)", INT), ("dict(a=1)", DICT), ("tuple(x)", LIST), ("Sequence(x)", ANY), ("f()", ANY), ("x", ANY),
        ("60 * 60", INT), ("2**10", INT), ("1 / 3", FLOAT), ("-1.5 * 2", FLOAT), ("7 // 2", INT), ("2**-x", ANY),
        ("True + 1", ANY), ("1 if x else 2", ANY), ("1e-3 ** 2", FLOAT), ("1 << 3", ANY), ("x.y", ANY),
    ],
    ids=short,
)  # fmt: skip
def test_the_type_of_an_expression_is_seen_as_far_as_syntax_shows_it(source: str, kind: ParameterType) -> None:
    assert type_of_source(parse_expression(source)) is kind


def test_a_sum_of_any_length_is_no_error() -> None:
    node = parse_expression("+".join(["1"] * 950))
    assert type_of_source(node) in (INT, ANY)


@pytest.mark.parametrize(
    ("text", "has"),
    [("3 #fff", True), ("'#fff'", False), ("#", True), ("", False), ("a", False), ("'a' # b", True),
     ("'''\n#\n'''", False), ("(#", True), ("'#", True)],
)  # fmt: skip
def test_a_comment_is_what_python_would_leave_out(text: str, has: bool) -> None:
    assert has_comment(text) is has


@pytest.mark.parametrize("name", ["x", "_", "lr_2", "é", "match", "type"])
def test_a_word_is_a_variable(name: str) -> None:
    assert is_variable(name)


@pytest.mark.parametrize(
    "name", ["", "1a", "a b", "a-b", "a.b", "a=1", "for", "None", "__debug__", "x\n", "ﬁ", "𝐱", "a;b", "\ud83d"]
)
def test_a_name_that_python_does_not_read_as_it_is_written_is_no_variable(name: str) -> None:
    assert not is_variable(name)


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=12))
def test_a_variable_can_be_assigned_and_found_under_its_name(name: str) -> None:
    if is_variable(name):
        namespace: dict[str, Any] = {}
        exec(f"{name} = 1", namespace)
        assert namespace[name] == 1


def test_a_plain_value_is_one_that_json_can_say() -> None:
    circular: list[Any] = []
    circular.append(circular)
    for value in (circular, object(), (1,), {1: 2}, b"a", "\ud83d", {"\ud83d": 1}, 10**4001):
        assert not is_plain(value)
    for plain in (None, True, 10**3999, math.nan, "é", [], {"a": [{}]}):
        assert is_plain(plain)
