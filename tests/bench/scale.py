"""What the questions to the store cost when it is large, beside what they cost when it is small.

    .venv/bin/python -m tests.bench.scale [--jobs 10000] [--slots 1000000] [--url postgresql://…]

Makes two stores, one of a hundred jobs with ten slots and runs each and one as large as asked, and asks both the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from jupyter_mlops.jobs.model import JobVersion, Schedule, SlotKind, SlotState, Step
from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import RunState
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.leases import Admission, Crowd, LeaseStore
from jupyter_mlops.store.models import RunRow
from jupyter_mlops.store.slots import PlannedSlot, SlotStore, new_slot
from jupyter_mlops.store.tables import JobRow, SlotRow, VersionRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
STEP = Step(
    name="train", snapshot_id="0" * 64, notebook="n.ipynb", source="/p/n.ipynb", profile=Profile(name="local"),
    experiment="e", parameters={"learning_rate": 0.1},
)  # fmt: skip


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=1_000_000, help="as many runs are made")
    parser.add_argument("--url", help="an empty database for the large store; default: SQLite")
    parser.add_argument("--rounds", type=int, default=30)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlops-scale-") as place:
        small = _filled(f"sqlite:///{place}/small.db", jobs=100, slots=1000)
        large = _filled(chosen.url or f"sqlite:///{place}/large.db", jobs=chosen.jobs, slots=chosen.slots)
        measured = [_measured(store, chosen.rounds) for store in (small, large)]
    told = [f"{'question':<44}{'small, ms':>12}{'large, ms':>12}"]
    told += [f"{name:<44}{measured[0][name]:>12.2f}{measured[1][name]:>12.2f}" for name in measured[0]]
    sys.stdout.write("\n".join(told) + "\n")


def _filled(url: str, *, jobs: int, slots: int) -> Store:
    store = Store(url)
    began = time.monotonic()
    content = JobVersion(job="job-000000", number=1, steps=(STEP,), schedule=Schedule(cron="@hourly"), owner="ann",
                         author="ann")  # fmt: skip
    versions = [content.model_copy(update={"job": f"job-{number:06}"}) for number in range(jobs)]
    template = new_slot("", content, SlotKind.SCHEDULE, "", NOW, NOW)
    with store.writing() as session:
        for rows, table in (
            ((_job(number, jobs) for number in range(jobs)), JobRow),
            ((_version(number, version) for number, version in enumerate(versions)), VersionRow),
            ((_slot(number, template, jobs, slots) for number in range(slots)), SlotRow),
            ((_run(number, slots) for number in range(slots)), RunRow),
        ):
            _insert(session, table.__tablename__, rows)
        session.execute(text("ANALYZE"))
    sys.stderr.write(f"{jobs} jobs and {slots} slots in {time.monotonic() - began:.0f} s\n")
    return store


def _insert(session: Session, table: str, rows: Iterator[dict[str, Any]]) -> None:
    # By the driver itself: SQLAlchemy's care for each value would take half an hour for two million rows.
    first = next(rows)
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL TIME ZONE 'UTC'"))
    mark = "?" if session.get_bind().dialect.name == "sqlite" else "%s"
    statement = f"INSERT INTO {table} ({', '.join(first)}) VALUES ({', '.join([mark] * len(first))})"
    values = (tuple(map(_plain, row.values())) for row in chain([first], rows))
    while batch := list(islice(values, 5000)):
        session.connection().exec_driver_sql(statement, batch)


def _plain(value: Any) -> Any:
    return f"{value:%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else value


def _job(number: int, jobs: int) -> dict[str, Any]:
    # Some are due, none at a moment that has a slot.
    due = NOW + timedelta(minutes=number - min(jobs // 10, 50), seconds=0.5)
    return {"job_id": f"{number:012x}", "name": f"job-{number:06}", "owner": f"user{number % 50}", "state": "active",
            "live_version": 1, "next_time": due, "create_time": NOW}  # fmt: skip


def _version(number: int, version: JobVersion) -> dict[str, Any]:
    return {"job_id": f"{number:012x}", "number": 1, "state": "live", "digest": version.digest,
            "content": version.to_json(), "create_time": NOW, "live_time": NOW}  # fmt: skip


def _slot(number: int, template: dict[str, Any], jobs: int, slots: int) -> dict[str, Any]:
    moment = NOW - timedelta(seconds=slots - number)
    waits = number >= slots - 20
    state = SlotState.WAITING if waits else SlotState.FAILED if number % 1000 == 0 else SlotState.SUCCEEDED
    return {
        **template, "slot_id": f"{number:016x}", "job_id": f"{number % jobs:012x}", "key": f"at:{moment.isoformat()}",
        "slot_time": moment, "create_time": moment, "start_time": moment, "run_id": f"{number:012x}", "attempt": 1,
        "state": state.value, "wake_time": moment if waits else None, "end_time": None if waits else moment,
    }  # fmt: skip


def _run(number: int, slots: int) -> dict[str, Any]:
    moment = NOW - timedelta(seconds=slots - number)
    return {
        "run_id": f"{number:012x}", "run_key": f"key{number}", "name": "n", "source": f"/p/{number % 1000}.ipynb",
        "snapshot_id": "s", "profile": "local", "runner": "local", "owner": "ann", "experiment": "e",
        "tracking_uri": "u", "mlflow_run_id": None, "parameters": "{}", "state": "succeeded", "code": None,
        "message": "", "retry_of": None, "create_time": moment, "start_time": moment, "end_time": moment,
    }  # fmt: skip


def _measured(store: Store, rounds: int) -> dict[str, float]:
    jobs, slots, leases = JobStore(store), SlotStore(store), LeaseStore(store)
    page = slots.slots(limit=50)
    deep = slots.slot(page[-1].slot_id)
    count = 0

    def claim() -> None:
        nonlocal count
        count += 1
        (job, version), *_ = slots.due_jobs(NOW + timedelta(minutes=count), limit=1)
        assert version is not None
        assert job.next_time is not None
        assert slots.claim(job, version, [PlannedSlot(job.next_time)], NOW + timedelta(days=9), NOW)

    def fire() -> None:
        (slot_id, token), *_ = leases.wakeable(NOW, limit=1)
        lease = leases.take(slot_id, token, process_id="p", now=NOW, until=NOW + timedelta(minutes=1))
        assert lease is not None
        leases.admit(lease, _starts, NOW)
        assert leases.save(lease, now=NOW, state=SlotState.SUCCEEDED, wake_time=None)

    asked: dict[str, Callable[[], object]] = {
        "a page of jobs": lambda: jobs.jobs(limit=50),
        "a page of one owner's jobs": lambda: jobs.jobs(limit=50, owner="user7"),
        "a page of slots": lambda: slots.slots(limit=50),
        "the page after it": lambda: slots.slots(limit=50, before=deep),
        "a page of one job's slots": lambda: slots.slots(job="job-000042", limit=50),
        "a page of failed slots": lambda: slots.slots(states=[SlotState.FAILED], limit=50),
        "a page of runs": lambda: store.runs(limit=50),
        "the runs that have not ended": lambda: store.runs(states=[RunState.PENDING, RunState.RUNNING], limit=2000),
        "one run": lambda: store.run(page[-1].run_id or ""),
        "which jobs are due": lambda: slots.due_jobs(NOW, limit=10),
        "which slots are awake": lambda: leases.wakeable(NOW, limit=8),
        "claim a moment": claim,
        "take, admit and end a slot": fire,
    }
    found = {}
    for name, ask in asked.items():
        times = []
        for _ in range(rounds if ask is not fire else min(rounds, 15)):
            began = time.perf_counter()
            ask()
            times.append((time.perf_counter() - began) * 1000)
        found[name] = statistics.median(times)
    return found


def _starts(crowd: Crowd) -> Admission:
    return Admission(SlotState.STARTING)


if __name__ == "__main__":
    main()
