"""Tagging the parameters cell in the file: which cell, and that no other byte changes."""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.errors import NotebookError
from jupyter_mlops.notebook import tagging
from jupyter_mlops.notebook.declaration import read_parameters
from jupyter_mlops.notebook.document import read_notebook
from jupyter_mlops.notebook.tagging import tag_parameters


def code(source: Any, **changes: Any) -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source, **changes}


def raw(*cells: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 4, **changes}


def refused(path: Path, **options: Any) -> NotebookError:
    before = path.read_bytes()
    with pytest.raises(NotebookError) as caught:
        tag_parameters(path, **options)
    assert path.read_bytes() == before
    assert caught.value.hint
    return caught.value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
metadata = st.dictionaries(
    st.text(max_size=6).filter(lambda name: name not in ("tags", "name", "format", "collapsed", "scrolled", "jupyter",
                                                         "execution")),
    json_values,
    max_size=3,
)  # fmt: skip
tag_lists = st.none() | st.lists(st.sampled_from(["a", "é", "b c", 'd"]', "e\\"]), unique=True, max_size=3)
styles = st.fixed_dictionaries(
    {
        "indent": st.sampled_from([None, 0, 1, 2, 4, "\t"]),
        "ensure_ascii": st.booleans(),
        "sort_keys": st.booleans(),
    }
)


@st.composite
def notebooks(draw: st.DrawFn) -> dict[str, Any]:
    """A notebook whose second cell, a code cell, is to be tagged; names in any order, metadata of any kind."""
    found = draw(metadata)
    tags = draw(tag_lists)
    if tags is not None:
        found["tags"] = tags
    keys = draw(st.permutations(["cell_type", "execution_count", "metadata", "outputs", "source"]))
    cell = code(draw(st.lists(st.text(max_size=10), max_size=3)), metadata=found)
    nb = raw(code("1", metadata=draw(metadata)), {key: cell[key] for key in keys}, code("2"), metadata=draw(metadata))
    nb["metadata"].pop("kernelspec", None)
    return {key: nb[key] for key in draw(st.permutations(list(nb)))}


@settings(deadline=None, max_examples=40)
@given(
    notebooks(), styles, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\ufeff"]), st.sampled_from(["", "\n"])
)
def test_the_file_is_what_its_writer_would_have_written_with_the_tag(
    tmp_path_factory: pytest.TempPathFactory, nb: dict[str, Any], style: dict[str, Any], end: str, bom: str, last: str
) -> None:
    def written(content: dict[str, Any]) -> bytes:
        text = bom + json.dumps(content, **style) + last
        return text.replace("\n", end).encode("utf-8")

    path = tmp_path_factory.getbasetemp() / "any.ipynb"
    before = written(nb)
    path.write_bytes(before)
    assert tag_parameters(path, cell_index=1) == 1
    after = path.read_bytes()

    found = nb["cells"][1]["metadata"]
    found["tags"] = [*found.get("tags", []), "parameters"]
    assert json.dumps(json.loads(after.decode("utf-8-sig")), sort_keys=True) == json.dumps(nb, sort_keys=True)
    only_the_tag(before, after)
    if not style["sort_keys"]:  # where names are sorted, the tags still come last
        assert after == written(nb)


def only_the_tag(before: bytes, after: bytes) -> None:
    """Check that nothing of the file is gone but white space between empty brackets, and only the tag is new."""
    start = alike(before, after)
    end = alike(before[start:][::-1], after[start:][::-1])
    gone, new = before[start : len(before) - end], after[start : len(after) - end]
    assert gone.strip() == b""
    assert re.fullmatch(rb'[\s\[\]{},:"]*(tags)?[\s\[\]{},:"]*parameters[\s\[\]{},:"]*', new), new


