"""Which files of a run are uploaded, and under which names."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_mlops.redact import Redactor
from jupyter_mlops.tracking.artifacts import OUTPUT_FILES, Artifact, run_artifacts

if TYPE_CHECKING:
    from pathlib import Path


def collect(run_dir: Path, **options: Any) -> dict[str, Artifact]:
    options = {
        "snapshot": None,
        "snapshot_zip": None,
        "extra": {},
        "redactor": Redactor(["hunter22"]),
        **options,
    }
    return {artifact.name: artifact for artifact in run_artifacts(run_dir, **options)}


def test_an_empty_run_has_none(tmp_path: Path) -> None:
    assert collect(tmp_path) == {}
    assert collect(tmp_path / "missing") == {}


def test_links_and_pipes_that_a_notebook_left_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "real.txt").write_text("x")
    (tmp_path / "outputs" / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "outputs" / "etc").symlink_to("/etc")
    os.mkfifo(tmp_path / "outputs" / "pipe")
    (tmp_path / "executed.ipynb").symlink_to("/etc/passwd")
    assert set(collect(tmp_path, extra={"a/b.txt": tmp_path / "outputs" / "passwd"})) == {"outputs/real.txt"}


def test_a_directory_of_outputs_that_is_a_link_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "outputs").symlink_to(tmp_path / "elsewhere")
    assert collect(tmp_path / "run") == {}


@pytest.mark.parametrize("name", ["a#b", "50%", "what?", "new\nline", "🎉.txt", "-rf", "a\\b", "é.txt"])
def test_odd_names_become_names_that_a_url_takes(tmp_path: Path, name: str) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / name).write_text("x")
    (made,) = collect(tmp_path)
    assert not set(made) & set("#%?\n\\")
    assert made.startswith("outputs/")
    assert made.count("/") == 1


def test_only_so_many_outputs_are_taken(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    for number in range(OUTPUT_FILES + 5):
        (tmp_path / "outputs" / f"{number}").touch()
    assert len(collect(tmp_path)) == OUTPUT_FILES


def test_the_manifest_and_the_lock_are_written_without_secrets(tmp_path: Path) -> None:
    snapshot = SimpleNamespace(
        environment=SimpleNamespace(lock=["a==1", "b @ https://x:hunter22@h/b.whl"]),
        model_dump=lambda mode: {"files": ["hunter22"]},
    )
    found = collect(tmp_path, snapshot=snapshot)
    assert found["requirements.lock"].content == "a==1\nb @ https://x:***@h/b.whl\n"
    assert json.loads(str(found["snapshot.json"].content)) == {"files": ["***"]}
