"""Values put into a notebook: what executing the cell gives, and that the cell does nothing else."""

from __future__ import annotations

import ast
import json
import math
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import NotebookNode, v4

from jupyter_mlops.errors import ParameterError
from jupyter_mlops.notebook.document import read_notebook
from jupyter_mlops.notebook.injection import INJECTED_TAG, injected_source, parameterize
from jupyter_mlops.notebook.parameters import bind_parameters, load_parameter_file, read_parameters

from .values import HOSTILE_TEXTS, names, same, short, texts, values


def executed(source: str) -> dict[str, Any]:
    """What the source sets, after a check that it only sets literals."""
    for statement in ast.parse(source).body:
        assert isinstance(statement, ast.Assign)
        assert len(statement.targets) == 1
        assert isinstance(statement.targets[0], ast.Name)
        for node in ast.walk(statement.value):
            if isinstance(node, ast.Call):
                assert ast.unparse(node) in ("float('nan')", "float('inf')", "float('-inf')")
            else:
                assert isinstance(
                    node,
                    (ast.Constant, ast.List, ast.Dict, ast.UnaryOp, ast.USub, ast.Load, ast.Name),
                )
                assert not isinstance(node, ast.Name) or node.id == "float"
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    del namespace["__builtins__"]
    return namespace


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(names, values, max_size=4))
def test_executing_the_cell_gives_the_values_and_nothing_else(parameters: dict[str, Any]) -> None:
    source = injected_source(parameters)
    assert same(executed(source), parameters)
    assert len(ast.parse(source).body) == len(parameters)


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=short)
def test_no_text_gets_out_of_its_quotes(text: str) -> None:
    parameters = {"a": text, "b": [text, {text: text}], "c": 1}
    assert same(executed(injected_source(parameters)), parameters)


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        -math.inf,
        -0.0,
        5e-324,
        1.7976931348623157e308,
        0.1 + 0.2,
        10**3999,
        -(2**64),
        True,
        None,
        [],
        {},
        {"": {"": [[]]}},
        [[[[[[None, math.nan]]]]]],
        "x" * 1_000_000,
    ],
    ids=short,
)
def test_every_value_keeps_its_type_and_its_last_bit(value: Any) -> None:
    assert same(executed(injected_source({"x": value})), {"x": value})


def tagged(*declared: str) -> NotebookNode:
    return v4.new_notebook(cells=[v4.new_code_cell("\n".join(declared), metadata={"tags": ["parameters"]})])


@settings(deadline=None, max_examples=40)
@given(texts, values)
def test_what_the_command_line_gives_is_what_the_notebook_gets(text: str, value: Any) -> None:
    nb = tagged("a: str = ''", "b = f()")
    bound = bind_parameters(
        read_parameters(nb), text={"a": text, "b": json.dumps(value)}, values={}, secret_pattern="secret"
    )
    assert same(executed(injected_source(bound)), {"a": text, "b": value})


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_what_a_file_gives_is_what_the_notebook_gets(tmp_path: Path, suffix: str) -> None:
    import yaml

    path = tmp_path / f"params{suffix}"
    nb = tagged("x = f()")

    @settings(deadline=None, max_examples=30)
    @given(values)
    def arrives(value: Any) -> None:
        # Quoted with tags, for PyYAML writes by YAML 1.1, where `1e3` is text.
        as_yaml = yaml.safe_dump({"x": value}, default_style='"', sort_keys=False)
        path.write_text(json.dumps({"x": value}) if suffix == ".json" else as_yaml, encoding="utf-8")
        bound = bind_parameters(read_parameters(nb), text={}, values=load_parameter_file(path), secret_pattern="secret")
        assert same(executed(injected_source(bound)), {"x": value})

    arrives()


@pytest.mark.parametrize("name", ["1a", "", "a b", "a;b", "x = 1; y", "for", "__debug__", "ﬁ", "a\nb", "a.b", "a[0]"])
def test_a_name_that_is_code_is_refused_in_every_language(name: str) -> None:
    for language in ("python", "R", "julia", "bash"):
        with pytest.raises(ParameterError, match="cannot be the name of a parameter"):
            injected_source({name: 1}, kernel_name="k", language=language)