def alike(left: bytes, right: bytes) -> int:
    """How many bytes both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(left, right, strict=False)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"metadata": {}, X}', '{"metadata": {"tags": ["parameters"]}, X}'),
        ('{"metadata":{},X}', '{"metadata":{"tags":["parameters"]},X}'),
        ('{"metadata" : { } , X}', '{"metadata" : {"tags" : ["parameters"]} , X}'),
        ('{"metadata": {"a": 1.50e+1}, X}', '{"metadata": {"a": 1.50e+1, "tags": ["parameters"]}, X}'),
        ('{"metadata": {"tags": []}, X}', '{"metadata": {"tags": ["parameters"]}, X}'),
        ('{"metadata": {"tags": [ "b" ]}, X}', '{"metadata": {"tags": [ "b", "parameters" ]}, X}'),
        ('{"metadata": {"tags": ["b","c"], "d": 1}, X}', '{"metadata": {"tags": ["b","c","parameters"], "d": 1}, X}'),
        ('{"metadata": {"\\u0074ags": ["b"]}, X}', '{"metadata": {"\\u0074ags": ["b", "parameters"]}, X}'),
        ('{"metadata": {"a": "\\u00e9 \\/ ]}\\""}, X}', '{"metadata": {"a": "\\u00e9 \\/ ]}\\"", "tags": ["parameters"]}, X}'),
        ('{\n   "metadata": {},\n X}',
         '{\n   "metadata": {\n    "tags": [\n     "parameters"\n    ]\n   },\n X}'),
        ('{\n   "metadata": {"a": 1},\n X}', '{\n   "metadata": {"a": 1, "tags": ["parameters"]},\n X}'),
        ('{\n   "metadata": {\n    "tags": ["b"]\n   },\n X}', '{\n   "metadata": {\n    "tags": ["b", "parameters"]\n   },\n X}'),
    ],
)  # fmt: skip
def test_the_tag_is_written_in_the_style_of_its_place(tmp_path: Path, before: str, after: str) -> None:
    rest = '"cell_type": "code", "execution_count": null, "outputs": [], "source": "x = 1"'
    path = tmp_path / "a.ipynb"

    def whole(cell: str) -> str:
        return '{\n "nbformat": 4, "nbformat_minor": 4, "metadata": {}, "cells": [' + cell.replace("X", rest) + "]}"

    path.write_text(whole(before))
    tag_parameters(path)
    assert path.read_text() == whole(after)


def test_a_name_that_is_there_twice_is_tagged_where_readers_look(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(
        json.dumps(raw(code("x = 1"))).replace('"metadata": {},', '"metadata": {}, "metadata": {"a": 1},', 1)
    )
    tag_parameters(path)
    assert [parameter.name for parameter in read_parameters(read_notebook(path))] == ["x"]


def test_what_jupyter_wrote_differs_in_the_lines_of_the_tag(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("import os", "x = 1", "y = 2")
    before = path.read_text().splitlines()
    assert tag_parameters(path) == 1
    after = path.read_text().splitlines()
    assert [line for line in after if line not in before] == [
        '   "metadata": {', '    "tags": [', '     "parameters"', "    ]", "   },"
    ]  # fmt: skip
    nbformat.write(nbformat.read(path, as_version=nbformat.NO_CONVERT), path)
    assert path.read_text().splitlines() == after


@pytest.mark.parametrize(
    "source",
    ["x = 1", "x: int = 1\ny: str\n", "# the parameters\nx = 'a'  # b", "x = y = [1, {'a': None}]", "x = (1, 2)",
     "x = float('nan')", "x: Literal['a'] = 'a'", "x = -1"],
)  # fmt: skip
def test_the_first_cell_that_only_assigns_literals_is_taken(make_notebook: Callable[..., Path], source: str) -> None:
    path = make_notebook("import os", "x = f()", "%magic\nx = 1", "x = 1\nprint(x)", "# text", source, "z = 1")
    assert tag_parameters(path) == 5
    assert [cell.metadata.tags for cell in read_notebook(path).cells][5] == ["parameters"]


def test_a_cell_is_named_by_its_number_or_its_id(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("x = 1", "y = f()", "z = 1")
    assert tag_parameters(path, cell_index=1) == 1
    path = make_notebook("x = 1", "y = f()", "z = 1", name="other.ipynb")
    assert tag_parameters(path, cell_id=read_notebook(path).cells[2].id) == 2


def test_a_cell_of_an_old_notebook_is_named_by_the_id_that_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(raw(code("x = 1"), code("y = 1"))))
    assert tag_parameters(path, cell_id=read_notebook(path).cells[1].id) == 1
    assert '"id"' not in path.read_text()
    assert json.loads(path.read_text())["nbformat_minor"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cell_index": 9}, "has 3 cells, not 10"), ({"cell_index": -1}, "has 3 cells, not 0"),
        ({"cell_index": 2}, "Cell 3 of a.ipynb is not a code cell"),
        ({"cell_id": "no\n\x1b"}, "has no cell with the id"), ({}, "No cell of a.ipynb only assigns values"),
    ],
)  # fmt: skip
def test_a_cell_that_cannot_be_tagged_is_refused_with_those_that_can(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(raw(code("f()"), code("g()"), {"cell_type": "markdown", "metadata": {}, "source": "a"})))
    error = refused(path, **options)
    assert said in error.message
    assert error.message.isprintable()
    assert "Its code cells are: 1, 2." in error.hint


def test_a_long_notebook_names_some_of_its_cells(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(raw(*[code("f()")] * 200)))
    assert refused(path).hint.endswith("29, 30, ….")


def test_a_tagged_notebook_is_refused_with_where_the_tag_is(make_notebook: Callable[..., Path]) -> None:
    error = refused(make_notebook("1", ("x = 1", "parameters"), "y = 1"), cell_index=2)
    assert "Cell 2 of notebook.ipynb is tagged `parameters` already" in error.message
    assert error.code == "notebook_tagged"


def test_in_another_language_the_cell_must_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text(json.dumps(raw(code("x = 1"), metadata={"language_info": {"name": "R"}})))
    assert refused(path).code == "notebook_no_parameters"
    assert tag_parameters(path, cell_index=0) == 0


def test_what_is_no_notebook_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    for content in (b"", b"{", b"[]", b"\xff", b'{"nbformat": 3}', json.dumps(raw({"cell_type": "code"})).encode()):
        path.write_bytes(content)
        refused(path)


@pytest.mark.parametrize("mode", [0o444, 0o400])
def test_a_read_only_file_is_refused_and_told_how_to_change_it(make_notebook: Callable[..., Path], mode: int) -> None:
    path = make_notebook("x = 1")
    path.chmod(mode)
    error = refused(path)
    assert "is read-only" in error.message
    assert f"chmod u+w {path}" in error.hint
    assert error.code == "notebook_write"
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_mode_of_the_file_stays(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("x = 1")
    path.chmod(0o640)
    tag_parameters(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_link_stays_a_link_to_the_tagged_file(make_notebook: Callable[..., Path], tmp_path: Path) -> None:
    path = make_notebook("x = 1")
    link = tmp_path / "link.ipynb"
    link.symlink_to(path)
    tag_parameters(link)
    assert link.is_symlink()
    assert read_notebook(path).cells[0].metadata.tags == ["parameters"]


def test_a_link_that_leads_nowhere_or_in_a_circle_is_told(tmp_path: Path) -> None:
    nowhere, circle = tmp_path / "nowhere.ipynb", tmp_path / "circle.ipynb"
    nowhere.symlink_to(tmp_path / "gone.ipynb")
    circle.symlink_to(circle)
    for path in (nowhere, circle):
        with pytest.raises(NotebookError) as caught:
            tag_parameters(path)
        assert path.name in caught.value.message


def test_what_was_saved_meanwhile_is_not_lost(
    make_notebook: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_notebook("x = 1")
    check = tagging.check_notebook

    def saved_in_between(*arguments: Any) -> Any:
        nbformat.write(v4.new_notebook(cells=[v4.new_code_cell("x = 1"), v4.new_code_cell("much work")]), path)
        return check(*arguments)

    monkeypatch.setattr(tagging, "check_notebook", saved_in_between)
    with pytest.raises(NotebookError, match="was saved by someone else") as caught:
        tag_parameters(path)
    assert caught.value.hint == "Try again."
    assert [cell.source for cell in read_notebook(path).cells] == ["x = 1", "much work"]
