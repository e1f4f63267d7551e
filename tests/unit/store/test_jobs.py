"""Jobs, slots and the audit log on SQLite; and that the hot questions never read a whole table."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jupyter_mlops.jobs.model import Schedule, SlotKind, SlotState
from jupyter_mlops.schedule import FileTrigger, JobTrigger
from jupyter_mlops.spec import RunState
from jupyter_mlops.store.audit import AuditStore
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.leases import Admission, LeaseStore
from jupyter_mlops.store.slots import SlotStore
from jupyter_mlops.store.watches import WatchStore

from .cases import spec
from .job_cases import HOUR, NOON, JobCases, promoted


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


class TestOnSQLite(JobCases):
    """All of it on a file."""


def test_no_hot_question_reads_a_whole_table_or_sorts_one(url: str) -> None:
    store = Store(url)
    promoted(store, schedule=Schedule(triggers=(JobTrigger(job="churn"), FileTrigger(url="file:///in/*"))))
    asked: list[tuple[str, Any]] = []
    event.listen(
        store._engine, "before_cursor_execute",
        lambda _connection, _cursor, statement, parameters, *_: asked.append((statement, parameters)),
    )  # fmt: skip
    jobs, slots, leases, watches = JobStore(store), SlotStore(store), LeaseStore(store), WatchStore(store)
    slot = slots.add_slot("churn", SlotKind.MANUAL, "k", now=NOON)
    jobs.job("churn")
    jobs.jobs(limit=20)
    jobs.jobs(limit=20, after="b", owner="ann")
    jobs.versions("churn")
    jobs.proposed(["churn", "b"])
    jobs.gate_results("churn", 1)
    jobs.approvals("churn", 1)
    slots.due_jobs(NOON)
    slots.slots()
    slots.slots(before=slot)
    slots.slots(job="churn", before=slot)
    slots.slots(job="churn", states=[SlotState.FAILED, SlotState.SUCCEEDED])
    slots.slots(states=[SlotState.FAILED], before=slot)
    slots.slot(slot.slot_id[:6])
    slots.emit(SlotKind.EVENT, "drift", "1", now=NOON)
    watches.due_watches(NOON)
    watches.seen(watches.due_watches(NOON)[0], ["a", "b"])
    leases.wakeable(NOON, limit=8)
    lease = leases.take(slot.slot_id, 0, process_id="p", now=NOON, until=NOON + HOUR)
    assert lease is not None
    leases.admit(lease, lambda crowd: Admission(SlotState.STARTING, replace=True), NOON)
    leases.extend([(slot.slot_id, lease.token)], NOON + HOUR)
    leases.save(lease, now=NOON, state=SlotState.SUCCEEDED, wake_time=None)
    leases.processes()
    AuditStore(store).entries(limit=20)
    run = store.add_run(spec(run_key="k"))
    store.run(run.run_id)
    store.run_with_key("k")
    store.update_run(run.run_id, message="why")
    store.runs(limit=20)
    store.runs(states=[RunState.PENDING, RunState.RUNNING], limit=20)
    slots.counts()
    assert len(asked) > 40
    store.close()
    _as_if_it_were_large(url)
    _no_table_is_read(url, asked)


def _no_table_is_read(url: str, asked: list[tuple[str, Any]]) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        for statement, parameters in asked:
            if not statement.startswith(("SELECT", "UPDATE")):
                continue
            given = [str(value) for value in parameters]
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)]
            for line in plan:
                whole = line.startswith("SCAN") and "USING" not in line and "CONSTANT ROW" not in line
                assert not whole, f"{line}: {statement}"
                # In the order of an index, with nothing asked of it, is every row until enough are found.
                walked = "USING INDEX" in line and line.startswith("SCAN") and " WHERE " in statement
                assert not (walked and ".state" in statement.partition(" WHERE ")[2]), f"{line}: {statement}"
                assert "TEMP B-TREE FOR ORDER BY" not in line or "approvals" in statement, f"{line}: {statement}"


def _as_if_it_were_large(url: str) -> None:
    """The statistics of a million slots and runs, by which the planner chooses otherwise than without any."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("ANALYZE")
        connection.execute("DELETE FROM sqlite_stat1")
        connection.executemany("INSERT INTO sqlite_stat1 VALUES (?, ?, ?)", [
            ("slots", "ix_slots_state_job", "1000000 333333 100 1 1"), ("slots", "ix_slots_wake_time", "1000000 50000"),
            ("slots", "ix_slots_slot_time", "1000000 1 1"), ("slots", "ix_slots_job_slot_time", "1000000 100 1 1"),
            ("slots", "ix_slots_state_slot_time", "1000000 333333 1 1"), ("slots", "sqlite_autoindex_slots_1", "1000000 1"),
            ("slots", "sqlite_autoindex_slots_2", "1000000 100 1"), ("runs", "ix_runs_create_time", "1000000 1"),
            ("runs", "ix_runs_state_create_time", "1000000 500000 1"),
            ("runs", "ix_runs_source_create_time", "1000000 1000 1"), ("jobs", "ix_jobs_next_time", "10000 1"),
            ("jobs", "sqlite_autoindex_jobs_1", "10000 1"), ("jobs", "sqlite_autoindex_jobs_2", "10000 1"),
            ("job_versions", "sqlite_autoindex_job_versions_1", "10000 1 1"),
            ("job_versions", "ix_job_versions_state", "10000 3333 1"), ("watches", "ix_watches_wake_time", "1000 1"),
            ("watches", "ix_watches_kind_source", "1000 10 1"), ("watches", "sqlite_autoindex_watches_1", "1000 1 1"),
        ])  # fmt: skip