@pytest.mark.parametrize("name", ["_x", "é"])
def test_a_name_that_not_every_language_can_write_is_refused_where_it_matters(name: str) -> None:
    assert executed(injected_source({name: 1})) == {name: 1}
    with pytest.raises(ParameterError, match="not every language can write"):
        injected_source({name: 1}, kernel_name="ir", language="R")


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("R", 's = "a b"\nb = TRUE\nn = NULL\ni = 3\nl = list(1, "x")\n'),
        ("julia", 's = "a b"\nb = true\nn = nothing\ni = 3\nl = [1, "x"]\n'),
        ("scala", 'val s = "a b"\nval b = true\nval n = None\nval i = 3\nval l = Seq(1, "x")\n'),
        ("bash", "s='a b'\nb=true\nn=\ni=3\nl=(1 x)\n"),
    ],
)
def test_plain_values_are_written_in_the_notebooks_language(language: str, source: str) -> None:
    parameters = {"s": "a b", "b": True, "n": None, "i": 3, "l": [1, "x"]}
    written = injected_source(parameters, kernel_name="k", language=language)
    assert written.partition("\n")[2] == source


@pytest.mark.parametrize("language", ["R", "julia", "scala", "matlab", ".net-csharp", ".net-fsharp", ".net-powershell"])
def test_text_that_another_language_could_take_for_code_is_refused(language: str) -> None:
    for text in ("$(id)", "a'b", 'a"b', "`id`", "a\\b", "a\nb", "{x}", "100%", "é", "nul\0", "\u2028"):
        for value in (text, [text], {"a": [text]}, {text: 1}):
            with pytest.raises(ParameterError, match="does not carry safely") as caught:
                injected_source({"x": value}, kernel_name="k", language=language)
            assert "file" in caught.value.hint


@pytest.mark.parametrize(
    ("language", "value", "reason"),
    [
        ("R", math.nan, "nan or inf"), ("julia", [math.inf], "nan or inf"), ("bash", -math.inf, "nan or inf"),
        ("R", 2**53 + 1, "beyond 2^53"), ("scala", {"a": -(2**70)}, "beyond 2^53"), ("matlab", None, "none"),
        ("matlab", [None], "none"), ("bash", [1, None], "none"), ("bash", [[1]], "a list in a list"),
        ("bash", [{}], "a list in a list"), ("bash", "ctrl-c \x03", "control"), ("bash", "tab\t", "control"),
        ("bash", "nul\0", "control"), ("bash", ["\x1b[A"], "control"), ("bash", "a\u2028b", "control"),
        ("bash", "a\rb", "control"),
    ],
)  # fmt: skip
def test_a_value_that_another_language_would_change_is_refused(language: str, value: Any, reason: str) -> None:
    with pytest.raises(ParameterError) as caught:
        injected_source({"x": value}, kernel_name="k", language=language)
    assert reason in caught.value.message


def test_what_papermill_cannot_write_is_refused() -> None:
    for language, value in (("bash", {"a": 1}), (".net-csharp", None)):
        with pytest.raises(ParameterError, match="papermill cannot write"):
            injected_source({"x": value}, kernel_name="k", language=language)
    with pytest.raises(ParameterError, match="no translator that puts parameters into a notebook in cobol") as caught:
        injected_source({"x": 1}, kernel_name="k", language="cobol")
    assert "papermill.translators" in caught.value.hint


def test_whole_numbers_of_any_size_go_where_they_are_exact() -> None:
    assert injected_source({"x": 2**70}, kernel_name="k", language="julia").endswith(f"x = {2**70}\n")
    assert injected_source({"x": 2**53}, kernel_name="k", language="R").endswith(f"x = {2**53}\n")


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_gets_text_as_it_is_and_executes_none_of_it(tmp_path: Path) -> None:
    sent = [text for text in HOSTILE_TEXTS if not any(ord(c) < 32 and c != "\n" for c in text) and "\x7f" not in text]
    sent = [text for text in sent if not set(text) & {"\x85", "\u2028", "\u2029"}]
    assert "$(id) `id` ${HOME} $HOME" in sent
    parameters = {**{f"a{index}": text for index, text in enumerate(sent)}, "all_of_them": sent}
    source = injected_source(parameters, kernel_name="k", language="bash")
    names_of = " ".join(f'"$a{index}"' for index in range(len(sent)))
    done = subprocess.run(
        ["bash", "-c", f"{source}\nprintf '%s\\0' {names_of} \"${{all_of_them[@]}}\""],
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.stderr == b""
    assert done.stdout.decode().split("\0")[:-1] == sent + sent


def install_kernel(directory: Path, monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    kernel = directory / "kernels" / "mine"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["x"], "display_name": "x", "language": language}))
    monkeypatch.setenv("JUPYTER_PATH", str(directory))


