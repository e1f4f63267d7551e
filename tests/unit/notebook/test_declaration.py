"""What the cell tagged `parameters` declares, in Python and in other languages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from nbformat import NotebookNode, v4

from jupyter_mlops.notebook.annotation import ParameterType
from jupyter_mlops.notebook.declaration import (
    Parameter,
    accepts_any_name,
    parameters_cell_index,
    parse_cell,
    read_parameters,
)
from jupyter_mlops.notebook.document import read_notebook

from .values import finite_values, names, same, short


def notebook(source: str, language: str = "python", kernel: str = "") -> NotebookNode:
    nb = v4.new_notebook(cells=[v4.new_code_cell(source, metadata={"tags": ["parameters"]})])
    nb.metadata["language_info"] = {"name": language}
    if kernel:
        nb.metadata["kernelspec"] = {"name": kernel, "display_name": kernel}
    return nb


def declared(source: str) -> dict[str, Parameter]:
    return {parameter.name: parameter for parameter in read_parameters(notebook(source))}


def only(source: str) -> Parameter:
    (parameter,) = read_parameters(notebook(source))
    return parameter


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("lr = 0.1", Parameter(name="lr", type=ParameterType.FLOAT, default=0.1)),
        ("lr: float = 1", Parameter(name="lr", type=ParameterType.FLOAT, annotation="float", default=1)),
        ("n = 3  # how many", Parameter(name="n", type=ParameterType.INT, default=3, help="how many")),
        ("n = 3 # type: float how much",
         Parameter(name="n", type=ParameterType.FLOAT, annotation="float", default=3, help="how much")),
        ("on = True", Parameter(name="on", type=ParameterType.BOOL, default=True)),
        ("x = None", Parameter(name="x", optional=True)),
        ("x: int = None", Parameter(name="x", type=ParameterType.INT, annotation="int", optional=True)),
        ("x: str", Parameter(name="x", type=ParameterType.STR, annotation="str", required=True)),
        ("x: str = ...", Parameter(name="x", type=ParameterType.STR, annotation="str", required=True)),
        ("x = ...", Parameter(name="x", required=True)),
        ("x: Final = 3", Parameter(name="x", type=ParameterType.INT, annotation="Final", default=3)),
        ("x = f(1)", Parameter(name="x", default_source="f(1)")),
        ("x: int = f(1)", Parameter(name="x", type=ParameterType.INT, annotation="int", default_source="f(1)")),
        ("x = (1, 2)", Parameter(name="x", type=ParameterType.LIST, default_source="(1, 2)")),
        ("x = 60 * 60", Parameter(name="x", type=ParameterType.INT, default_source="60 * 60")),
        ("x: Literal['a', 'b', None] = 'a'",
         Parameter(name="x", type=ParameterType.STR, annotation="Literal['a', 'b', None]", optional=True,
                   choices=("a", "b"), default="a")),
        ("x = '''a\n# no comment\n'''  # a comment",
         Parameter(name="x", type=ParameterType.STR, default="a\n# no comment\n", help="a comment")),
        ("x = 'a = b'  # c = d", Parameter(name="x", type=ParameterType.STR, default="a = b", help="c = d")),
        ("x = [\n  1,  # one\n  2,\n]  # numbers",
         Parameter(name="x", type=ParameterType.LIST, default=[1, 2], help="numbers")),
        ("ﬁ = 1", Parameter(name="fi", type=ParameterType.INT, default=1)),
    ],
)  # fmt: skip
def test_an_assignment_declares_a_parameter(source: str, expected: Parameter) -> None:
    assert only(source) == expected


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", []),
        ("# only a comment", []),
        ("a = b = 1", ["a", "b"]),
        ("a, b = 1, 'x'", ["a", "b"]),
        ("a, b = f()", []),
        ("a, b = 1, 2, 3", []),
        ("a.b = 1\na[0] = 1\na.b: int = 1", []),
        ("import os\nif x:\n    a = 1\ndef f():\n    b = 1\nc = 1", ["c"]),
        ("a += 1", []),
        ("%load_ext autoreload\n!ls \"it's\nlr = 0.1", ["lr"]),
        ("a = 1; b = 2", ["a", "b"]),
    ],
)
def test_only_assignments_to_names_at_the_top_declare(source: str, found: list[str]) -> None:
    assert list(declared(source)) == found


def test_an_annotation_apart_from_its_value_belongs_to_it() -> None:
    above, below = only("lr: float  # the rate\nlr = 1"), only("lr = 1\nlr: float")
    assert (above.type, above.default, above.required, above.help) == (ParameterType.FLOAT, 1, False, "the rate")
    assert (below.type, below.default, below.required) == (ParameterType.FLOAT, 1, False)


def test_the_last_of_two_values_counts() -> None:
    assert only("x: int = 1\nx = 2").default == 2
    assert only("x = 1\nx = x * 2").default_source == "x * 2"


def test_the_comment_after_a_magic_with_an_open_quote_is_found() -> None:
    assert only("!echo it's $HOME\nlr = 0.1  # the rate").help == "the rate"


def test_a_cell_with_a_line_of_a_string_that_looks_like_a_magic_is_read_as_it_is() -> None:
    assert only('x = """\n%a\n!b\n"""').default == "\n%a\n!b\n"


@pytest.mark.parametrize(
    "source",
    [
        "x = 0x" + "f" * 5000,
        "x = [0x" + "f" * 5000 + ", y]",
        "x: Annotated[int, 0x" + "f" * 5000 + "] = 1",
        "x = " + "+".join(["1"] * 950),
        "x = f(" + "+".join(["a"] * 950) + ")",
        "x: " + "|".join(["int"] * 950) + " = 1",
        "x = " + "[" * 80 + "]" * 80,
        "x = '" + "a" * 1_000_000 + "'",
        "x: Literal[b'a', C.D] = 1",
        "x: Optional[()] = 1",
        "x = 'a' # " + "h" * 10_000,
    ],
    ids=short,
)
def test_a_monstrous_declaration_is_a_parameter_and_its_words_are_cut(source: str) -> None:
    parameter = only(source)
    assert parameter.name == "x"
    assert max(map(len, (parameter.annotation, parameter.default_source, parameter.help))) <= 200


@pytest.mark.parametrize(
    "source", ["x = '\ud83d'", "x = = 1", "x = " + "-" * 100_000 + "1", "x = 'nul\0'", "(" * 9999], ids=short
)
def test_a_cell_that_is_no_python_is_no_error(source: str) -> None:
    assert parse_cell(source) is None
    assert [parameter.name for parameter in read_parameters(notebook(source))] in ([], ["x"])


def test_a_cell_that_is_no_python_of_any_size_takes_no_time() -> None:
    sources = (
        "$ no python\nx = 1\n" + ("a" + " " * 900 + "b\n") * 2000,
        "$ no python\nx = 0x" + "f\n" * 20_000,
        "$\n" + "x = 1 " + " " * 2_000_000 + "\n",
        "$\n" + "x: " + "a," * 100_000 + "\n= 1",
    )
    for source in sources:
        begin = time.process_time()
        read_parameters(notebook(source))
        assert time.process_time() - begin < 10


@settings(deadline=None, max_examples=40)
@given(names, finite_values)
def test_a_default_is_the_value_that_the_cell_sets(name: str, value: Any) -> None:
    parameter = only(f"{name} = {value!r}  # help")
    assert parameter.name == name
    assert same(parameter.default, value)
    assert parameter.help == "help"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("x: float | None = 1.0", "float | None"),
        ("x: int = 1", "int"),
        ("x = None", "any"),
        ("x: Literal['a', 'b'] = 'a'", "'a' | 'b'"),
        ("x: Literal['a', None] = 'a'", "'a' | None"),
    ],
)
def test_a_type_has_a_name_for_people(source: str, name: str) -> None:
    assert only(source).type_name == name


def test_without_a_tagged_cell_there_are_no_parameters(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook("lr = 0.1"))
    assert parameters_cell_index(nb) is None
    assert read_parameters(nb) == ()


def test_the_first_of_several_tagged_code_cells_counts(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook("1", ("a = 1", "parameters"), ("b = 1", "parameters")))
    nb.cells.insert(0, v4.new_markdown_cell("x", metadata={"tags": ["parameters"]}))
    assert parameters_cell_index(nb) == 2
    assert [parameter.name for parameter in read_parameters(nb)] == ["a"]


@pytest.mark.parametrize("language", ["R", "julia", "bash", "scala", "cobol"])
def test_a_language_that_nobody_can_inspect_takes_any_name(language: str) -> None:
    nb = notebook("lr = 0.1", language)
    assert read_parameters(nb) == ()
    assert accepts_any_name(nb)


def test_without_a_tagged_cell_no_language_takes_any_name(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook("1"))
    assert not accepts_any_name(nb)
    nb.metadata["language_info"] = {"name": "R"}
    assert not accepts_any_name(nb)
    assert not accepts_any_name(notebook("import os"))
