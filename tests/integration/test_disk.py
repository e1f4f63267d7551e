"""A disk that becomes full under a run, a submission and the store: a small file system in memory, really filled."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest

from jupyter_mlops.errors import MLOpsError, StoreError
from jupyter_mlops.events import RunEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunState
from jupyter_mlops.store.database import Store
from tests.unit.store.cases import spec

from .conftest import kill_processes_of, processes_of
from .watching import (
    outputs_text,
    until,
)

pytestmark = pytest.mark.integration


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        reason = f"needs the right to mount a small tmpfs (root): {mounted.stderr.decode().strip()}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    try:
        yield place
    finally:
        kill_processes_of(place)
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def core(small_disk: Path, mlflow_database: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The core with everything on the small disk."""
    shutil.copy(mlflow_database, small_disk / "mlflow.db")
    monkeypatch.setenv("JUPYTER_MLOPS_DATA_DIR", str(small_disk))
    return Runs()


def fill(directory: Path) -> Path:
    """Leave not one byte."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        for size in (2**20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler


def run(core: Runs, path: Path):
    return core.wait(core.submit(core.prepare(path)).run_id)


def ends(core: Runs, record) -> list[RunState]:
    return [event.state for event in core.events(record) if isinstance(event, RunEvent) and event.state.is_terminal]


FILL = "with open('big', 'wb') as file:\n    while True:\n        file.write(b'x' * 100_000); file.flush()"


def test_a_cell_that_fills_the_disk_is_told_and_what_was_there_stays_whole(
    core: Runs, small_disk: Path, make_notebook: Callable[..., Path]
) -> None:
    before = run(core, make_notebook("print(1)", name="small.ipynb"))
    assert before.state is RunState.SUCCEEDED, before.message
    executed = (core.files(before) / "executed.ipynb").read_bytes()
    ended = run(core, make_notebook("print('first')", FILL, "print('never')"))
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.DISK_FULL), ended.message
    assert ends(core, ended) == [RunState.FAILED]
    assert core.get(before.run_id).state is RunState.SUCCEEDED
    assert (core.files(before) / "executed.ipynb").read_bytes() == executed
    nb = nbformat.read(core.files(ended) / "executed.ipynb", as_version=4)
    assert "first" in outputs_text(nb)
    until(lambda: not processes_of(small_disk))


def test_output_that_fills_the_disk_ends_the_run_with_a_whole_notebook(
    core: Runs, small_disk: Path, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook("print('first')", "line = 'x' * 999\nwhile True:\n    print(line)", "print('never')")
    ended = run(core, path)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.DISK_FULL), ended.message
    assert str(small_disk) in ended.message
    assert ends(core, ended) == [RunState.FAILED]
    nb = nbformat.read(core.files(ended) / "executed.ipynb", as_version=4)
    assert "first" in outputs_text(nb)
    until(lambda: not processes_of(small_disk))
    (core.files(ended) / "outputs" / "cell-2-stdout.log").unlink()
    after = run(core, make_notebook("print(2)", name="after.ipynb"))
    assert after.state is RunState.SUCCEEDED, after.message


def test_a_disk_that_somebody_else_fills_in_mid_run_is_told(
    core: Runs, small_disk: Path, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(
        "print('first')",
        f"import subprocess\nsubprocess.run(['sh', '-c', 'cat /dev/zero > {small_disk / 'filler'}'])\n"
        "import time\nfor n in range(600):\n    print('y' * 50_000); time.sleep(1)",
    )
    ended = run(core, path)
    assert (ended.state, ended.code) == (RunState.FAILED, FailureCode.DISK_FULL), ended.message
    assert ends(core, ended) == [RunState.FAILED]
    (small_disk / "filler").unlink()
    nbformat.read(core.files(ended) / "executed.ipynb", as_version=4)
    assert core.get(ended.run_id).state is RunState.FAILED
    until(lambda: not processes_of(small_disk))


def test_a_run_that_cannot_be_written_is_refused_and_leaves_nothing(
    core: Runs, small_disk: Path, make_notebook: Callable[..., Path]
) -> None:
    assert core.find() == []  # the store is there
    path = make_notebook("print(1)")
    filler = fill(small_disk)
    with pytest.raises(MLOpsError) as caught:
        core.submit(core.prepare(path))
    assert caught.value.code == "disk_full", caught.value
    assert caught.value.hint
    assert not processes_of(small_disk)
    filler.unlink()
    assert core.find() == []
    assert run(core, path).state is RunState.SUCCEEDED


def test_a_store_whose_disk_is_full_says_so_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    store = Store(f"sqlite:///{small_disk / 'store.db'}")
    kept = [store.add_run(spec(name="x" * 2000)).run_id for _ in range(5)]
    filler = fill(small_disk)

    def add_many() -> None:
        for _ in range(500):
            kept.append(store.add_run(spec(name="x" * 2000)).run_id)

    with pytest.raises(StoreError) as caught:
        add_many()
    assert caught.value.code == "disk_full", caught.value
    filler.unlink()
    kept.append(store.add_run(spec()).run_id)
    assert {record.run_id for record in store.runs(limit=1000)} == set(kept)
    store.close()
    with sqlite3.connect(small_disk / "store.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
