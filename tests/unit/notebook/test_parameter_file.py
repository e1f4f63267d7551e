"""Files of parameters: JSON and YAML as their writers mean them, and what no file may do."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_mlops.errors import ParameterError
from jupyter_mlops.notebook.parameter_file import load_parameter_file
from jupyter_mlops.notebook.parameters import bind_parameters

from .values import same, short, values


@pytest.fixture(params=["with libyaml", "without libyaml"])
def each_yaml(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML with its C parser and, as on a machine where it was built without, with its own."""
    if request.param == "without libyaml":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)


def load(directory: Path, text: str | bytes, suffix: str = ".yaml") -> dict[str, Any]:
    path = directory / f"params{suffix}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_parameter_file(path)


def refused(directory: Path, text: str | bytes, suffix: str = ".yaml") -> ParameterError:
    with pytest.raises(ParameterError) as caught:
        load(directory, text, suffix)
    assert caught.value.hint
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 1000
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1e3", 1000.0), (".5", 0.5), ("-.inf", -math.inf), (".nan", math.nan), ("-0.0", -0.0),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("+7", 7), ("-0", 0), ("0" * 5000 + "1", 1), ("1_000", "1_000"),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("y", "y"), ("true", True), ("False", False), ("TRUE", True),
        ("tRUE", "tRUE"), ("null", None), ("~", None), ("", None), ("None", "None"), ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"), ("2024-01-01T10:00:00Z", "2024-01-01T10:00:00Z"), ("=", "="), ("<<", "<<"),
        ("'1'", "1"), ('"\\u00e9\\n"', "é\n"), ("!!str 1", "1"), ("!!float 1", 1.0), ("!!int 0x10", 16),
        ('!!bool "true"', True), ("[1, [a, null]]", [1, ["a", None]]), ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("|\n  a\n  b\n", "a\nb\n"), (">\n  a\n  b\n", "a b\n"), ("{'': 1}", {"": 1}), ("{1: 2}", {1: 2}),
        ("9" * 4000, int("9" * 4000)),
    ],
    ids=short,
)  # fmt: skip
def test_yaml_is_read_by_its_core_schema(tmp_path: Path, each_yaml: None, text: str, value: Any) -> None:
    assert same(load(tmp_path, f"x: {text}"), {"x": value})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: 'a' is there twice"),
        ("a: 1\n'a': 3", "'a' is there twice"),
        ("x: {a: {b: 1, b: 1}}", "'b' is there twice"),
        ("{1: 1, 0x1: 2}", "'1' is there twice"),
        ("a: b: c", "line 1, column 5"),
        ("a: [1", "line"),
        ("a: *b", "line 1, column 4"),
        ("--- \na: 1\n--- \nb: 2", "another document"),
        ("a: \0", "special characters|control characters|not allowed"),
        ("a: !!bool maybe", "'maybe' is no bool"),
        ("a: !!int x", "'x' is no int"),
        ("a: !!float ''", "'' is no float"),
        ("a: !!null 3", "'3' is no null"),
        ("a: !!timestamp 2024-01-01", "no scalar of the type timestamp"),
        ("a: !!binary aGk=", "no scalar of the type binary"),
        ("a: !!set {b}", "no mapping of the type set"),
        ("a: !!omap [b: 1]", "no sequence of the type omap"),
        ("a: !!python/object/apply:os.system [id]", "no sequence of the type python/object/apply:os.system"),
        ("a: !!python/name:os.system", "no scalar of the type"),
        ("a: !mine b", "no scalar of the type !mine"),
        ("a: !!map [1]", "no sequence of the type map"),
        ("a: 1e400", "1e400 is too large for a float"),
        ("a: " + "9" * 4001, "more than 4,000 digits"),
        ("a: -" + "9" * 100_000, "more than 4,000 digits"),
        ("a: 0x" + "f" * 5000, "more than 4,000 digits"),
        ("? [1, 2]\n: 3", "a name is not text"),
        ("1: 2", "a name that is not text: 1"),
        ("true: 2", "a name that is not text: True"),
        ("~: 2", "a name that is not text: None"),
        ("- 1", "holds a list"),
        ("text", "holds a str"),
        ("3", "holds a int"),
        ("", "is empty"),
        ("# only a comment\n", "is empty"),
        ("a: &a [*a]", "holds itself"),
        ("a: &a {b: *a}", "holds itself"),
        ("a: &a {<<: *a}", "holds itself"),
        ("<<: 3", "is not a mapping"),
        ("<<: [{a: 1}, 2]", "is not a mapping"),
        ("[" * 1500, "nest|recurs"),
        ("a: \x1b[31m", "not allowed"),
    ],
    ids=short,
)
def test_yaml_that_cannot_be_taken_is_refused_with_the_place(
    tmp_path: Path, each_yaml: None, text: str, said: str
) -> None:
    message = refused(tmp_path, text).message
    assert any(part in message for part in said.split("|")), message


def test_what_libyaml_takes_and_python_does_not_is_nested_too_deeply(tmp_path: Path) -> None:
    assert "nested too deeply" in refused(tmp_path, "a: " + "[" * 900 + "]" * 900).message


def test_a_tab_is_no_indentation(tmp_path: Path, each_yaml: None) -> None:
    assert "line 2" in refused(tmp_path, "a:\n\tb: 1").message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base: &b {lr: 1, n: 2}\nx: {<<: *b, lr: 3}", {"lr": 3, "n": 2}),
        ("base: &b {lr: 1, n: 2}\nx: {lr: 3, <<: *b}", {"n": 2, "lr": 3}),
        ("x: {<<: [{a: 1}, {a: 2, b: 2}]}", {"a": 1, "b": 2}),
        ("base: &b {lr: 1}\nd:\n  y: &c\n    <<: *b\n    lr: 2\nx:\n  <<: *c", {"lr": 2}),
        ("x: {'<<': 1}", {"<<": 1}),
    ],
)
def test_a_merge_gives_what_is_not_set(tmp_path: Path, each_yaml: None, text: str, value: dict[str, Any]) -> None:
    assert load(tmp_path, text)["x"] == value


