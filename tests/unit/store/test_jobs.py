"""Jobs, slots and the audit log on SQLite; and that the hot questions never read a whole table."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from jupyter_mlops.jobs.model import Schedule, SlotKind, SlotState
from jupyter_mlops.schedule import FileTrigger, JobTrigger
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
    jobs.proposed()
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
    assert len(asked) > 40
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        for statement, parameters in asked:
            if not statement.startswith(("SELECT", "UPDATE")):
                continue
            given = [str(value) for value in parameters]
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", given)]
            for line in plan:
                whole = line.startswith("SCAN") and "USING" not in line and "CONSTANT ROW" not in line
                assert not whole, f"{line}: {statement}"
                assert "TEMP B-TREE FOR ORDER BY" not in line or "approvals" in statement, f"{line}: {statement}"
    store.close()
