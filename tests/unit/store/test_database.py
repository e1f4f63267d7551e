"""The store on SQLite: what every database promises, and what a file adds to it."""

import signal
import sqlite3
from pathlib import Path

import pytest

from jupyter_mlops.errors import StoreError
from jupyter_mlops.store.database import Store

from .cases import StoreCases, process, spec


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


class TestOnSQLite(StoreCases):
    """All of it on a file."""


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_text("hello " * 1000)
    with pytest.raises(StoreError, match=r"x\.db"):
        Store(f"sqlite:///{path}")
    assert path.read_text() == "hello " * 1000


def test_a_password_is_not_shown() -> None:
    for url in (
        "postgresql://ann:hunter2@127.0.0.1:1/x",
        "postgresql+psycopg://ann:hunter2@127.0.0.1:1/x?connect_timeout=1",
        "ann:hunter2@nowhere",
        "nosuch://ann:hunter2@127.0.0.1/x",
    ):
        with pytest.raises(StoreError) as caught:
            Store(url)
        assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_a_store_that_another_process_holds_is_waited_for_and_then_told(url: str, tmp_path: Path) -> None:
    store = Store(f"{url}?timeout=1")
    holder = process("import sqlite3, time\nc = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
                     "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.readline()\n"
                     "c.execute('COMMIT')", str(tmp_path / "store.db"))  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match="locked by another process for over 1 s"):
        store.add_run(spec())
    assert store.runs() == []  # who only reads does not wait
    patient = Store(url)
    holder.stdin.write("go\n")
    holder.stdin.flush()
    assert patient.add_run(spec()).run_id
    assert holder.wait(60) == 0
    holder.communicate()


def test_a_writer_killed_in_mid_write_leaves_a_whole_store(url: str, tmp_path: Path) -> None:
    Store(url).close()
    writer = process(
        "import itertools\ns = Store(sys.argv[1])\n"
        "for n in itertools.count():\n    s.add_run(spec(name='x' * 5000)); print(n, flush=True)",
        url,
    )
    acknowledged = -1
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged >= 20:
            break
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert len(Store(url).runs(limit=10_000)) > acknowledged
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
