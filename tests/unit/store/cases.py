"""What the store promises on every database; `test_database.py` asks it of SQLite, the integration tests of PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text

from jupyter_mlops.errors import NotFoundError, StoreError
from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunSpec, RunState
from jupyter_mlops.store import tables  # noqa: F401 - they belong to Base
from jupyter_mlops.store.database import SCHEMA_HEAD, Store, _parsed
from jupyter_mlops.store.models import Base

ROOT = Path(__file__).parents[3]


def spec(**changes) -> RunSpec:
    fields = {
        "name": "n", "notebook": "n.ipynb", "source": "/p/n.ipynb", "snapshot_id": "s", "profile": Profile(name="local"),
        "experiment": "e", "tracking_uri": "u", "owner": "ann",
    }  # fmt: skip
    return RunSpec(**{**fields, **changes})


def process(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process of its own, with `spec` and `Store` at hand; sys.argv holds the arguments."""
    head = "import sys\nfrom tests.unit.store.cases import spec\nfrom jupyter_mlops.store.database import Store\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def all_at_once(code: str, count: int, *arguments: str) -> list[str]:
    """What so many processes print that wait for each other before they run the code."""
    ready = "print('ready', flush=True)\nsys.stdin.readline()\n"
    processes = [process(ready + code, *arguments) for _ in range(count)]
    for one in processes:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n", one.communicate()[1]
    for one in processes:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    answers = [one.communicate(timeout=300) for one in processes]
    assert [error for _, error in answers] == [""] * count
    return [printed for printed, _ in answers]


class StoreCases:
    """Subclasses give the fixture `url`: an empty database for each test."""

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        made = Store(url)
        yield made
        made.close()

    def test_the_newest_migration_is_the_one_the_code_expects_and_makes_the_models_tables(
        self, store: Store, url: str
    ) -> None:
        files = sorted((Path(sys.modules[Store.__module__].__file__).parent / "migrations" / "versions").glob("*.py"))
        assert files[-1].name.startswith(SCHEMA_HEAD)
        engine = create_engine(_parsed(url))
        made = inspect(engine)
        for table in Base.metadata.sorted_tables:
            assert {column["name"] for column in made.get_columns(table.name)} == set(table.columns.keys())
            assert {index["name"] for index in made.get_indexes(table.name)} >= {index.name for index in table.indexes}
        engine.dispose()

    def test_a_run_comes_back_with_hostile_text_and_its_zone(self, store: Store) -> None:
        given = spec(name="\x00' OR 1=1 --", parameters={"a": float("inf"), "b": "\x00\u2028"}, source="/p/%_\\.ipynb")
        record = store.add_run(given)
        assert record.parameters == given.parameters
        assert record.create_time == given.create_time
        assert store.runs(source="%_\\.ipynb") == [record]
        assert store.runs(source="xx\\.ipynb") == []
        assert store.runs(name="\x00' OR 1=1 --") == [record]

    def test_values_that_are_no_numbers_come_back_as_they_are(self, store: Store) -> None:
        record = store.add_run(spec(parameters={"a": float("nan"), "b": [float("-inf"), 1e308, -0.0]}))
        again = store.run(record.run_id).parameters
        assert again["a"] != again["a"]
        assert again["b"] == [float("-inf"), 1e308, 0.0]

    def test_text_that_is_no_unicode_is_taken_all_the_same(self, store: Store) -> None:
        record = store.add_run(spec(source="/p/\udcff.ipynb", owner="\udcff\x00", run_key="\x00\x01", name="😀 \u202e"))
        assert record.name == "😀 \u202e"
        assert store.add_run(spec(run_key="\x00\x01")).run_id == record.run_id
        assert store.runs(owner="\udcff\x00") == [record]
        assert store.update_run(record.run_id, message="NUL \x00, half \ud83d", state=RunState.FAILED)
        assert "NUL" in store.run(record.run_id).message

    def test_a_run_is_added_once_by_its_id_and_by_its_key(self, store: Store) -> None:
        first = store.add_run(spec(run_key="job:1:2026"))
        assert store.add_run(spec(run_key="job:1:2026")).run_id == first.run_id
        assert store.add_run(spec(run_id=first.run_id)).run_key == "job:1:2026"
        assert store.add_run(spec()).run_id != store.add_run(spec()).run_id
        assert len(store.runs()) == 3

    def test_many_threads_with_one_key_make_one_run(self, url: str) -> None:
        Store(url).close()
        found: list[str] = []

        def add() -> None:
            store = Store(url)
            found.append(store.add_run(spec(run_key="slot")).run_id)
            store.close()

        threads = [threading.Thread(target=add) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 12
        assert len(set(found)) == 1

    def test_what_has_ended_stays_as_it_ended(self, store: Store) -> None:
        record = store.add_run(spec())
        assert store.update_run(record.run_id, state=RunState.SUCCEEDED)
        assert not store.update_run(record.run_id, state=RunState.FAILED)
        assert store.run(record.run_id).state is RunState.SUCCEEDED

    def test_runs_are_found_by_prefix_and_last(self, store: Store) -> None:
        now = datetime.now(timezone.utc)
        store.add_run(spec(run_id="aab", create_time=now - timedelta(hours=1)))
        store.add_run(spec(run_id="aac", create_time=now))
        assert store.run("aab").run_id == "aab"
        assert store.run("@last").run_id == "aac"
        with pytest.raises(NotFoundError, match="More than one"):
            store.run("aa")
        for name in ("zz", "", "%", "a_b", "\x00"):
            with pytest.raises(NotFoundError):
                store.run(name)

    def test_a_page_follows_a_page(self, store: Store) -> None:
        now = datetime.now(timezone.utc)
        for number in range(5):
            store.add_run(spec(run_id=f"r{number}", create_time=now + timedelta(seconds=number)))
        first = store.runs(limit=2)
        second = store.runs(limit=2, before=first[-1].create_time)
        assert [record.run_id for record in (*first, *second)] == ["r4", "r3", "r2", "r1"]

    def test_a_store_of_a_newer_version_is_refused_and_left_alone(self, url: str) -> None:
        Store(url).close()
        engine = create_engine(_parsed(url))
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreError, match="newer version"):
            Store(url)
        with engine.begin() as connection:
            assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
        engine.dispose()
