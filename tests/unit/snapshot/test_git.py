from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.snapshot import git as git_room
from jupyter_mlops.snapshot.git import git_top_level, read_git, remote_without_credentials

from .conftest import git

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repository(project: Path) -> Path:
    git(project, "init", "-q")
    (project / "a.txt").write_text("one\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    return project


def test_a_directory_without_git_has_no_state(project: Path) -> None:
    reading = read_git(project)
    assert (reading.state, reading.diff, reading.warnings) == (None, None, ())


def test_a_machine_without_git_has_no_state(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert read_git(repository).state is None
    assert git_top_level(repository) is None


def test_a_clean_tree_has_commit_branch_and_no_diff(repository: Path) -> None:
    state = read_git(repository).state
    assert state is not None
    assert state.commit == git(repository, "rev-parse", "HEAD")
    assert (state.branch, state.dirty, state.diff_sha256, state.untracked) == ("main", False, None, 0)


def test_changes_are_a_diff_that_applies_and_ends_in_the_same_files(repository: Path, tmp_path: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    (repository / "b.bin").write_bytes(bytes(range(256)))
    git(repository, "add", "b.bin")
    (repository / "untracked").write_text("x")
    reading = read_git(repository)
    assert reading.state is not None
    assert reading.diff is not None
    assert reading.state.dirty
    assert reading.state.untracked == 1
    assert reading.state.diff_sha256 == hashlib.sha256(reading.diff).hexdigest()
    assert reading.state.diff_size == len(reading.diff)
    git(tmp_path, "clone", "-q", str(repository), "clone")
    (tmp_path / "changes").write_bytes(reading.diff)
    git(tmp_path / "clone", "apply", "--binary", str(tmp_path / "changes"))
    assert (tmp_path / "clone/a.txt").read_text() == "two\n"
    assert (tmp_path / "clone/b.bin").read_bytes() == bytes(range(256))


def test_a_repository_without_a_commit_has_a_diff_from_nothing(project: Path) -> None:
    git(project, "init", "-q")
    (project / "a.txt").write_text("one\n")
    assert read_git(project).state == git_room.GitState(commit=None, branch="main", untracked=1)
    git(project, "add", "a.txt")
    reading = read_git(project)
    assert reading.diff is not None
    assert b"+one" in reading.diff


def test_a_detached_head_has_no_branch(repository: Path) -> None:
    git(repository, "checkout", "-q", "--detach")
    state = read_git(repository).state
    assert state is not None
    assert state.branch is None
    assert state.commit


def test_a_worktree_is_a_root_of_its_own(repository: Path, tmp_path: Path) -> None:
    git(repository, "worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    assert git_top_level(tmp_path / "other") == tmp_path / "other"
    state = read_git(tmp_path / "other").state
    assert state is not None
    assert state.branch == "other"


def test_changes_inside_a_submodule_are_told(repository: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(repository), "source")
    git(repository, "submodule", "add", "-q", str(tmp_path / "source"), "sub")
    git(repository, "commit", "-qm", "sub")
    clean = read_git(repository)
    assert clean.state is not None
    assert not clean.state.dirty
    assert clean.warnings == ()
    (repository / "sub/a.txt").write_text("changed")
    reading = read_git(repository)
    assert reading.state is not None
    assert reading.state.dirty
    assert any("sub" in warning for warning in reading.warnings)
    assert git_top_level(repository / "sub") == repository / "sub"


def test_only_the_root_is_looked_at(repository: Path) -> None:
    (repository / "inner").mkdir()
    (repository / "a.txt").write_text("changed")
    state = read_git(repository / "inner").state
    assert state is not None
    assert not state.dirty


@pytest.mark.parametrize(
    "name", [".env", "sub/server.pem", "SERVER.PEM", "sub/deep/My_Credentials.json", "my_credentials/x"]
)
def test_secrets_are_not_in_the_diff(name: str, repository: Path) -> None:
    path = repository / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("old")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "secret")
    path.write_text("hunter2")
    (repository / "a.txt").write_text("two")
    reading = read_git(repository, secret_names=[".env", "*.pem", "*credentials*"])
    assert reading.diff is not None
    assert b"hunter2" not in reading.diff
    assert b"+two" in reading.diff
    assert reading.state is not None
    assert reading.state.dirty


def test_a_diff_over_the_limit_is_only_hashed_and_told(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_room, "DIFF_LIMIT", 100)
    (repository / "a.txt").write_text("x" * 1000)
    reading = read_git(repository)
    assert reading.diff is None
    assert reading.state is not None
    assert not reading.state.diff_kept
    assert reading.state.diff_size > 1000
    assert reading.state.diff_sha256
    assert any("only their hash" in warning for warning in reading.warnings)


def test_the_users_ways_to_show_a_diff_do_not_change_it(repository: Path) -> None:
    (repository / "a.txt").write_text("two\n")
    plain = read_git(repository).diff
    for key, value in {
        "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true",
        "color.ui": "always",
        "diff.context": "9",
        "diff.algorithm": "patience",
        "core.abbrev": "5",
        "diff.external": "false",
        "diff.relative": "false",
    }.items():
        git(repository, "config", key, value)
    assert plain
    assert read_git(repository).diff == plain


def test_nothing_that_the_repository_names_is_run(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    for key in (
        "core.fsmonitor",
        "diff.external",
        "diff.x.textconv",
        "diff.x.command",
        "core.pager",
        "pager.diff",
    ):
        git(repository, "config", key, str(script))
    (repository / ".gitattributes").write_text("*.txt diff=x\n")
    (repository / ".git/hooks/post-index-change").write_text(script.read_text())
    (repository / ".git/hooks/post-index-change").chmod(0o755)
    (repository / "a.txt").write_text("two\n")
    assert read_git(repository).diff
    assert not mark.exists()


def test_the_index_is_left_alone(repository: Path) -> None:
    index = repository / ".git/index"
    before = index.read_bytes()
    os.utime(repository / "a.txt", (1, 1))
    read_git(repository)
    assert index.read_bytes() == before


def test_the_variables_of_a_git_hook_do_not_mislead(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert git_top_level(repository) == repository
    state = read_git(repository).state
    assert state is not None
    assert state.commit


def test_a_repository_of_somebody_else_is_told(repository: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    subprocess.run(["chown", "-R", "12345:12345", str(repository)], check=True)
    reading = read_git(repository)
    assert reading.state is None
    assert any("safe.directory" in warning for warning in reading.warnings)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:token@host/o/r.git", "https://host/o/r.git"),
        ("https://token@host:8443/o/r.git", "https://host:8443/o/r.git"),
        ("https://host/o/r.git?private_token=x#y", "https://host/o/r.git"),
        ("https://user:p@ss@host/o/r", "https://host/o/r"),
        ("https://user:pa/ss@host/o/r", None),
        ("https://host/o/r@v1", "https://host/o/r@v1"),
        ("ssh://git@host:22/o/r.git", "ssh://git@host:22/o/r.git"),
        ("ssh://git:secret@host/o/r.git", "ssh://host/o/r.git"),
        ("git@host:o/r.git", "git@host:o/r.git"),
        ("user:secret@host:o/r.git", "user@host:o/r.git"),
        ("host:o/r.git", "host:o/r.git"),
        ("/srv/git/r.git", None),
        ("file:///srv/git/r.git", None),
        ("../r.git", None),
        (r"C:\git\r", None),
        ("https://", None),
        ("", None),
    ],
)
def test_a_remote_is_shown_without_credentials(url: str, shown: str | None) -> None:
    assert remote_without_credentials(url) == shown


@given(st.sampled_from(["https", "ssh", "git+ssh", "http"]), st.text(alphabet="ab:@/?#%", max_size=6))
def test_no_password_of_a_remote_is_left(scheme: str, noise: str) -> None:
    cleaned = remote_without_credentials(f"{scheme}://user:SECRET{noise}@host/o/r.git")
    assert cleaned is None or "SECRET" not in cleaned


def test_the_remote_is_origin_or_the_first(repository: Path) -> None:
    git(repository, "remote", "add", "fork", "https://u:p@host/fork.git")
    state = read_git(repository).state
    assert state is not None
    assert state.remote == "https://host/fork.git"
    git(repository, "remote", "add", "origin", "git@host:o/r.git")
    state = read_git(repository).state
    assert state is not None
    assert state.remote == "git@host:o/r.git"
