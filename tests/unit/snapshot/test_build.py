from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import SnapshotError
from jupyter_mlops.snapshot import build_snapshot, describe
from jupyter_mlops.snapshot.tree import NEVER, SECRET_DIRECTORIES

from .conftest import git, notebook_of, paths, shipped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Hypothesis reads our source for strings and does try ".svn" as a name.
NOT_SHIPPED = NEVER.union(SECRET_DIRECTORIES, ("pyvenv.cfg", "conda-meta"))
NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..", *NOT_SHIPPED) and len(name.encode()) <= 200)  # fmt: skip
FILES = st.dictionaries(NAMES, st.binary(max_size=50), max_size=5).filter(
    lambda files: len({name.casefold() for name in files}) == len(files)
)


def write(directory: Path, files: dict[str, bytes], *, mtime: int = 0) -> None:
    """The files in the order that they are given."""
    for name, content in files.items():
        path = directory / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (mtime, mtime))


def snapshot_in(directory: Path, *cells: str, **options: object):
    directory.mkdir(parents=True, exist_ok=True)
    return build_snapshot(directory / "n.ipynb", notebook_of(*cells), config=MLOps(snapshot_exclude=[]), **options)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES, seed=st.integers(0, 2**32 - 1))
def test_the_same_content_has_the_same_id_wherever_and_whenever(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], seed: int
) -> None:
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two") / "deeper" / "näme"
    write(one, files, mtime=1)
    write(two, dict(reversed(files.items())), mtime=2_000_000_000)
    first = snapshot_in(one, 'load("data/")', seed=seed)
    second = snapshot_in(two, 'load("data/")', seed=seed)
    assert first.id == second.id
    assert first.files == second.files


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(min_size=1, max_size=50), position=st.integers(0, 49), flip=st.integers(1, 255),
    seeds=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2, unique=True),
)  # fmt: skip
def test_one_other_byte_or_seed_is_another_id(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, position: int, flip: int, seeds: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("project")
    write(directory, {"x.bin": content})
    first = snapshot_in(directory, 'load("data/")', seed=seeds[0])
    assert snapshot_in(directory, 'load("data/")', seed=seeds[1]).id != first.id
    changed = bytearray(content)
    changed[position % len(content)] ^= flip
    write(directory, {"x.bin": bytes(changed)})
    assert snapshot_in(directory, 'load("data/")', seed=seeds[0]).id != first.id


def test_whatever_ships_is_part_of_the_id(put: Callable, build: Callable, project: Path) -> None:
    put("a.csv")
    base = build('open("a.csv")').id
    ids = {
        "cell": build('open("a.csv") ').id,
        "extra": build('open("a.csv")', extra_files={"c": b"1"}).id,
        "excluded": build('open("a.csv")', exclude=["a.csv"]).id,
        "name": build('open("a.csv")', at="other.ipynb").id,
    }
    (project / "a.csv").chmod(0o755)
    ids["mode"] = build('open("a.csv")').id
    assert len({base, *ids.values()}) == len(ids) + 1


def test_why_a_file_ships_and_what_is_untracked_is_not_part_of_the_id(
    project: Path, put: Callable, build: Callable
) -> None:
    git(project, "init", "-q")
    put("a.csv")
    git(project, "add", "a.csv")
    git(project, "commit", "-qm", "first")
    first = build('open("a.csv")')
    put("noise")
    second = build('open("a.csv")', include=["a.csv"])
    assert (first.files[0].reason, second.files[0].reason) == ("literal", "include")
    assert (first.git.untracked, second.git.untracked) == (0, 1)
    assert first.id == second.id


def test_outputs_of_the_notebook_change_neither_the_diff_nor_the_id(
    project: Path, put: Callable, build: Callable
) -> None:
    git(project, "init", "-q")
    put("train.ipynb", "{}")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    clean = build("1")
    put("train.ipynb", '{"outputs": "hunter2"}')
    dirty = build("1")
    assert dirty.git.dirty
    assert dirty.git.diff_sha256 is None
    assert dirty.id == clean.id


def test_an_uncommitted_change_is_part_of_the_id(project: Path, put: Callable, build: Callable) -> None:
    git(project, "init", "-q")
    put("other.txt")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    clean = build("1")
    put("other.txt", "changed")
    assert build("1").id != clean.id


def test_nothing_is_written_while_it_is_built(project: Path, put: Callable, build: Callable, tmp_path: Path) -> None:
    put("a.csv")
    config = MLOps()
    before = sorted(config.data_path.rglob("*")), sorted(project.rglob("*"))
    build('open("a.csv")', config=config)
    assert (sorted(config.data_path.rglob("*")), sorted(project.rglob("*"))) == before


def test_the_notebook_ships_as_it_was_given_and_not_as_it_lies_there(
    project: Path, put: Callable, build: Callable
) -> None:
    put("train.ipynb", "something else with outputs")
    snapshot = build("answer = 42", 'open("train.ipynb")')
    assert snapshot.notebook == "train.ipynb"
    assert [file.reason for file in snapshot.files] == ["notebook"]
    assert b"answer = 42" in snapshot._sources["train.ipynb"]


def test_a_notebook_with_half_a_surrogate_pair_is_json_that_keeps_it(build: Callable) -> None:
    import json

    data = build('x = "\ud800"')._sources["train.ipynb"]
    assert "\ud800" in "".join(json.loads(data)["cells"][0]["source"])


def test_a_notebook_that_is_a_link_is_found_where_the_link_is(project: Path, put: Callable, tmp_path: Path) -> None:
    (tmp_path / "real.ipynb").write_text("{}")
    (project / "link.ipynb").symlink_to(tmp_path / "real.ipynb")
    put("a.csv")
    snapshot = build_snapshot(project / "link.ipynb", notebook_of('open("a.csv")'), config=MLOps())
    assert snapshot.notebook == "link.ipynb"
    assert paths(snapshot) == ["a.csv"]


def test_extra_files_lie_beside_the_notebook_and_win(project: Path, put: Callable, build: Callable) -> None:
    git(project, "init", "-q")
    put("nb/a.csv", "old")
    snapshot = build('open("a.csv")', at="nb/t.ipynb", extra_files={"a.csv": b"new", "sub/b": b""})
    assert shipped(snapshot) == {"nb/a.csv": "extra", "nb/sub/b": "extra"}
    assert snapshot._sources["nb/a.csv"] == b"new"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", ".", "a\0b", "a\\b", "train.ipynb",
                                  "./train.ipynb", "train.ipynb/x", "\ud800"])  # fmt: skip
