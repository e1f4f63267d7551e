from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import NotFoundError, SnapshotError
from jupyter_mlops.snapshot import Snapshot, SnapshotStore, build_snapshot
from jupyter_mlops.snapshot.model import _content_id

from .conftest import git, notebook_of
from .test_build import FILES, write

if TYPE_CHECKING:
    from collections.abc import Callable


def tree_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def objects(store: SnapshotStore) -> list[Path]:
    return sorted(path for path in (store._root / "objects").rglob("*") if path.is_file())


def test_a_saved_snapshot_is_loaded_as_it_was(put: Callable, build: Callable, store: SnapshotStore) -> None:
    put("a.csv")
    snapshot = build('open("a.csv"); open("../gone.csv")')
    assert store.save(snapshot) == snapshot.id
    for name in (snapshot.id, snapshot.short_id, snapshot.id[:4]):
        assert store.load(name) == snapshot
    assert store.list() == (snapshot,)


def test_an_empty_store_has_no_snapshots(store: SnapshotStore) -> None:
    assert store.list() == ()
    with pytest.raises(NotFoundError):
        store.load("abcd")


@pytest.mark.parametrize("name", ["", "abc", "../../etc", "ABCDEF", "zzzz", "abcd/../x", "a" * 65, "*", "\0\0\0\0"])
def test_what_is_no_id_is_not_looked_for(name: str, store: SnapshotStore) -> None:
    with pytest.raises(NotFoundError, match="no id"):
        store.load(name)


def test_a_prefix_of_several_is_refused_with_their_names(build: Callable, store: SnapshotStore) -> None:
    manifests = store._root / "manifests"
    store.save(build("1"))
    for end in ("a", "b"):
        (manifests / f"{'0' * 63}{end}.json").write_text("{}")
    with pytest.raises(NotFoundError, match="Several"):
        store.load("0000")


def test_a_snapshot_is_written_out_with_modes_and_the_notebooks_place(
    project: Path, put: Callable, build: Callable, store: SnapshotStore, tmp_path: Path
) -> None:
    git(project, "init", "-q")
    put("nb/run.sh", "#!/bin/sh").chmod(0o755)
    put("nb/deep/a.csv", "1")
    store.save(snapshot := build('!nb/run.sh\nopen("deep/a.csv"); open("run.sh")', at="nb/train.ipynb"))
    notebook = store.materialize(snapshot.id, tmp_path / "out" / "work")
    assert notebook == tmp_path / "out/work/nb/train.ipynb"
    assert json.loads(notebook.read_text())["cells"]
    assert os.access(notebook.parent / "run.sh", os.X_OK)
    assert not os.access(notebook.parent / "deep/a.csv", os.X_OK)
    assert names(tmp_path / "out") == ["work"]


def test_the_copy_is_not_the_stored_content(build: Callable, store: SnapshotStore, tmp_path: Path) -> None:
    store.save(snapshot := build("1"))
    store.materialize(snapshot.id, tmp_path / "one").write_text("changed by the run")
    assert "changed" not in store.materialize(snapshot.id, tmp_path / "two").read_text()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=FILES)
def test_hostile_names_and_any_bytes_survive_the_whole_way(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    directory = tmp_path_factory.mktemp("project")
    files = {
        "new\nline": b"1",
        "-rf": b"2",
        "quo\"te's": b"3",
        "back\\slash": b"4",
        "日本 \u202e": b"",
        **files,
    }
    write(directory, files)
    snapshot = build_snapshot(directory / "n.ipynb", notebook_of('load("data/")'), config=MLOps(snapshot_exclude=[]))
    store = SnapshotStore(tmp_path_factory.mktemp("data"))
    store.save(snapshot)
    assert {file.path for file in store.load(snapshot.id).files} == {
        "n.ipynb",
        *(f"data/{name}" for name in files),
    }
    store.materialize(snapshot.id, directory / "out")
    assert tree_of(directory / "out" / "data") == files
    with zipfile.ZipFile(store.write_zip(snapshot.id, directory / "s.zip")) as archive:
        for name, content in files.items():
            assert archive.read(f"work/data/{name}") == content


def test_the_same_content_makes_the_same_zip(tmp_path: Path) -> None:
    zips = []
    for name, order in (("one", ["a", "b"]), ("two", ["b", "a"])):
        write(tmp_path / name, {key: key.encode() * 1000 for key in order}, mtime=len(zips))
        snapshot = build_snapshot(tmp_path / name / "n.ipynb", notebook_of('load("data/")'), config=MLOps())
        store = SnapshotStore(tmp_path / f"store-{name}")
        store.save(snapshot)
        zips.append(store.write_zip(snapshot.id, tmp_path / f"{name}.zip").read_bytes())
    assert zips[0] == zips[1]


def test_the_zip_has_everything_and_the_files_below_work(
    project: Path, put: Callable, build: Callable, store: SnapshotStore, tmp_path: Path
) -> None:
    git(project, "init", "-q")
    put("a.txt", "one\n")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    put("a.txt", "two\n")
    put("run.sh").chmod(0o755)
    store.save(snapshot := build("1", include=["run.sh"]))
    with zipfile.ZipFile(store.write_zip(snapshot.id, tmp_path / "deep" / "s.zip")) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            "git.diff",
            "requirements.txt",
            "snapshot.json",
            "work/run.sh",
            "work/train.ipynb",
        ]
        assert Snapshot.model_validate_json(archive.read("snapshot.json")) == snapshot
        assert archive.read("requirements.txt").decode() == snapshot.environment.lock
        assert b"+two" in archive.read("git.diff") == store.diff(snapshot.id)
        assert archive.getinfo("work/run.sh").external_attr >> 16 == 0o100755


