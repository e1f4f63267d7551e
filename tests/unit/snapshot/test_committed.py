"""Whether what ships is in a commit; on a real git repository."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from jupyter_mlops.runs import Runs
from jupyter_mlops.snapshot.committed import uncommitted


def git(directory: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments], cwd=directory, check=True,
        capture_output=True,
    )  # fmt: skip


@pytest.fixture
def notebook(make_notebook: Callable[..., Path]) -> Path:
    path = make_notebook("import helper\nopen('data.csv')", "print(1)")
    (path.parent / "helper.py").write_text("x = 1\n")
    (path.parent / "data.csv").write_text("a\n1\n")
    return path


def looked_at(path: Path) -> tuple[str, ...] | None:
    return uncommitted(Runs().prepare(path).snapshot, path)


def test_outside_git_nobody_knows(notebook: Path) -> None:
    assert looked_at(notebook) is None


def test_before_the_first_commit_nobody_knows(notebook: Path) -> None:
    git(notebook.parent, "init", "-q")
    assert looked_at(notebook) is None


def test_all_that_ships_is_in_the_commit_or_is_named(notebook: Path) -> None:
    root = notebook.parent
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    (root / "unrelated.txt").write_text("not shipped")
    assert looked_at(notebook) == ()
    (root / "helper.py").write_text("x = 2\n")
    assert looked_at(notebook) == ("helper.py",)
    git(root, "add", "helper.py")
    assert looked_at(notebook) == ("helper.py",)
    git(root, "rm", "-q", "--cached", "data.csv")
    git(root, "commit", "-qm", "y")
    assert looked_at(notebook) == ("data.csv",)
    (root / ".gitignore").write_text("data.csv\n")
    git(root, "add", ".gitignore")
    git(root, "commit", "-qm", "z")
    assert looked_at(notebook) == ("data.csv",), "what git ignores is in no commit either"


def test_outputs_of_the_notebook_do_not_count_and_its_source_does(notebook: Path) -> None:
    root = notebook.parent
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    nb = nbformat.read(notebook, nbformat.NO_CONVERT)
    nb.cells[1].outputs = [nbformat.v4.new_output("stream", text="1\n")]
    nb.cells[1].execution_count = 7
    nbformat.write(nb, notebook)
    assert looked_at(notebook) == ()
    nb.cells[1].source = "print(2)"
    nbformat.write(nb, notebook)
    assert looked_at(notebook) == ("notebook.ipynb",)


def test_a_notebook_in_a_subdirectory_is_looked_at_from_the_root_of_what_ships(
    make_notebook: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_notebook("print(1)", name="sub/deep/ümläut nb.ipynb")
    git(tmp_path / "project", "init", "-q")
    git(tmp_path / "project", "add", ".")
    git(tmp_path / "project", "commit", "-qm", "x")
    assert looked_at(path) == ()
