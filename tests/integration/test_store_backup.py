"""The store is backed up while it is written to, and restored, as docs/how-to/store.md says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from jupyter_mlops.jobs.model import SlotKind
from jupyter_mlops.store.audit import AuditStore
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.slots import SlotStore
from tests.unit.store.cases import ROOT, process
from tests.unit.store.job_cases import entry, promoted

from .postgresql import PostgreSQL, postgresql

pytestmark = pytest.mark.integration

PAGE = (ROOT / "docs" / "how-to" / "store.md").read_text(encoding="utf-8")
WRITER = (
    "import itertools\nfrom tests.unit.store.job_cases import entry\ns = Store(sys.argv[1])\n"
    "for n in itertools.count():\n    s.add_run(spec(name='x' * 3000), entry=entry('run.submit')); print(n, flush=True)"
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


def command(beginning: str) -> list[str]:
    """A command of the page, as its words."""
    found = re.search(rf"^\$ ({re.escape(beginning)}.*)$", PAGE, re.MULTILINE)
    assert found is not None, f"docs/how-to/store.md has no command that begins with {beginning}"
    return shlex.split(found[1])


def filled(store: Store) -> str:
    """Something of everything; the hash of the last entry."""
    promoted(store)
    SlotStore(store).add_slot("churn", SlotKind.MANUAL, "k", now=datetime.now(timezone.utc), entry=entry("job.trigger"))
    return AuditStore(store).verify().last


def check(url: str, noted: str, acknowledged: int) -> None:
    """That a store has everything which was acknowledged when it was copied, and works."""
    store = Store(url)
    verified = AuditStore(store).verify(expect=noted)
    assert verified.problems == ()
    runs = store.runs(limit=100_000)
    assert len(runs) >= acknowledged
    assert verified.count == len(runs) + 1  # each with its entry
    assert JobStore(store).job("churn").live_version == 1
    assert [slot.key for slot in SlotStore(store).slots(job="churn")] == ["k"]
    promoted(store)
    assert AuditStore(store).add(entry()).seq == verified.count + 1
    store.close()


def read(writer: subprocess.Popen[str], lines: int) -> int:
    assert writer.stdout is not None
    assert writer.stderr is not None
    number = -1
    for _ in range(lines):
        line = writer.stdout.readline()
        assert line, writer.stderr.read()
        number = int(line)
    return number


def test_sqlite_is_copied_in_the_middle_of_writing_and_put_back(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    store = Store(f"sqlite:///{path}")
    noted = filled(store)
    writer = process(WRITER, f"sqlite:///{path}")
    try:
        acknowledged = read(writer, 20)
        words = command("python -c")
        assert words[-2:] == ["store.db", "/backup/store.db"]
        subprocess.run([sys.executable, *words[1:-2], str(path), str(backup)], check=True, timeout=300)
        read(writer, 5)
    finally:
        writer.kill()
        writer.communicate()
    store.close()
    check(f"sqlite:///{backup}", noted, acknowledged)
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    backup.replace(path)
    check_again = Store(f"sqlite:///{path}")
    assert AuditStore(check_again).verify(expect=noted).problems == ()
    check_again.close()


def test_postgresql_is_dumped_in_the_middle_of_writing_and_restored(server: PostgreSQL, tmp_path: Path) -> None:
    url, empty = server.new_database(), server.new_database()
    for program in ("pg_dump", "pg_restore"):
        if not (server.programs / program).exists():
            pytest.skip(f"no {program} beside the server")
    store = Store(url)
    noted = filled(store)
    writer = process(WRITER, url)
    try:
        acknowledged = read(writer, 20)
        for beginning in ("pg_dump", "pg_restore"):
            words = [
                word.replace("/backup", str(tmp_path))
                .replace("$DATABASE_URL", url)
                .replace("$EMPTY_DATABASE_URL", empty)
                for word in command(beginning)
            ]
            subprocess.run([str(server.programs / words[0]), *words[1:]], check=True, timeout=300)
        read(writer, 5)
    finally:
        writer.kill()
        writer.communicate()
    store.close()
    check(empty, noted, acknowledged)
