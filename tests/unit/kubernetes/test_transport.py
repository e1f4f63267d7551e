"""A snapshot that travelled is taken only if it is what it says; what comes back stays where it belongs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import SnapshotError, TrackingError
from jupyter_mlops.kubernetes.transport import inside, take_zip
from jupyter_mlops.notebook.document import read_notebook, strip_outputs
from jupyter_mlops.snapshot import Snapshot, SnapshotStore, build_snapshot


@pytest.fixture
def sent(make_notebook: Callable[..., Path], tmp_path: Path) -> tuple[Snapshot, Path]:
    """A snapshot of a notebook with a module and a data file, and its zip."""
    notebook = make_notebook("import helper\nopen('data.csv')")
    (notebook.parent / "helper.py").write_text("x = 1\n")
    (notebook.parent / "data.csv").write_text("a,b\n1,2\n")
    snapshot = build_snapshot(notebook, strip_outputs(read_notebook(notebook)), config=MLOps(), include=["*.csv"])
    here = SnapshotStore(tmp_path / "here")
    here.save(snapshot)
    return snapshot, here.write_zip(snapshot.id, tmp_path / "snapshot.zip")


def _changed(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    change(content)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    path.write_bytes(out.getvalue())


def test_what_was_sent_is_what_arrives(sent: tuple[Snapshot, Path], tmp_path: Path) -> None:
    snapshot, path = sent
    there = SnapshotStore(tmp_path / "there")
    assert take_zip(path, there) == snapshot
    notebook = there.materialize(snapshot.id, tmp_path / "work")
    assert (notebook.parent / "data.csv").read_text() == "a,b\n1,2\n"
    assert there.write_zip(snapshot.id, tmp_path / "again.zip").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("content", [b"x = 2\n", b"", b"x" * 10_000_000])
def test_a_file_that_was_changed_on_the_way_is_refused(
    sent: tuple[Snapshot, Path], tmp_path: Path, content: bytes
) -> None:
    snapshot, path = sent
    name = next(f"work/{file.path}" for file in snapshot.files if file.path.endswith("helper.py"))
    _changed(path, lambda files: files.__setitem__(name, content))
    with pytest.raises(SnapshotError):
        take_zip(path, SnapshotStore(tmp_path / "there"))
    with pytest.raises(Exception, match="no snapshot"):
        SnapshotStore(tmp_path / "there").load(snapshot.id)


@pytest.mark.parametrize("missing", ["snapshot.json", "work/"])
def test_a_part_that_is_missing_is_refused(sent: tuple[Snapshot, Path], tmp_path: Path, missing: str) -> None:
    def drop(files: dict[str, bytes]) -> None:
        del files[next(name for name in files if name.startswith(missing))]

    _changed(sent[1], drop)
    with pytest.raises(SnapshotError, match="damaged"):
        take_zip(sent[1], SnapshotStore(tmp_path / "there"))


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04"])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "snapshot.zip").write_bytes(content)
    with pytest.raises(SnapshotError, match="damaged"):
        take_zip(tmp_path / "snapshot.zip", SnapshotStore(tmp_path / "there"))


def test_nothing_is_left_beside_the_zip(sent: tuple[Snapshot, Path], tmp_path: Path) -> None:
    take_zip(sent[1], SnapshotStore(tmp_path / "there"))
    assert not list(tmp_path.glob(".take-*"))


def test_a_result_goes_into_the_runs_directory(tmp_path: Path) -> None:
    assert inside(tmp_path, "outputs/a/b.png") == tmp_path / "outputs" / "a" / "b.png"


@pytest.mark.parametrize("path", ["../x", "outputs/../../x", "/etc/passwd", "outputs\\..\\x", "a\x00b"])
def test_a_result_that_would_be_written_elsewhere_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(TrackingError, match="written elsewhere"):
        inside(tmp_path, path)


def test_a_link_in_the_runs_directory_is_not_followed_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "outputs").symlink_to(tmp_path)
    with pytest.raises(TrackingError, match="leads out"):
        inside(tmp_path / "run", "outputs/x.png")
