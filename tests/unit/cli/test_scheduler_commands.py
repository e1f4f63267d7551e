"""What `scheduler` and `audit` show, without a scheduler running."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text

from jupyter_mlops.jobs.model import Schedule, SlotKind
from jupyter_mlops.runs import Runs
from jupyter_mlops.store.leases import LeaseStore, SchedulerProcess
from jupyter_mlops.store.slots import SlotStore
from tests.unit.store.job_cases import entry, promoted

from .test_commands import invoke


@pytest.fixture
def runs() -> Runs:
    return Runs()


def test_the_status_tells_who_runs_who_is_silent_and_what_is_under_way(runs: Runs) -> None:
    assert "No job scheduler is running." in invoke("scheduler", "status").output
    leases, now = LeaseStore(runs.store), datetime.now(timezone.utc)
    long_ago = now - timedelta(hours=1)
    leases.beat(SchedulerProcess("aaa", "h\x1b[31m", 1, long_ago, now))
    leases.beat(SchedulerProcess("bbb", "h", 2, long_ago, long_ago))
    leases.beat(SchedulerProcess("ccc", "h", 3, long_ago, now, end_time=now))
    promoted(runs.store)
    SlotStore(runs.store).add_slot("churn", SlotKind.MANUAL, "k", now=now)
    shown = invoke("scheduler", "status")
    assert "\x1b[31m" not in shown.output
    for process, state in (("aaa", "running"), ("bbb", "silent"), ("ccc", "ended")):
        (line,) = [line for line in shown.output.splitlines() if line.startswith(process)]
        assert state in line
    assert "Slots: 1 waiting" in shown.output
    told = json.loads(invoke("scheduler", "status", "--json").output)
    assert (told["running"], told["slots"]) == (1, {"waiting": 1})
    assert {process["process_id"]: process["alive"] for process in told["processes"]} == {
        "aaa": True, "bbb": False, "ccc": False,
    }  # fmt: skip


def test_slots_are_listed_with_the_reason_why_they_did_not_run(runs: Runs) -> None:
    assert "There is no slot yet." in invoke("scheduler", "slots").output
    promoted(runs.store)
    now = datetime.now(timezone.utc)
    slot = SlotStore(runs.store).add_slot("churn", SlotKind.MANUAL, "k", now=now, payload={"a": [1]})
    LeaseStore(runs.store).cancel(slot.slot_id, message="Cancelled by [red]ann[/red].", now=now)
    shown = invoke("scheduler", "slots", "churn")
    assert "Cancelled by [red]ann[/red]." in shown.output
    (told,) = json.loads(invoke("scheduler", "slots", "--state", "cancelled", "--json").output)
    assert (told["slot_id"], told["kind"], told["payload"]) == (slot.slot_id, "manual", {"a": [1]})
    assert "There is no such slot." in invoke("scheduler", "slots", "--state", "failed").output
    missing = invoke("scheduler", "slots", "nosuch")
    assert missing.exit_code == 2
    assert "There is no job 'nosuch'." in missing.output


def test_the_log_is_listed_exported_and_verified(runs: Runs, tmp_path: Path) -> None:
    assert "The audit log is empty." in invoke("audit", "list").output
    log = runs.audit.log(runs.store)
    log.add(entry("run.submit", name="[red]\x1b[31m"))
    noted = log.add(entry("run.cancel")).hash
    shown = invoke("audit", "list", "--action", "run.submit")
    assert "run.submit" in shown.output
    assert "run.cancel" not in shown.output
    assert "\x1b[31m" not in shown.output
    assert "There is no such entry." in invoke("audit", "list", "--who", "nobody").output
    target = tmp_path / "audit.jsonl"
    assert invoke("audit", "export", "-o", str(target)).exit_code == 0
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert lines == list(reversed(json.loads(invoke("audit", "list", "--json").output)))
    assert [line["seq"] for line in map(json.loads, invoke("audit", "export", "--after", "1").output.splitlines())] == [
        2
    ]
    good = invoke("audit", "verify", "--expect", noted)
    assert good.exit_code == 0
    assert "The log is whole." in good.output
    with runs.store.writing() as session:
        session.execute(text("DROP TRIGGER audit_no_update"))
        session.execute(text("UPDATE audit SET who = 'eve' WHERE seq = 1"))
    bad = invoke("audit", "verify")
    assert bad.exit_code == 1
    assert "Entry 1 was changed." in bad.output
    assert "The audit log is not whole." in bad.output
    told = invoke("audit", "verify", "--json")
    assert told.exit_code == 1
    assert json.loads(told.stdout)["problems"] == ["Entry 1 was changed."]


def test_a_schedule_only_by_hand_has_no_moments(runs: Runs) -> None:
    promoted(runs.store, schedule=Schedule())
    assert SlotStore(runs.store).due_jobs(datetime.now(timezone.utc) + timedelta(days=999)) == []
