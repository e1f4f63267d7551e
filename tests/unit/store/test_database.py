import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from jupyter_mlops.errors import NotFoundError, StoreError
from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunSpec, RunState
from jupyter_mlops.store.database import SCHEMA_HEAD, Store
from jupyter_mlops.store.models import Base


def spec(**changes) -> RunSpec:
    fields = {
        "name": "n", "notebook": "n.ipynb", "source": "/p/n.ipynb", "snapshot_id": "s", "profile": Profile(name="local"),
        "experiment": "e", "tracking_uri": "u", "owner": "ann",
    }  # fmt: skip
    return RunSpec(**{**fields, **changes})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def store(url: str) -> Store:
    return Store(url)


def test_the_newest_migration_is_the_one_the_code_expects_and_makes_the_models_tables(store: Store, url: str) -> None:
    files = sorted((Path(sys.modules[Store.__module__].__file__).parent / "migrations" / "versions").glob("*.py"))
    assert files[-1].name.startswith(SCHEMA_HEAD)
    made = inspect(create_engine(url))
    for table in Base.metadata.sorted_tables:
        assert {column["name"] for column in made.get_columns(table.name)} == set(table.columns.keys())
        assert {index["name"] for index in made.get_indexes(table.name)} >= {index.name for index in table.indexes}


def test_a_run_comes_back_with_hostile_text_and_its_zone(store: Store) -> None:
    given = spec(name="\x00' OR 1=1 --", parameters={"a": float("inf"), "b": "\x00\u2028"}, source="/p/%_\\.ipynb")
    record = store.add_run(given)
    assert record.parameters == given.parameters
    assert record.create_time == given.create_time
    assert store.runs(source="%_\\.ipynb") == [record]
    assert store.runs(source="xx\\.ipynb") == []


def test_a_run_is_added_once_by_its_id_and_by_its_key(store: Store) -> None:
    first = store.add_run(spec(run_key="job:1:2026"))
    assert store.add_run(spec(run_key="job:1:2026")).run_id == first.run_id
    assert store.add_run(spec()).run_id != store.add_run(spec()).run_id
    assert len(store.runs()) == 3


def test_many_writers_with_one_key_make_one_run(url: str) -> None:
    Store(url).close()
    found: list[str] = []

    def add() -> None:
        found.append(Store(url).add_run(spec(run_key="slot")).run_id)

    threads = [threading.Thread(target=add) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12
    assert len(set(found)) == 1


def test_what_has_ended_stays_as_it_ended(store: Store) -> None:
    record = store.add_run(spec())
    assert store.update_run(record.run_id, state=RunState.SUCCEEDED)
    assert not store.update_run(record.run_id, state=RunState.FAILED)
    assert store.run(record.run_id).state is RunState.SUCCEEDED


def test_runs_are_found_by_prefix_and_last(store: Store) -> None:
    now = datetime.now(timezone.utc)
    store.add_run(spec(run_id="aab", create_time=now - timedelta(hours=1)))
    store.add_run(spec(run_id="aac", create_time=now))
    assert store.run("aab").run_id == "aab"
    assert store.run("@last").run_id == "aac"
    with pytest.raises(NotFoundError, match="More than one"):
        store.run("aa")
    for name in ("zz", "", "%", "a_b"):
        with pytest.raises(NotFoundError):
            store.run(name)


def test_a_page_follows_a_page(store: Store) -> None:
    now = datetime.now(timezone.utc)
    for number in range(5):
        store.add_run(spec(run_id=f"r{number}", create_time=now + timedelta(seconds=number)))
    first = store.runs(limit=2)
    second = store.runs(limit=2, before=first[-1].create_time)
    assert [record.run_id for record in (*first, *second)] == ["r4", "r3", "r2", "r1"]


def test_a_store_of_a_newer_version_is_refused_and_left_alone(url: str, tmp_path: Path) -> None:
    Store(url).close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        Store(url)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("hello " * 1000)
    with pytest.raises(StoreError, match=r"x\.db"):
        Store(f"sqlite:///{tmp_path / 'x.db'}")


def test_a_password_is_not_shown() -> None:
    with pytest.raises(StoreError) as caught:
        Store("postgresql+psycopg://ann:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_a_writer_killed_in_mid_write_leaves_a_whole_store(url: str) -> None:
    Store(url).close()
    code = (
        "import sys, itertools; from tests.unit.store.test_database import spec; "
        "from jupyter_mlops.store.database import Store; s = Store(sys.argv[1])\n"
        "for n in itertools.count():\n    s.add_run(spec(name='x' * 5000)); print(n, flush=True)"
    )
    root = Path(__file__).parents[3]
    writer = subprocess.Popen(
        [sys.executable, "-c", code, url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    acknowledged = -1
    for line in writer.stdout:
        acknowledged = int(line)
        if acknowledged >= 20:
            break
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert len(Store(url).runs(limit=10_000)) > acknowledged


def test_an_upgrade_by_two_processes_at_once_happens_once(url: str) -> None:
    code = "import sys; from jupyter_mlops.store.database import Store; Store(sys.argv[1]).runs()"
    processes = [subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate()[1].decode() for process in processes] == ["", "", ""]
