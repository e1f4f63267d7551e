"""What a slot's attempt is as a run, and how it stands when its run never began."""

from __future__ import annotations

import os
from typing import Any

import pytest

from jupyter_mlops.errors import UsageError
from jupyter_mlops.events import EventWriter, RunEvent
from jupyter_mlops.jobs.model import Schedule, SlotKind, SlotState
from jupyter_mlops.runner import local
from jupyter_mlops.runs import Runs
from jupyter_mlops.scheduler.launcher import StepLauncher, slot_values, step_spec
from jupyter_mlops.spec import FailureCode, RunState
from tests.unit.store.job_cases import NOON, step, version

from .test_admission import slot

BERLIN = Schedule(cron="@daily", tz="Europe/Berlin")


def test_the_moment_and_what_the_trigger_told_reach_the_parameters() -> None:
    given = {
        "when": "${slot.time}", "day": "${slot.date}", "where": "${slot.payload.url}", "many": "${slot.payload.rows}",
        "text": "not ${slot.date} inside", "number": 7, "other": "${HOME}",
    }  # fmt: skip
    payload = {"url": "s3://in/'; import os #", "rows": [1, 2]}
    found = slot_values(given, version(schedule=BERLIN), slot(kind=SlotKind.FILE, payload=payload))
    assert found == {
        "when": "2026-11-24T13:00:00+01:00", "day": "2026-11-24", "where": payload["url"], "many": [1, 2],
        "text": "not ${slot.date} inside", "number": 7, "other": "${HOME}",
    }  # fmt: skip


def test_what_a_slot_does_not_know_is_told_with_what_it_knows() -> None:
    with pytest.raises(UsageError, match="parameter 'url' asks for") as caught:
        slot_values({"url": "${slot.payload.url}"}, version(), slot(payload={"rows": 3}))
    assert "${slot.payload.rows}" in caught.value.hint


def test_a_run_of_a_slot_names_its_job_and_has_a_key_for_each_attempt() -> None:
    runs = Runs()
    made = version(steps=(step(parameters={"day": "${slot.date}"}, seed=7, autolog=True, run_timeout=60),), owner="bob")
    first = step_spec(made, made.steps[0], slot(attempt=1), run_key=slot(attempt=1).run_key, runs=runs)
    assert (first.name, first.owner, first.seed, first.autolog, first.run_timeout) == ("churn", "bob", 7, True, 60)
    assert first.parameters == {"day": "2026-11-24"}
    assert first.tags["mlops.job"] == "churn"
    assert first.tags["mlops.slot_time"] == NOON.isoformat()
    assert first.run_key == "j/v1/a/1"
    assert slot(attempt=2).run_key != first.run_key


def test_a_version_of_several_steps_is_refused_by_the_launcher_of_one() -> None:
    several = version(steps=(step(), step(name="deploy", needs=("train",))))
    with pytest.raises(UsageError, match="has 2 steps"):
        StepLauncher(Runs()).advance(several, slot(attempt=1))


@pytest.fixture
def unstarted(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The core, with whoever starts a run killed just before."""
    monkeypatch.setattr(local.LocalRunner, "submit", lambda self, spec: None)
    monkeypatch.setattr(local, "_start", lambda *arguments, **options: 0)
    return Runs(front="scheduler")


def attempt(**changes: Any) -> Any:
    return slot(**{"state": SlotState.STARTING, "attempt": 1, **changes})


def test_a_run_that_was_accepted_and_never_started_is_started_by_the_next(
    unstarted: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher = StepLauncher(unstarted)
    first = launcher.advance(version(), attempt())
    started: list[str] = []
    monkeypatch.setattr(local.LocalRunner, "submit", lambda self, spec: started.append(spec.run_id))
    again = StepLauncher(Runs()).advance(version(), attempt())
    assert again.run_id == first.run_id
    assert started == [first.run_id]
    assert len(unstarted.store.runs()) == 1


@pytest.mark.parametrize("began", [False, True])
def test_an_attempt_is_lost_only_if_nothing_of_it_ran(unstarted: Runs, began: bool) -> None:
    launcher = StepLauncher(unstarted)
    first = launcher.advance(version(), attempt())
    assert first.run_id is not None
    run_dir = unstarted.config.run_dir(first.run_id)
    if began:
        writer = EventWriter(run_dir)
        writer.write(RunEvent(state=RunState.RUNNING))
        writer.close()
    os.utime(run_dir, (0, 0))
    found = launcher.advance(version(), attempt(run_id=first.run_id))
    assert unstarted.get(first.run_id).code is FailureCode.WORKER_DIED
    assert (found.state, found.lost) == (SlotState.FAILED, not began)


def test_cancelling_what_was_never_started_changes_nothing(unstarted: Runs) -> None:
    launcher = StepLauncher(unstarted)
    assert launcher.cancel(version(), attempt()).state is SlotState.CANCELLED
    first = launcher.advance(version(), attempt())
    assert launcher.cancel(version(), attempt()).run_id == first.run_id
    os.utime(unstarted.config.run_dir(first.run_id or ""), (0, 0))
    assert launcher.advance(version(), attempt(run_id=first.run_id)).state is SlotState.CANCELLED
    assert launcher.cancel(version(), attempt()).state is SlotState.CANCELLED