def test_content_is_stored_once(put: Callable, build: Callable, store: SnapshotStore) -> None:
    put("a.csv", "same")
    put("b.csv", "same")
    store.save(build('open("a.csv"); open("b.csv")'))
    store.save(build('open("a.csv"); open("b.csv") '))
    assert len(objects(store)) == 3


def test_saving_again_changes_nothing(put: Callable, build: Callable, store: SnapshotStore) -> None:
    put("a.csv")
    store.save(snapshot := build('open("a.csv")'))
    before = {path: path.stat().st_mtime_ns for path in objects(store)}
    store.save(snapshot)
    store.save(store.load(snapshot.id))
    assert {path: path.stat().st_mtime_ns for path in objects(store)} == before


# What changes between showing and saving


@pytest.mark.parametrize("change", ["other byte", "longer", "shorter", "gone", "link", "fifo", "directory"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "content known"])
def test_a_file_that_changed_after_it_was_shown_is_noticed(
    change: str, known: bool, put: Callable, build: Callable, store: SnapshotStore
) -> None:
    path = put("a.csv", "before")
    if known:
        store.save(build('open("a.csv")'))
    snapshot = build('open("a.csv") ')
    other = put("other.csv", "before")
    if change in ("gone", "link", "fifo", "directory"):
        path.unlink()
    {
        "other byte": lambda: path.write_text("Before"),
        "longer": lambda: path.write_text("before and more"),
        "shorter": lambda: path.write_text("bef"),
        "gone": lambda: None,
        "link": lambda: path.symlink_to(other),
        "fifo": lambda: os.mkfifo(path),
        "directory": path.mkdir,
    }[change]()
    with pytest.raises(SnapshotError, match=r"a\.csv has changed") as caught:
        store.save(snapshot)
    assert caught.value.code == "changed"
    assert snapshot.id not in {each.id for each in store.list()}
    assert names(store._root / "tmp") == []


def test_a_loaded_snapshot_can_only_be_saved_where_its_content_is(
    build: Callable, store: SnapshotStore, tmp_path: Path
) -> None:
    store.save(snapshot := build("1"))
    with pytest.raises(SnapshotError) as caught:
        SnapshotStore(tmp_path / "elsewhere").save(store.load(snapshot.id))
    assert caught.value.code == "damaged"


# Damage


@pytest.mark.parametrize("damage", ["other byte", "cut", "gone"])
def test_damaged_content_is_told_and_mended_by_saving_again(
    damage: str, put: Callable, build: Callable, store: SnapshotStore, tmp_path: Path
) -> None:
    put("a.csv", "before")
    store.save(snapshot := build('open("a.csv")'))
    target = next(path for path in objects(store) if path.read_bytes() == b"before")
    {
        "other byte": lambda: target.write_text("Before"),
        "cut": lambda: target.write_text("bef"),
        "gone": target.unlink,
    }[damage]()
    for write_out in (
        lambda: store.materialize(snapshot.id, tmp_path / "out"),
        lambda: store.write_zip(snapshot.id, tmp_path / "s.zip"),
    ):
        with pytest.raises(SnapshotError, match=r"a\.csv") as caught:
            write_out()
        assert caught.value.code == "damaged"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "s.zip").exists()
    assert not [name for name in names(tmp_path) if name.startswith(".snapshot-")]
    store.save(snapshot)
    assert store.materialize(snapshot.id, tmp_path / "out").exists()