def test_the_language_is_the_kernels_whatever_the_notebook_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_kernel(tmp_path, monkeypatch, "julia")
    nb = tagged("x = 1")  # says nothing of a language, which is Python's by default
    assert parameterize(nb, {"x": True}, "mine").cells[1].source.endswith("x = true\n")
    with pytest.raises(ParameterError, match="julia"):
        parameterize(nb, {"x": "$(run(`id`))"}, "mine")
    nb.metadata["language_info"] = {"name": "julia"}
    assert parameterize(nb, {"x": True}, "python3").cells[1].source.endswith("x = True\n")


def test_a_kernel_that_is_not_installed_speaks_the_notebooks_language() -> None:
    nb = tagged("x = 1")
    nb.metadata["language_info"] = {"name": "R"}
    assert parameterize(nb, {"x": True}, "ir").cells[1].source.endswith("x = TRUE\n")


def tags(nb: NotebookNode) -> list[list[str]]:
    return [cell.metadata.get("tags", []) for cell in nb.cells]


def test_the_cell_stands_after_the_parameters_and_the_given_notebook_is_untouched(
    make_notebook: Callable[..., Path],
) -> None:
    nb = read_notebook(make_notebook("import os", ("x = 1", "parameters"), "print(x)"))
    before = json.dumps(nb)
    changed = parameterize(nb, {"x": 2}, "python3")
    assert json.dumps(nb) == before
    assert tags(changed) == [[], ["parameters"], [INJECTED_TAG], []]
    assert executed(changed.cells[2].source) == {"x": 2}
    assert changed.metadata.papermill["parameters"] == {"x": 2}
    nbformat.validate(changed)


def test_without_values_the_notebook_is_the_same(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook(("x = 1", "parameters")))
    assert parameterize(nb, {}, "python3") == nb


def test_the_cell_of_an_earlier_run_is_replaced_where_it_stood(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook("1", "2", ("x = 'old'", INJECTED_TAG), "3", ("x = 'older'", INJECTED_TAG)))
    changed = parameterize(nb, {"x": "new"}, "python3")
    assert tags(changed) == [[], [], [INJECTED_TAG], []]
    assert executed(changed.cells[2].source) == {"x": "new"}
    again = parameterize(changed, {"x": "new"}, "python3")
    assert again == changed


def test_without_a_parameters_cell_the_values_come_first(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook("1", "2"))
    assert tags(parameterize(nb, {"x": 1}, "python3")) == [[INJECTED_TAG], [], []]


def test_the_same_run_has_the_same_cell(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook(("x = 1", "parameters")))
    first, second = (parameterize(nb, {"x": 2}, "python3") for _ in range(2))
    assert first == second
    assert first.cells[1].id == "injected-parameters"


def test_an_id_that_is_taken_is_not_taken_twice(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook(("x = 1", "parameters"), "2"))
    nb.cells[1]["id"] = INJECTED_TAG
    changed = parameterize(nb, {"x": 2}, "python3")
    assert [cell.id for cell in changed.cells][1:] == ["injected-parameters-2", "injected-parameters"]
    nbformat.validate(changed)


def test_the_metadata_is_json_that_every_reader_takes(make_notebook: Callable[..., Path]) -> None:
    nb = read_notebook(make_notebook(("x = 1", "parameters")))
    changed = parameterize(nb, {"x": [math.nan, {"a": -math.inf}]}, "python3")
    json.dumps(changed, allow_nan=False)
    assert changed.metadata.papermill["parameters"] == {"x": ["nan", {"a": "-inf"}]}
