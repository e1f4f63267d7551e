"""Fixtures of the snapshot room: a project on disk, notebooks from cells, a git repository, a store."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.snapshot import SnapshotStore, build_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nbformat import NotebookNode

    from jupyter_mlops.snapshot import Snapshot


def notebook_of(*cells: str, language: str = "python") -> NotebookNode:
    """A notebook without outputs and with the same cell ids each time."""
    from nbformat import v4

    nb = v4.new_notebook()
    nb.metadata["kernelspec"] = {"name": "k", "display_name": "k", "language": language}
    nb.cells = [v4.new_code_cell(source, id=f"cell-{index}") for index, source in enumerate(cells)]
    return nb


def git(directory: Path, *arguments: str) -> str:
    """Run git as a user who has told it who he is."""
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false",
           "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"]  # fmt: skip
    done = subprocess.run(["git", *who, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def put(project: Path) -> Callable[..., Path]:
    """Write a file of the project."""

    def write(name: str, content: str | bytes = "content") -> Path:
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def build(project: Path) -> Callable[..., Snapshot]:
    """Build a snapshot of a notebook in the project from cells."""

    def make(*cells: str, at: str = "train.ipynb", language: str = "python", config: MLOps | None = None,
             **options: Any) -> Snapshot:  # fmt: skip
        return build_snapshot(project / at, notebook_of(*cells, language=language), config=config or MLOps(), **options)

    return make


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "data")


def shipped(snapshot: Snapshot) -> dict[str, str]:
    """Path and reason of everything but the notebook."""
    return {file.path: file.reason for file in snapshot.files if file.reason != "notebook"}


def paths(snapshot: Snapshot) -> Sequence[str]:
    return sorted(shipped(snapshot))