PATHS = st.sampled_from(["../x", "/tmp/x", "a/../../x", "..", ".", "", "a//b", "a/", "./a", "a\0b", "C:\\x", "C:/x"])


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, honest=st.booleans())
def test_a_manifest_that_leads_out_of_the_destination_is_refused(
    build: Callable, tmp_path_factory: pytest.TempPathFactory, path: str, honest: bool
) -> None:
    directory = tmp_path_factory.mktemp("case")
    store = SnapshotStore(directory / "data")
    store.save(snapshot := build("1", extra_files={"a": b"evil"}))
    data = snapshot.model_dump(mode="json")
    data["files"] = [{**file, "path": path} if file["path"] == "a" else file for file in data["files"]]
    if honest:  # an attacker who knows how the id is made
        files = [snapshot.files[0].model_copy(update={"path": path}), snapshot.files[1]]
        data["id"] = _content_id(snapshot.notebook, files, snapshot.environment, snapshot.git, snapshot.seed)
    (store._root / "manifests" / f"{data['id']}.json").write_text(json.dumps(data))
    with pytest.raises(SnapshotError) as caught:
        store.materialize(data["id"], directory / "in" / "out")
    assert caught.value.code == "damaged"
    assert not (directory / "in" / "x").exists()
    assert not (directory / "x").exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "\x00", '{"format": 2}', "[" * 3000])
def test_a_broken_manifest_is_told_and_does_not_hide_the_others(
    text: str, build: Callable, store: SnapshotStore
) -> None:
    store.save(good := build("1"))
    store.save(bad := build("2"))
    (store._root / "manifests" / f"{bad.id}.json").write_text(text)
    with pytest.raises(SnapshotError) as caught:
        store.load(bad.id)
    assert caught.value.code == "damaged"
    assert store.list() == (good,)
    store.save(bad)
    assert store.load(bad.id) == bad


def test_a_manifest_under_anothers_name_is_refused(build: Callable, store: SnapshotStore) -> None:
    store.save(snapshot := build("1"))
    name = store._root / "manifests" / f"{'0' * 64}.json"
    name.write_bytes((store._root / "manifests" / f"{snapshot.id}.json").read_bytes())
    with pytest.raises(SnapshotError, match="another's"):
        store.load("0" * 64)


@pytest.mark.parametrize("kind", ["file", "full directory", "link"])
def test_a_destination_that_is_taken_is_left_alone(
    kind: str, build: Callable, store: SnapshotStore, tmp_path: Path
) -> None:
    store.save(snapshot := build("1"))
    (tmp_path / "elsewhere").mkdir()
    destination = tmp_path / "out"
    if kind == "file":
        destination.write_text("mine")
    elif kind == "link":
        destination.symlink_to(tmp_path / "elsewhere")
    else:
        destination.mkdir()
        (destination / "mine").write_text("mine")
    before = tree_of(tmp_path)
    with pytest.raises(SnapshotError) as caught:
        store.materialize(snapshot.id, destination)
    assert caught.value.code == "destination_taken"
    assert tree_of(tmp_path) == before


def test_an_empty_destination_is_filled(build: Callable, store: SnapshotStore, tmp_path: Path) -> None:
    store.save(snapshot := build("1"))
    (tmp_path / "out").mkdir()
    assert store.materialize(snapshot.id, tmp_path / "out").exists()


# Faults

FULL = """
import resource, sys
from pathlib import Path
from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import SnapshotError
from jupyter_mlops.snapshot import SnapshotStore, build_snapshot
import nbformat.v4 as v4
nb = v4.new_notebook(cells=[v4.new_code_cell('open("big.bin")', id="a")])
project, data, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
snapshot = build_snapshot(project / "n.ipynb", nb, config=MLOps())
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    SnapshotStore(data).save(snapshot)
except SnapshotError as error:
    print(error.code, error.message)
"""


def test_a_disk_that_takes_no_more_is_told_and_the_store_stays_whole(
    project: Path, put: Callable, build: Callable, store: SnapshotStore
) -> None:
    store.save(earlier := build("1"))
    put("big.bin", b"x" * 200_000)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(project), str(store._root.parent), "100000"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("disk_full The disk is full")
    assert store.list() == (earlier,)
    assert names(store._root / "tmp") == []


