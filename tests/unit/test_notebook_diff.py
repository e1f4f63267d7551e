"""What two executed notebooks differ in, and what is no difference."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.errors import NotebookError
from jupyter_mlops.notebook_diff import diff_notebooks

Outputs = list[Any]


@pytest.fixture
def executed(tmp_path: Path) -> Callable[..., Path]:
    """Write an executed notebook of cells given as source or (source, outputs); `when` is what differs each time."""

    def make(name: str, *cells: str | tuple[str, Outputs], when: int = 1) -> Path:
        nb = v4.new_notebook()
        nb.metadata.update(
            kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
            papermill={"duration": when, "start_time": f"2026-01-0{when}"}, widgets={"state": {str(when): {}}},
        )  # fmt: skip
        for number, cell in enumerate(cells):
            source, outputs = (cell, []) if isinstance(cell, str) else cell
            made = v4.new_code_cell(source, id=f"cell-{number}-{when}", outputs=outputs, execution_count=number + when)
            made.metadata.update(papermill={"duration": when}, execution={"iopub.status.busy": str(when)})
            nb.cells.append(made)
        path = tmp_path / name / "executed.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nb, path)
        return path

    return make


def stream(text: str) -> Any:
    return v4.new_output("stream", name="stdout", text=text)


def result(text: str, count: int = 1, **data: Any) -> Any:
    return v4.new_output("execute_result", data={"text/plain": text, **data}, execution_count=count)


def differences(first: Path, second: Path, *, outputs: bool = True, color: bool = False) -> str:
    return diff_notebooks(first, second, outputs=outputs, color=color)


def test_times_counts_ids_widgets_and_addresses_are_no_difference(executed: Callable[..., Path]) -> None:
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "bar"}
    other = {**widget, "application/vnd.jupyter.widget-view+json": {"model_id": "b"}}
    first = executed("a", ("x", [result("<M at 0x7f00aa>", 1), v4.new_output("display_data", data=widget)]), when=1)
    second = executed("b", ("x", [result("<M at 0x7f11bb>", 2), v4.new_output("display_data", data=other)]), when=2)
    assert differences(first, second) == ""
    assert differences(first, second, color=True) == ""


def test_sources_and_outputs_that_differ_are_shown_with_both_sides(executed: Callable[..., Path]) -> None:
    first = executed("a", ("lr = 0.1", []), ("print(loss)", [stream("0.5\nsame\n")]))
    second = executed("b", ("lr = 0.2", []), ("print(loss)", [stream("0.4\nsame\n")]), "extra = 1")
    shown = differences(first, second)
    assert shown.startswith(f"--- {first}\n+++ {second}\n")
    for line in ("-  lr = 0.1", "+  lr = 0.2", "-  0.5", "+  0.4", "+      extra = 1"):
        assert f"\n{line}\n" in shown
    assert "\n   same" in shown
    assert "0.4" not in differences(first, second, outputs=False)
    assert "lr = 0.2" in differences(first, second, outputs=False)


def test_pictures_and_data_are_compared_by_digest(executed: Callable[..., Path]) -> None:
    def picture(content: bytes, lines: bool = False) -> Any:
        text = (base64.encodebytes if lines else base64.b64encode)(content).decode()
        return result("<Figure>", **{"image/png": text, "application/json": {"a": [1] * 1000}})

    first = executed("a", ("plot", [picture(b"one" * 1000)]))
    assert differences(first, executed("b", ("plot", [picture(b"one" * 1000, lines=True)]))) == ""
    shown = differences(first, executed("c", ("plot", [picture(b"two" * 1000)])))
    assert "-  <image/png of 3.9 KiB, sha256 " in shown
    assert "+  <image/png of 3.9 KiB, sha256 " in shown
    assert len(shown) < 1000


def test_long_outputs_are_cut_and_a_difference_in_the_middle_still_shows(executed: Callable[..., Path]) -> None:
    lines = [f"line {number}" for number in range(50_000)]
    first = executed("a", ("x", [stream("\n".join(lines))]))
    lines[25_000] = "another"
    second = executed("b", ("x", [stream("\n".join(lines))]))
    shown = differences(first, second)
    assert "characters, sha256" in shown
    assert len(shown) < 5_000


def test_nothing_in_an_output_is_obeyed(executed: Callable[..., Path]) -> None:
    error = v4.new_output(
        "error", ename="E", evalue="\x1b]0;t\x07", traceback=["\x1b[0;31mE\x1b[0m", "\x1b[2Jgone\u202e"]
    )
    first = executed("a", ("x", []), ("y", [stream("same")]))
    second = executed("b", ("x\x1b[31m", [stream("\x1b[32mgreen\x1b[0m \x1b[2J\x07"), error]), ("y", [stream("same")]))
    shown = differences(first, second)
    assert not any(ord(character) < 32 and character != "\n" for character in shown)
    assert "\u202e" not in shown
    assert "green ␛[2J␇" in shown  # colours are left out, the rest is shown
    coloured = differences(first, second, color=True)
    assert "\x1b[32m+" in coloured
    assert "\x1b[2J" not in coloured


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_can_be_compared_and_the_same_is_the_same(
    executed: Callable[..., Path], first: str, second: str
) -> None:
    a = executed("a", (f"x = 1\n{first}", [stream(first), result(second)]))
    b = executed("b", (f"x = 1\n{second}", [stream(second), result(first)]))
    assert differences(a, a) == ""
    shown = differences(a, b)
    assert not any(ord(character) < 32 and character not in "\n\t" for character in shown)


def test_a_notebook_that_cannot_be_read_is_a_sentence(executed: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="no file"):
        differences(executed("a", "x"), tmp_path / "missing.ipynb")


def test_neither_git_nor_diff_nor_their_configuration_has_a_say(
    executed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = executed("a", "x = 1\ny"), executed("b", "x = 2\ny")
    expected = differences(first, second)
    for name in ("git", "diff"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "config").mkdir(exist_ok=True)
    (tmp_path / "config" / "nbdime_config.json").write_text('{"Diff": {"source": false, "sources": false}}')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert differences(first, second) == expected
    assert not (tmp_path / "called").exists()
