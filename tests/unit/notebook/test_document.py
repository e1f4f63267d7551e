"""Notebooks as documents: what is refused, what is upgraded, what stays."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import v4

from jupyter_mlops.errors import NotebookError
from jupyter_mlops.notebook.document import (
    kernel_language,
    notebook_language,
    read_notebook,
    resolve_kernel,
    strip_outputs,
    write_notebook,
)

CODE = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": "x = 1"}


def raw(*cells: dict[str, Any], minor: int = 4, **changes: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": {}, "cells": list(cells or (CODE,)), **changes}


def with_metadata(metadata: dict[str, Any]) -> Any:
    return nbformat.from_dict(raw(metadata=metadata))


def refused(path: Path, **options: Any) -> NotebookError:
    with pytest.raises(NotebookError) as caught:
        read_notebook(path, **options)
    assert caught.value.hint, "every refusal has a next step"
    assert str(caught.value).count("\n") == 0
    return caught.value


@pytest.mark.parametrize(
    ("content", "said", "hinted"),
    [
        (b"", "0 bytes", "checkpoint"),
        (b"print(1)\n", "not JSON (line 1, column 1", "checkpoint"),
        (b'{"cells": [', "not JSON (line 1", "checkpoint"),
        (b'{\n<<<<<<< HEAD\n "a": 1\n=======\n>>>>>>> other\n}', "unresolved merge", "nbdime"),
        (b"\xff\xfe\x00", "not text in UTF-8", ".ipynb"),
        (b"[" * 200_000, "nested too deeply", ".ipynb"),
        (b"[1, 2]", "JSON but not a notebook", ".ipynb"),
        (b'{"a": 1}', "JSON but not a notebook", ".ipynb"),
        (b'{"nbformat": true, "cells": []}', "JSON but not a notebook", ".ipynb"),
        (b'{"nbformat": "4", "cells": []}', "JSON but not a notebook", ".ipynb"),
        (b'{"nbformat": 3, "worksheets": []}', "old notebook format 3", "nbconvert --to notebook --nbformat 4"),
        (b'{"nbformat": 2, "worksheets": []}', "old notebook format 2", "nbconvert --to notebook --nbformat 4"),
        (b'{"nbformat": 5, "cells": []}', "format 5", "--upgrade nbformat"),
        (b'{"nbformat": 4, "cells": [], "metadata": {}}', "no nbformat_minor", "JupyterLab"),
        (json.dumps(raw(cells={})).encode(), "cells are not a list", "JupyterLab"),
        (json.dumps(raw(cells=[1])).encode(), "cells are not a list", "JupyterLab"),
        (json.dumps(raw({"cell_type": "code"})).encode(), "not a valid notebook at cell 1", "JupyterLab"),
        (json.dumps(raw(CODE, {**CODE, "source": 3})).encode(), "at cell 2, source", "JupyterLab"),
        (json.dumps(raw({**CODE, "metadata": {"tags": "a"}})).encode(), "at cell 1, metadata, tags", "JupyterLab"),
        (json.dumps(raw({**CODE, "id": "a b"}, minor=5)).encode(), "at cell 1, id", "JupyterLab"),
        (json.dumps(raw({**CODE, "outputs": [{"output_type": "stream"}]})).encode(), "cell 1, output 1", "JupyterLab"),
        (json.dumps(raw(metadata=[])).encode(), "at metadata", "JupyterLab"),
        (json.dumps(raw({**CODE, "source": " \n"})).encode(), "no code to run", "Write some code"),
        (json.dumps(raw({"cell_type": "markdown", "metadata": {}, "source": "a"})).encode(), "no code to run", "code"),
        (json.dumps(raw(cells=[])).encode(), "no code to run", "code"),
    ],
)
def test_what_is_no_notebook_is_refused_with_what_is_wrong(
    tmp_path: Path, content: bytes, said: str, hinted: str
) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    error = refused(path)
    assert said in error.message
    assert "a.ipynb" in error.message
    assert hinted in error.hint


def test_a_missing_notebook_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.ipynb").touch()
    error = refused(tmp_path / "trian.ipynb")
    assert "There is no file" in error.message
    assert "Did you mean 'train.ipynb'?" in error.hint


@pytest.mark.parametrize("path", ["a\0b.ipynb", "x" * 5000, "/dev/zero", "/etc/hostname/a.ipynb", "/proc/self/mem"])
def test_a_path_that_no_file_can_have_is_refused(path: str) -> None:
    refused(Path(path))


def test_a_directory_is_refused_and_its_notebooks_are_named(tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").touch()
    error = refused(tmp_path)
    assert "is a directory" in error.message
    assert "one.ipynb" in error.hint


def test_a_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.ipynb")
    assert "not a regular file" in refused(tmp_path / "pipe.ipynb").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_notebook_that_may_not_be_read_is_refused(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("1")
    path.chmod(0)
    assert "You may not read" in refused(path).message


def test_a_notebook_over_the_limit_is_refused_with_both_sizes(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("x = '" + "a" * 3 * 2**20 + "'")
    assert len(read_notebook(path).cells) == 1
    error = refused(path, limit=2**20)
    assert "3.0 MiB; at most 1.0 MiB" in error.message
    assert "--clear-output" in error.hint


def test_a_hostile_name_is_shown_on_one_line_and_without_invisible_characters(tmp_path: Path) -> None:
    error = refused(tmp_path / "a\n\x1b[31m\u202egnp.ipynb")
    assert "\x1b" not in error.message
    assert "\u202e" not in error.message


def test_cells_of_old_minors_get_the_same_ids_each_time_and_tags(tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(raw(CODE, CODE, {"cell_type": "markdown", "metadata": {}, "source": ["a\n", "b"]})))
    first, second = read_notebook(path), read_notebook(path)
    assert first == second
    assert len({cell.id for cell in first.cells}) == 3
    assert [cell.metadata.tags for cell in first.cells] == [[], [], []]
    assert first.cells[2].source == "a\nb"
    assert (first.nbformat, first.nbformat_minor) == (4, 5)
    nbformat.validate(first)


def test_an_id_stays_when_a_cell_is_put_before(tmp_path: Path) -> None:
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(raw(CODE)))
    before = read_notebook(path).cells[0].id
    path.write_text(json.dumps(raw({**CODE, "source": "new"}, CODE)))
    assert read_notebook(path).cells[1].id == before


def test_ids_are_kept_and_the_later_of_two_equal_ones_is_replaced_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "twins.ipynb"
    path.write_text(json.dumps(raw({**CODE, "id": "a"}, {**CODE, "id": "a"}, {**CODE, "id": "b"}, minor=5)))
    ids = [cell.id for cell in read_notebook(path).cells]
    assert (ids[0], ids[2]) == ("a", "b")
    assert len(set(ids)) == 3
    assert ids == [cell.id for cell in read_notebook(path).cells]


def test_a_notebook_of_4_4_with_ids_in_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mixed.ipynb"
    path.write_text(json.dumps(raw({**CODE, "id": "given"}, CODE)))
    assert read_notebook(path).cells[0].id == "given"


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "bom.ipynb"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(raw()).encode())
    assert read_notebook(path).cells[0].source == "x = 1"


def executed() -> Any:
    nb = v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3"},
            "widgets": {"state": {}},
            "papermill": {"parameters": {"a": 1}},
        }
    )
    cell = v4.new_code_cell(
        "x = 1",
        execution_count=7,
        outputs=[v4.new_output("stream", text="hi")],
        metadata={"tags": ["parameters"], "execution": {"iopub.status.busy": "x"}, "papermill": {"duration": 1}},
    )
    nb.cells = [cell, v4.new_markdown_cell("# Title", metadata={"papermill": {}})]
    return nb


def test_stripping_leaves_source_tags_and_kernel_and_nothing_that_executing_wrote() -> None:
    nb = executed()
    before = json.dumps(nb)
    stripped = strip_outputs(nb)
    assert json.dumps(nb) == before, "the given notebook is untouched"
    assert stripped.metadata == {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    assert stripped.cells[0].metadata == {"tags": ["parameters"]}
    assert (stripped.cells[0].source, stripped.cells[0].outputs) == ("x = 1", [])
    assert stripped.cells[0].execution_count is None
    assert stripped.cells[1].metadata == {}
    assert strip_outputs(stripped) == stripped
    nbformat.validate(stripped)


def test_a_written_notebook_reads_back_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    nb = executed()
    nb.cells[0].source = "x = 'é\u2028😀'"
    write_notebook(nb, path)
    back = read_notebook(path)
    assert back.cells[0].source == nb.cells[0].source
    assert path.read_bytes().endswith(b"}\n")
    assert [entry.name for entry in tmp_path.glob(".mlops*")] == []


def test_half_of_a_surrogate_pair_is_kept_as_json_has_it(tmp_path: Path) -> None:
    nb = executed()
    nb.cells[0].source = "x = '\ud83d'"
    write_notebook(nb, tmp_path / "a.ipynb")
    assert read_notebook(tmp_path / "a.ipynb").cells[0].source == "x = '\ud83d'"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_writing_keeps_the_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.ipynb"
    write_notebook(executed(), path)
    path.chmod(mode)
    write_notebook(executed(), path)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_new_file_gets_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_notebook(executed(), tmp_path / "a.ipynb")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.ipynb").stat().st_mode) == 0o640


def test_writing_through_a_link_keeps_the_link(tmp_path: Path) -> None:
    target = tmp_path / "real.ipynb"
    target.write_text("old")
    link = tmp_path / "link.ipynb"
    link.symlink_to(target)
    write_notebook(executed(), link)
    assert link.is_symlink()
    assert len(read_notebook(target).cells) == 2


def write_with_little_space(path: Path) -> None:
    """In a process of its own, whose files may not grow: as close to a full disk as there is without mounting one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        write_notebook(v4.new_notebook(cells=[v4.new_code_cell("x" * 10_000)]), path)
    except NotebookError as error:
        os._exit(7 if error.code == "notebook_write" and error.hint else 8)
    os._exit(9)


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    path.write_text("old")
    process = multiprocessing.get_context("fork").Process(target=write_with_little_space, args=(path,))
    process.start()
    process.join()
    assert process.exitcode == 7
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir() if "mlops" in entry.name] == []