def test_a_full_file_system_is_told_and_the_store_stays_whole(
    project: Path, put: Callable, build: Callable, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    put("big.bin", os.urandom(3_000_000))
    script = tmp_path / "full.py"
    script.write_text(FULL)
    shell = 'mount -t tmpfs -o size=1m none "$1" && "$2" "$3" "$4" "$1" 0 && find "$1" -type f'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", shell, "sh", str(small), sys.executable, str(script), str(project)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip("this machine gives no mount of one's own")
    assert done.stdout.startswith("disk_full The disk is full"), done.stderr
    assert "/tmp/" not in done.stdout.replace(str(small), "")
    assert "manifests/" not in done.stdout


def test_a_store_that_may_not_be_written_is_told(build: Callable, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "snapshots").write_text("a file")
    with pytest.raises(SnapshotError) as caught:
        SnapshotStore(tmp_path / "data").save(build("1"))
    assert caught.value.code == "not_writable"


def _save_for_ever(project: Path, data: Path) -> None:
    for number in range(1_000_000):
        for name in range(10):
            (project / "data" / str(name)).write_bytes(f"{number} {name} {os.getpid()} ".encode() * 10_000)
        nb = notebook_of(f'load("data/"); x = {number}')
        SnapshotStore(data).save(build_snapshot(project / "n.ipynb", nb, config=MLOps()))


def _stop_in_mid_write(pid: int, temporary: Path) -> None:
    """Halt a saver at a moment when it has begun a file and not finished it, however busy the machine is."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        os.kill(pid, signal.SIGSTOP)
        # A stop takes effect a little later.
        while (state := psutil.Process(pid).status()) not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)
        assert state == psutil.STATUS_STOPPED
        if names(temporary):
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.003)
    raise AssertionError("the saver was never seen in the middle of a write")


def test_a_saver_that_is_killed_leaves_a_store_that_is_whole(project: Path, tmp_path: Path) -> None:
    (project / "data").mkdir()
    store = SnapshotStore(tmp_path / "killed")
    chance = random.Random(1)
    notebook_of("loads nbformat, once for all forks")
    build_snapshot(project / "n.ipynb", notebook_of("1"), config=MLOps())
    for round_ in range(12):
        process = multiprocessing.get_context("fork").Process(
            target=_save_for_ever, args=(project, tmp_path / "killed")
        )
        seen = len(list(store._manifests()))
        process.start()
        while len(list(store._manifests())) == seen:
            assert process.is_alive()
            time.sleep(0.005)
        if round_ % 2:
            time.sleep(chance.random() * 0.3)
        else:
            _stop_in_mid_write(process.pid, store._root / "tmp")
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert round_ % 2 or names(store._root / "tmp"), "the kill did not come in the middle of a write"
        assert len(store.list()) == len(list(store._manifests())) > seen
    for index, snapshot in enumerate(store.list()):
        store.materialize(snapshot.id, tmp_path / f"out-{index}")
    after = build_snapshot(project / "n.ipynb", notebook_of("after"), config=MLOps())
    store.save(after)
    assert store.load(after.id) == after


def test_what_killed_savers_left_is_swept_after_a_day(build: Callable, store: SnapshotStore) -> None:
    store.save(build("1"))
    old, new = store._root / "tmp" / "old", store._root / "tmp" / "new"
    old.write_text("x")
    new.write_text("x")
    os.utime(old, (1, 1))
    store.save(build("2"))
    assert names(store._root / "tmp") == ["new"]


def _save(project: str, data: str) -> str:
    snapshot = build_snapshot(Path(project) / "n.ipynb", notebook_of('load("data/")'), config=MLOps())
    return SnapshotStore(Path(data)).save(snapshot)


def test_many_may_save_the_same_at_once(project: Path, tmp_path: Path, store: SnapshotStore) -> None:
    write(project, {str(number): bytes([number]) * 50_000 for number in range(20)})
    with multiprocessing.get_context("fork").Pool(4) as pool:
        ids = pool.starmap(_save, [(str(project), str(tmp_path / "data"))] * 8)
    assert len(set(ids)) == 1
    assert [snapshot.id for snapshot in store.list()] == ids[:1]
    assert tree_of(store.materialize(ids[0], tmp_path / "out").parent / "data").keys() == {str(n) for n in range(20)}
