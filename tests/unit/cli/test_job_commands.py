"""Commands of jobs on a store without runs: what is told, refused and never obeyed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.jobs.gate import ApprovalGate, CleanRunGate, GateResult, MetricGate
from jupyter_mlops.jobs.model import JobVersion, Schedule, Step
from jupyter_mlops.profile import Profile
from jupyter_mlops.runs import Runs
from jupyter_mlops.store.audit import AuditStore
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.slots import SlotStore

HOSTILE = "[red]no[/red] \x1b[31m\u202e"


def invoke(*arguments: str, user: str = "ann") -> Result:
    runner = CliRunner(env={"COLUMNS": "200", "JUPYTERHUB_USER": user})
    return runner.invoke(mlops, list(arguments), prog_name="jupyter mlops")


def version(**changes: Any) -> JobVersion:
    step = Step(
        name="main", snapshot_id="a" * 64, notebook="n.ipynb", source="/p/n.ipynb", experiment="e",
        profile=Profile(name="local"), parameters={"lr": 0.1},
    )  # fmt: skip
    fields = {"job": "churn", "steps": (step,), "owner": "ann", "author": "ann",
              "schedule": Schedule(cron="0 2 * * *"), "gates": (CleanRunGate(), ApprovalGate())}  # fmt: skip
    return JobVersion(**{**fields, **changes})


@pytest.fixture
def store() -> JobStore:
    """A job with a live version, and a second one that waits."""
    found = JobStore(Runs().store)
    found.add_version(version(reason=HOSTILE))
    metric = MetricGate(metric=HOSTILE, operator=">=", threshold=0.9)
    found.add_gate_results("churn", 1, [
        GateResult(gate=CleanRunGate(), passed=True, seen="run r1 succeeded", wanted="w", evidence={"run": "r1"}),
        GateResult(gate=metric, passed=False, forced=True, seen=HOSTILE, wanted="0.9"),
    ])  # fmt: skip
    found.set_live("churn", 1)
    found.add_version(version(author="bob"))
    return found


def test_without_a_job_the_next_step_is_told() -> None:
    assert "jupyter mlops promote NOTEBOOK" in invoke("jobs", "list").output
    missing = invoke("jobs", "show", "nosuch")
    assert missing.exit_code == 2
    assert "There is no job 'nosuch'" in missing.output


def test_what_people_wrote_is_shown_and_not_obeyed(store: JobStore) -> None:
    for arguments in (["list"], ["show", "churn"], ["history", "churn"]):
        told = invoke("jobs", *arguments)
        assert told.exit_code == 0, told.output
        assert "\x1b" not in told.output
        assert "\u202e" not in told.output
    assert "[red]no[/red]" in invoke("jobs", "history", "churn").output


def test_a_job_is_listed_with_what_waits_and_shown_with_its_gates(store: JobStore) -> None:
    line = invoke("jobs", "list").output
    for words in ("churn", "active", "v1", "v2", "at 02:00 every day, UTC", "ann"):
        assert words in line
    shown = invoke("jobs", "show", "churn").output
    for words in ("passed", "forced", "run r1 succeeded", "live since", "lr"):
        assert words in shown
    waits = invoke("jobs", "show", "churn", "--version", "2").output
    for words in ("proposed", "the clean run has not been started", "1 person must approve: anybody but the author",
                  "jupyter mlops jobs judge churn --version 2"):  # fmt: skip
        assert words in waits
    (first,) = json.loads(invoke("jobs", "list", "--json").output)
    assert (first["name"], first["live_version"], first["proposed"]) == ("churn", 1, [2])
    history = json.loads(invoke("jobs", "history", "churn", "--json").output)
    assert [(one["version"], one["state"], one["author"]) for one in history] == [
        (2, "proposed", "bob"),
        (1, "live", "ann"),
    ]


def test_a_job_is_paused_resumed_and_deleted_with_its_reason_in_the_log(store: JobStore) -> None:
    assert "is paused" in invoke("jobs", "pause", "churn", "--reason", "the source is down").output
    assert store.job("churn").next_time is None
    assert "It runs next at" in invoke("jobs", "resume", "churn").output
    assert "jobs rollback churn --to 1" in invoke("jobs", "delete", "churn").output
    again = invoke("jobs", "pause", "churn")
    assert again.exit_code == 2
    assert "is deleted" in again.output
    assert "There is no job yet" in invoke("jobs", "list").output
    assert "churn" in invoke("jobs", "list", "--state", "deleted").output
    entries = AuditStore(Runs().store).entries(object_="job churn")
    assert [one.entry.action for one in entries] == ["job.delete", "job.resume", "job.pause"]
    assert entries[-1].entry.details["reason"] == "the source is down"
    assert entries[-1].entry.who == "ann"


def test_a_slot_by_hand_waits_and_it_is_said_that_no_scheduler_runs(store: JobStore) -> None:
    told = invoke("jobs", "trigger", "churn", "--reason", "try")
    assert told.exit_code == 0, told.output
    assert "jupyter mlops scheduler run" in told.output
    (slot,) = SlotStore(Runs().store).slots(job="churn")
    assert (slot.kind.value, slot.version, slot.payload) == ("manual", 1, {"by": "ann"})


def test_a_backfill_is_shown_before_it_is_made_and_bounded(store: JobStore) -> None:
    dry = invoke("jobs", "backfill", "churn", "2026-01-01", "2026-01-03", "--dry-run")
    assert dry.output.count("2026-01-0") == 3
    assert SlotStore(Runs().store).slots(job="churn") == []
    assert (
        "Slots made: 3. Moments that had one: 0."
        in invoke("jobs", "backfill", "churn", "2026-01-01", "2026-01-03").output
    )
    assert (
        "Slots made: 1. Moments that had one: 3."
        in invoke("jobs", "backfill", "churn", "2026-01-01", "2026-01-04").output
    )
    many = invoke("jobs", "backfill", "churn", "1970-01-01", "2026-01-01")
    assert many.exit_code == 2
    assert "more than 100 moments" in many.output
    assert "no moment from 2999" in invoke("jobs", "backfill", "churn", "2999-01-01", "2999-01-02").output


@pytest.mark.parametrize("text", ["", "v", "latest", "-1", "v1.0", "１", "99999999999"])
def test_what_is_no_version_is_told(store: JobStore, text: str) -> None:
    told = (
        invoke("jobs", "diff", "churn", "1", text)
        if text != "-1"
        else invoke("jobs", "rollback", "churn", "--to", text)
    )
    assert told.exit_code == 2
    assert "is no version" in told.output


def test_versions_of_one_snapshot_are_compared_without_it(store: JobStore) -> None:
    store.add_version(version(schedule=Schedule(every=3600.0), gates=(CleanRunGate(),)))
    told = invoke("jobs", "diff", "churn", "v1", "v3").output
    for words in ("schedule", "at 02:00 every day, UTC", "every hour", "1 person approves: anybody but the author"):
        assert words in told
    assert "The versions are the same." in invoke("jobs", "diff", "churn", "1", "1").output


def test_the_author_does_not_approve_and_withdraws(store: JobStore) -> None:
    own = invoke("approve", "churn", user="bob")
    assert own.exit_code == 2
    assert "bob made version 2 of the job churn: somebody else approves it" in own.output
    told = invoke("approve", "churn", "--comment", "good", user="ann")
    assert told.exit_code == 0, told.output
    assert "the clean run has not been started" in told.output
    assert "The author, bob, withdrew it" in invoke("approve", "churn", "--reject", user="bob").output
    assert store.version("churn", 2).state.value == "refused"