def test_writing_where_there_is_no_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="cannot be written") as caught:
        write_notebook(executed(), tmp_path / "none" / "a.ipynb")
    assert caught.value.code == "notebook_write"


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({}, "python"),
        ({"language_info": {"name": "python"}}, "python"),
        ({"language_info": {"name": "R"}}, "R"),
        ({"kernelspec": {"name": "x", "display_name": "x", "language": "julia"}}, "julia"),
        ({"kernelspec": {"name": "x", "language": "julia"}, "language_info": {"name": "python"}}, "python"),
        ({"kernelspec": {"name": "x", "language": "Python"}}, "python"),
    ],
)
def test_the_language_is_the_kernels_word_for_it(metadata: dict[str, Any], language: str) -> None:
    assert notebook_language(with_metadata(metadata)) == language


@pytest.mark.parametrize(
    ("metadata", "override", "name"),
    [
        ({}, None, "python3"),
        ({"language_info": {"name": "python"}}, None, "python3"),
        ({"kernelspec": {"name": "python3"}}, None, "python3"),
        ({"kernelspec": {"name": "Python3"}}, None, "python3"),
        ({"kernelspec": {"name": "gone"}}, "python3", "python3"),
        ({"language_info": {"name": "R"}}, "python3", "python3"),
    ],
)
def test_the_kernel_is_the_given_one_else_the_notebooks_else_python3(
    metadata: dict[str, Any], override: str | None, name: str
) -> None:
    assert resolve_kernel(with_metadata(metadata), override) == name