def test_an_extra_file_that_cannot_be_is_refused(name: str, build: Callable) -> None:
    with pytest.raises(SnapshotError):
        build("1", extra_files={name: b""})


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int, build: Callable) -> None:
    with pytest.raises(SnapshotError, match="seed"):
        build("1", seed=seed)


def test_a_file_that_cannot_be_read_is_named(put: Callable, build: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("a.csv")

    def vanish(*args: object, **kwargs: object) -> None:
        path.unlink()

    # Between the look and the read: a real deletion, only its moment is arranged.
    monkeypatch.setattr("jupyter_mlops.snapshot.build._check_size", vanish)
    with pytest.raises(SnapshotError, match=r"a\.csv") as caught:
        build('open("a.csv")')
    assert caught.value.code == "unreadable"


def test_the_description_says_what_ships_why_and_how_large(project: Path, put: Callable, build: Callable) -> None:
    put("data/train.csv", "x" * 2048)
    put(".env")
    lines = describe(build('open("data/train.csv"); open(".env")', seed=7))
    assert lines[0].startswith("Snapshot ")
    assert "2 files" in lines[0]
    assert "seed 7" in lines[0]
    assert lines[1].startswith("  train.ipynb (")
    assert "  data/train.csv (2.0 KiB): named in the code" in lines
    assert any(line.startswith("Environment: CPython ") for line in lines)
    assert any(".env" in line and line.startswith("Note: ") for line in lines)


def test_the_description_of_many_files_is_short(put: Callable, build: Callable) -> None:
    for number in range(100):
        put(f"data/{number:03}", "x" * 1024)
    lines = describe(build('load("data/")'))
    assert len(lines) < 40
    assert "  and 71 more, 71.0 KiB: 71 named in the code" in lines


def test_a_hostile_name_is_shown_on_one_line_without_control_characters(put: Callable, build: Callable) -> None:
    put("data/a\n\x1b[31m\u202egnp.csv")
    lines = describe(build('load("data/")'))
    assert all(line.isprintable() for line in lines)
    assert any(r"a\n\x1b[31m\u202egnp.csv" in line for line in lines)


def test_importing_the_room_loads_nothing_heavy() -> None:
    code = (
        "import sys, jupyter_mlops.snapshot as s; s.build_snapshot; s.SnapshotStore;"
        "print([m for m in ('nbformat', 'IPython', 'mlflow', 'papermill', 'sqlalchemy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