def nine_times(first: str, again: str) -> str:
    lines = [f"a0: &a0 {first}"]
    lines += [f"a{level}: &a{level} {again % ','.join([f'*a{level - 1}'] * 9)}" for level in range(1, 30)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [nine_times("[x, x, x]", "[%s]"), nine_times("{a: 1, b: 2}", "{<<: [%s]}"), nine_times("{a: 1}", "{b: [%s]}")],
    ids=["lists", "merges", "mappings"],
)
def test_a_bomb_of_aliases_costs_no_memory(tmp_path: Path, each_yaml: None, text: str) -> None:
    # That a bound value may not be written out so large is a test of binding.
    begin = time.process_time()
    found = load(tmp_path, text)
    assert time.process_time() - begin < 10
    assert len(found) == 30
    if "<<" in text:
        assert found["a29"] == {"a": 1, "b": 2}


def test_merges_that_copy_much_are_refused(tmp_path: Path) -> None:
    large = ", ".join(f"k{index}: 1" for index in range(2000))
    text = f"base: &b {{{large}}}\n" + "\n".join(f"x{index}: {{<<: *b}}" for index in range(200))
    assert "merges too much" in refused(tmp_path, text).message


@settings(deadline=None, max_examples=40)
@given(st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t<0.e~x", max_size=40))
def test_any_yaml_is_parameters_or_refused_with_a_sentence(tmp_path_factory: Any, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        assert isinstance(load_parameter_file(path), dict)
    except ParameterError as error:
        message = error.message
    else:
        return
    assert message.isprintable()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1, "b": [NaN, -Infinity, 1e3, "é"]}', {"a": 1, "b": [math.nan, -math.inf, 1000.0, "é"]}),
        ("{}", {}),
        ('{"a": -' + "9" * 4000 + "}", {"a": -int("9" * 4000)}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
    ],
    ids=short,
)
def test_json_is_read(tmp_path: Path, text: str, value: dict[str, Any]) -> None:
    assert same(load(tmp_path, text, ".json"), value)
    assert same(load(tmp_path, text, ".JSON"), value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": 2,}', "line 2, column 9"),
        ('{"a": 1} x', "Extra data"),
        ('{"a": 1, "a": 2}', "'a' is there twice"),
        ('{"x": {"a": 1, "a": 1}}', "'a' is there twice"),
        ('{"a": 1e400}', "1e400 is too large"),
        ('{"a": [-1e400]}', "is too large"),
        ('{"a": ' + "9" * 4001 + "}", "more than 4,000 digits"),
        ('{"a": ' + "9" * 1_000_000 + "}", "more than 4,000 digits"),
        ("[1]", "holds a list"),
        ('"a"', "holds a str"),
        ("null", "is empty"),
        (" \n", "is empty"),
        ("a: 1", "line 1, column 1"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": "\n"}', "line 1"),
    ],
    ids=short,
)
def test_json_that_cannot_be_taken_is_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text, ".json").message


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text(), values, max_size=3), st.booleans())
def test_json_arrives_as_it_was_written(tmp_path_factory: Any, parameters: dict[str, Any], ascii_only: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(parameters, ensure_ascii=ascii_only), encoding="utf-8")
    assert same(load_parameter_file(path), parameters)


@pytest.mark.parametrize(("text", "suffix"), [("a: 1\nb: 'x'\n", ".yaml"), ('{\n"a": 1,\n"b": "x"\n}', ".json")])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(
    tmp_path: Path, text: str, suffix: str, bom: bytes, end: str
) -> None:
    assert load(tmp_path, bom + text.replace("\n", end).encode(), suffix) == {"a": 1, "b": "x"}


def test_a_file_that_is_not_utf_8_is_told_where(tmp_path: Path) -> None:
    assert "not text in UTF-8 (byte 5)" in refused(tmp_path, "a: caf\xe9"[0:5].encode() + b"\xe9").message
    assert "not text in UTF-8" in refused(tmp_path, "a: 1".encode("utf-16")).message


def test_a_file_of_a_megabyte_is_read_and_a_very_large_one_is_not(tmp_path: Path) -> None:
    text = "x" * 2**20
    assert load(tmp_path, json.dumps({"a": text}), ".json") == {"a": text}
    assert load(tmp_path, f"a: {text}") == {"a": text}
    error = refused(tmp_path, "# " + "x" * 4 * 2**20)
    assert error.code == "parameter_size"
    assert "4 MiB" in error.message


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, said in (
        (tmp_path, "is a directory"),
        (tmp_path / "none.yaml", "does not exist"),
        (tmp_path / "pipe.yaml", "is not a file"),
        (Path("/dev/zero"), "is not a file"),
        (tmp_path / ("x" * 5000), "cannot be read"),
        (tmp_path / "a\0b", "does not exist"),
        (tmp_path / "a\n\x1b[31m.yaml", "does not exist"),
    ):
        with pytest.raises(ParameterError) as caught:
            load_parameter_file(path)
        assert said in caught.value.message
        assert caught.value.message.isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    with pytest.raises(ParameterError, match="Permission denied"):
        load_parameter_file(path)


def test_half_of_a_surrogate_pair_gets_no_further_than_binding(tmp_path: Path) -> None:
    found = load(tmp_path, '{"x": "\\ud83d"}', ".json")
    with pytest.raises(ParameterError, match="half of a pair"):
        bind_parameters([], text={}, values=found, secret_pattern="secret", any_name=True)