@pytest.mark.parametrize(
    ("metadata", "override", "said", "hinted"),
    [
        ({"kernelspec": {"name": "gone"}}, None, "'gone'", "--name gone or run it with --kernel python3"),
        ({}, "../../etc", "'../../etc'", "--name NAME"),
        ({"kernelspec": {"name": "a;rm -rf"}}, None, "'a;rm -rf'", "--name NAME"),
        ({"kernelspec": {"name": "ir"}, "language_info": {"name": "R"}}, None, "'ir'", "--kernel"),
        ({"language_info": {"name": "julia"}}, None, "julia", "--kernel"),
    ],
)
def test_a_kernel_that_is_not_installed_is_refused_with_those_that_are(
    metadata: dict[str, Any], override: str | None, said: str, hinted: str
) -> None:
    with pytest.raises(NotebookError) as caught:
        resolve_kernel(with_metadata(metadata), override)
    assert caught.value.code == "kernel_missing"
    assert said in caught.value.message
    assert "Installed are: " in caught.value.hint
    assert "python3" in caught.value.hint
    assert hinted in caught.value.hint


def install_kernel(directory: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    kernel = directory / "kernels" / "mine"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(content)
    monkeypatch.setenv("JUPYTER_PATH", str(directory))


def test_a_kernel_whose_environment_was_deleted_is_told_before_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {"argv": [str(tmp_path / "gone" / "python"), "-m", "ipykernel"], "display_name": "x", "language": "python"}
    install_kernel(tmp_path, monkeypatch, json.dumps(spec))
    with pytest.raises(NotebookError, match="which is gone") as caught:
        resolve_kernel(v4.new_notebook(), "mine")
    assert caught.value.code == "kernel_missing"


def test_a_broken_kernel_json_is_told_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_kernel(tmp_path, monkeypatch, "{")
    with pytest.raises(NotebookError, match=r"broken kernel\.json"):
        resolve_kernel(v4.new_notebook(), "mine")


def test_a_kernel_says_which_language_it_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_kernel(tmp_path, monkeypatch, json.dumps({"argv": ["x"], "display_name": "x", "language": "julia"}))
    assert (kernel_language("mine"), kernel_language("python3")) == ("julia", "python")


@pytest.mark.parametrize("content", ["{", "[]", json.dumps({"argv": ["x"], "display_name": "x"})])
def test_a_kernel_that_is_broken_or_says_no_language_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    install_kernel(tmp_path, monkeypatch, content)
    assert kernel_language("mine") == ""
    assert kernel_language("not-installed") == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_root_writes_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    write_notebook(executed(), path)
    os.chown(path, 65534, 65534)
    path.chmod(0o640)
    write_notebook(executed(), path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65534, 0o640)
