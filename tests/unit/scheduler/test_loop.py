"""One process of the job scheduler on a real store, with a clock of its own and runs that are only noted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jupyter_mlops.audit import Auditor
from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import KubernetesError, UsageError
from jupyter_mlops.jobs.model import (
    CatchUp,
    JobState,
    JobVersion,
    Overlap,
    Policies,
    Schedule,
    Slot,
    SlotKind,
    SlotState,
)
from jupyter_mlops.schedule import FileTrigger, JobTrigger
from jupyter_mlops.scheduler.admission import Limits
from jupyter_mlops.scheduler.launcher import Standing
from jupyter_mlops.scheduler.loop import JobScheduler
from jupyter_mlops.store.audit import AuditStore
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.leases import LeaseStore
from jupyter_mlops.store.slots import SlotStore
from tests.unit.store.job_cases import HOUR, NOON, promoted

MINUTE = timedelta(minutes=1)


class NotedRuns:
    """A launcher whose runs stand as the test says; a run key starts one run, as the real one promises."""

    def __init__(self) -> None:
        self.runs: dict[str, Standing] = {}
        self.cancelled: list[str] = []
        self.trouble: Exception | None = None

    def advance(self, version: JobVersion, slot: Slot) -> Standing:
        if self.trouble is not None:
            raise self.trouble
        return self.runs.setdefault(slot.run_key, Standing(SlotState.RUNNING, f"r{len(self.runs)}"))

    def cancel(self, version: JobVersion, slot: Slot) -> Standing:
        self.cancelled.append(slot.slot_id)
        return self.runs.get(slot.run_key, Standing(SlotState.CANCELLED))

    def end(self, slot: Slot, state: SlotState, message: str = "") -> None:
        self.runs[slot.run_key] = Standing(state, self.runs[slot.run_key].run_id, message)


class World:
    """A store, a clock and a scheduler."""

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self.store, self.now, self.launcher = Store(url), NOON, NotedRuns()
        self.jobs, self.slots, self.leases = JobStore(self.store), SlotStore(self.store), LeaseStore(self.store)
        self.scheduler = self.another(limits)

    def another(self, limits: Limits | None = None) -> JobScheduler:
        return JobScheduler(
            self.store, self.launcher, auditor=Auditor(MLOps(), "scheduler"), limits=limits, clock=lambda: self.now
        )

    def pass_time(self, until: datetime, every: timedelta = 4 * MINUTE) -> None:
        while self.now < until:
            self.now = min(until, self.now + every)
            self.settle()

    def settle(self) -> None:
        """Until nothing is left to do at this moment."""
        for _ in range(50):
            if not self.scheduler.step():
                return
        raise AssertionError("the scheduler does not come to rest")

    def states(self, job: str = "churn") -> list[tuple[int, str]]:
        """The hours after noon of its slots and how they stand, oldest first."""
        return [(int((slot.slot_time - NOON) / HOUR), slot.state.value) for slot in reversed(self.slots.slots(job=job))]

    def by_hand(self, key: str, job: str = "churn", **options: Any) -> Slot:
        return self.slots.add_slot(job, SlotKind.MANUAL, key, now=self.now, **options)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(f"sqlite:///{tmp_path / 'store.db'}")
    yield made
    made.store.close()


def test_each_moment_runs_once_and_ends_as_its_run_ends(world: World) -> None:
    promoted(world.store)
    world.pass_time(NOON + 1.1 * HOUR)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.attempt, slot.run_id) == (SlotState.RUNNING, 1, "r0")
    world.launcher.end(slot, SlotState.SUCCEEDED)
    world.pass_time(NOON + 3.1 * HOUR)
    assert world.states() == [(1, "succeeded"), (2, "running"), (3, "skipped")]
    assert len(world.launcher.runs) == 2


def test_two_schedulers_at_one_moment_fire_it_once(world: World) -> None:
    promoted(world.store)
    world.now = NOON + HOUR
    other = world.another()
    for _ in range(3):
        world.scheduler.step()
        other.step()
    assert world.states() == [(1, "running")]
    assert len(world.launcher.runs) == 1


def test_what_another_scheduler_held_when_it_was_killed_is_taken_after_its_lease(world: World) -> None:
    promoted(world.store)
    world.now = NOON + HOUR
    dead: list[Any] = []
    world.another().step(dead.append)  # it took the slot, and nothing of its work is done any more
    world.settle()
    assert world.states() == [(1, "waiting")]
    world.pass_time(world.now + timedelta(seconds=31), timedelta(seconds=10))
    assert world.states() == [(1, "running")]
    for work in dead:
        work()  # it was not killed but stopped, and goes on: its lease is lost
    assert world.states() == [(1, "running")]
    assert len(world.launcher.runs) == 1


def test_a_slot_whose_start_was_cut_off_is_started_again_under_the_same_key(world: World) -> None:
    promoted(world.store)
    world.now = NOON + HOUR
    with pytest.raises(RuntimeError):
        _killed_while_starting(world)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.run_id) == (SlotState.STARTING, None)
    world.pass_time(world.now + MINUTE, timedelta(seconds=10))
    (slot,) = world.slots.slots()
    assert (slot.state, slot.attempt, slot.run_id) == (SlotState.RUNNING, 1, "r0")
    assert len(world.launcher.runs) == 1


def _killed_while_starting(world: World) -> None:
    scheduler = world.another()

    class Killed(NotedRuns):
        def advance(self, version: JobVersion, slot: Slot) -> Standing:
            world.launcher.advance(version, slot)  # the run is there, and nobody knows it yet
            raise KeyboardInterrupt

    scheduler._launcher = Killed()
    try:
        scheduler.step()
    except KeyboardInterrupt:
        raise RuntimeError from None


def test_a_failure_is_tried_again_after_its_delay_as_another_run(world: World) -> None:
    promoted(world.store, policies=Policies(retries=1, retry_delay=600))
    world.by_hand("k")
    world.settle()
    (slot,) = world.slots.slots()
    world.launcher.end(slot, SlotState.FAILED, "The cell 3 failed.")
    world.pass_time(NOON + 5 * MINUTE)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.message, slot.failures) == (SlotState.RETRYING, "The cell 3 failed.", 1)
    world.pass_time(NOON + 15 * MINUTE)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.attempt, slot.run_id) == (SlotState.RUNNING, 2, "r1")
    world.launcher.end(slot, SlotState.FAILED, "again")
    world.pass_time(NOON + 30 * MINUTE)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.failures, slot.end_time is not None) == (SlotState.FAILED, 2, True)


def test_what_cannot_be_started_now_is_tried_until_it_can(world: World) -> None:
    promoted(world.store)
    world.by_hand("k")
    world.launcher.trouble = KubernetesError("Kubernetes is away.")
    world.pass_time(NOON + 10 * MINUTE)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.attempt, slot.message) == (SlotState.STARTING, 1, "Kubernetes is away.")
    world.launcher.trouble = RuntimeError("a fault of ours")
    world.pass_time(NOON + 20 * MINUTE)
    assert world.slots.slots()[0].message == "RuntimeError: a fault of ours"
    world.launcher.trouble = None
    world.pass_time(NOON + 25 * MINUTE)
    assert world.slots.slots()[0].state is SlotState.RUNNING


def test_what_can_never_be_started_fails_with_its_reason(world: World) -> None:
    promoted(world.store)
    world.by_hand("k")
    world.launcher.trouble = UsageError("The snapshot is gone.", hint="Promote it again.")
    world.pass_time(NOON + MINUTE)
    (slot,) = world.slots.slots()
    assert (slot.state, slot.message) == (SlotState.FAILED, "The snapshot is gone. Promote it again.")


def test_forbidding_overlap_keeps_triggered_slots_in_order(world: World) -> None:
    promoted(world.store)
    made = [world.by_hand(str(number), slot_time=NOON + number * MINUTE) for number in range(4)]
    world.settle()
    for number, slot in enumerate(made):
        states = [world.slots.slot(one.slot_id).state.value for one in made]
        assert states == ["succeeded"] * number + ["running"] + ["waiting"] * (3 - number)
        world.launcher.end(world.slots.slot(slot.slot_id), SlotState.SUCCEEDED)
        world.pass_time(world.now + timedelta(seconds=20), timedelta(seconds=5))
    assert len(world.launcher.runs) == 4


def test_catching_up_on_all_runs_every_moment_in_order(world: World) -> None:
    promoted(world.store, policies=Policies(catch_up=CatchUp.ALL))
    world.now = NOON + 4.5 * HOUR
    world.settle()
    assert world.states() == [(1, "running"), (2, "waiting"), (3, "waiting"), (4, "waiting")]


def test_replacing_cancels_what_runs_and_what_waits(world: World) -> None:
    promoted(world.store, policies=Policies(overlap=Overlap.REPLACE))
    world.by_hand("1")
    world.settle()
    world.now += MINUTE
    world.by_hand("2")
    world.pass_time(world.now + MINUTE, timedelta(seconds=5))
    newer, older = world.slots.slots()
    assert (older.state, newer.state) == (SlotState.STOPPING, SlotState.WAITING)
    assert older.message == f"Replaced by the slot {newer.slot_id}."
    assert world.launcher.cancelled == [older.slot_id]
    world.launcher.end(older, SlotState.CANCELLED)
    world.pass_time(world.now + MINUTE, timedelta(seconds=5))
    newer, older = world.slots.slots()
    assert (older.state, newer.state) == (SlotState.CANCELLED, SlotState.RUNNING)
    assert "Replaced" in older.message


def test_a_slot_is_cancelled_whether_it_waits_or_runs(world: World) -> None:
    promoted(world.store)
    running, waiting = world.by_hand("1"), world.by_hand("2", slot_time=NOON + MINUTE)
    world.settle()
    for slot in (running, waiting):
        assert world.leases.cancel(slot.slot_id, message="Cancelled by ann.", now=world.now)
    assert world.slots.slot(waiting.slot_id).state is SlotState.CANCELLED
    assert not world.leases.cancel(waiting.slot_id, message="", now=world.now)
    world.settle()
    assert world.slots.slot(running.slot_id).state is SlotState.STOPPING
    world.launcher.end(world.slots.slot(running.slot_id), SlotState.FAILED)
    world.pass_time(NOON + MINUTE)
    ended = world.slots.slot(running.slot_id)
    assert (ended.state, ended.message) == (SlotState.CANCELLED, "Cancelled by ann.")


def test_limits_of_a_job_an_owner_and_a_profile_hold(tmp_path: Path) -> None:
    world = World(f"sqlite:///{tmp_path / 'store.db'}", Limits(per_owner=3, per_profile={"local": 4}))
    anywhere = {"overlap": Overlap.ALLOW}
    promoted(world.store, "a", policies=Policies(max_active=2, **anywhere))
    promoted(world.store, "b", policies=Policies(**anywhere))
    promoted(world.store, "c", policies=Policies(**anywhere), owner="bob")
    for job in "abc":
        for number in range(4):
            world.by_hand(str(number), job)
        world.settle()
    running = [[slot.state.value for slot in world.slots.slots(job=job)].count("running") for job in ("a", "b", "c")]
    assert running == [2, 1, 1]
    assert {slot.message for slot in world.slots.slots(states=[SlotState.WAITING])} == {
        "Waits: 2 of the job run already.", "Waits: 3 of ann run already.", "Waits: 4 on the profile local run already.",
    }  # fmt: skip
    for _ in range(20):
        for slot in world.slots.slots(states=[SlotState.RUNNING]):
            world.launcher.end(slot, SlotState.SUCCEEDED)
        world.pass_time(world.now + MINUTE, timedelta(seconds=15))
    assert {slot.state for slot in world.slots.slots()} == {SlotState.SUCCEEDED}
    assert len(world.launcher.runs) == 12
    world.store.close()


def test_a_paused_job_starts_nothing_and_a_deleted_one_forgets_what_waits(world: World) -> None:
    promoted(world.store)
    world.jobs.set_state("churn", JobState.PAUSED)
    world.by_hand("k")
    world.pass_time(NOON + 2 * HOUR)
    assert [slot.message for slot in world.slots.slots()] == ["The job is paused."]
    world.jobs.set_state("churn", JobState.DELETED)
    world.pass_time(NOON + 3 * HOUR)
    assert world.slots.slots()[0].state is SlotState.SKIPPED


def test_a_job_that_waits_for_another_runs_after_its_success(world: World) -> None:
    promoted(world.store, "ingest")
    promoted(world.store, "churn", schedule=Schedule(triggers=(JobTrigger(job="ingest"),)))
    world.by_hand("k", "ingest")
    world.settle()
    world.launcher.end(world.slots.slots(job="ingest")[0], SlotState.SUCCEEDED)
    world.pass_time(NOON + MINUTE)
    assert world.states() == [(0, "running")]


def test_each_new_file_runs_once_whatever_became_of_the_scheduler(world: World, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "old.csv").write_text("1")
    import os

    def drop(name: str, content: str) -> None:
        (inbox / name).write_text(content)
        os.utime(inbox / name, (NOON.timestamp() - 60, NOON.timestamp() - 60))

    url = f"file://{inbox}/*.csv"
    promoted(
        world.store, schedule=Schedule(triggers=(FileTrigger(url=url, poll=30),)),
        policies=Policies(overlap=Overlap.ALLOW),
    )  # fmt: skip
    drop("old.csv", "1")
    # It comes after the version went live and before any scheduler has looked.
    (inbox / "early.csv").write_text("5")
    os.utime(inbox / "early.csv", (NOON.timestamp() + 1, NOON.timestamp() + 1))
    world.now = NOON + MINUTE
    world.settle()
    assert [slot.payload["url"].rpartition("/")[2] for slot in world.slots.slots()] == ["early.csv"]
    drop("new.csv", "2")
    drop("odd name \u2028.csv", "3")
    (inbox / "half.csv").write_text("written just now")  # in the future of this clock
    drop("other.txt", "4")
    world.pass_time(NOON + 5 * MINUTE)
    world.scheduler = world.another()
    world.pass_time(NOON + 10 * MINUTE)
    found = sorted(slot.payload["url"].rpartition("/")[2] for slot in world.slots.slots())
    assert found == ["early.csv", "new.csv", "odd name \u2028.csv"]
    drop("new.csv", "changed")
    world.pass_time(NOON + 15 * MINUTE)
    assert len(world.slots.slots()) == 4
    assert len(world.launcher.runs) == 4


def test_a_place_that_cannot_be_listed_is_told_and_looked_at_again(world: World) -> None:
    url = "nosuch://bucket/*"
    promoted(world.store, schedule=Schedule(triggers=(FileTrigger(url=url),)))
    world.settle()
    from jupyter_mlops.store.watches import WatchStore

    ((job, told, why),) = WatchStore(world.store).troubles()
    assert (job, told) == ("churn", url)
    assert "nosuch" in why
    assert WatchStore(world.store).due_watches(NOON + 2 * MINUTE)


def test_a_version_that_was_changed_in_the_database_never_runs(world: World) -> None:
    promoted(world.store)
    promoted(world.store, "other")
    world.by_hand("k")
    with world.store.writing() as session:
        session.execute(
            text(
                "UPDATE job_versions SET content = replace(content, '\"seed\": 0', '\"seed\": 1') "
                "WHERE job_id = (SELECT job_id FROM jobs WHERE name = 'churn')"
            )
        )
    world.pass_time(NOON + 1.1 * HOUR)
    assert world.jobs.job("churn").state is JobState.PAUSED
    (slot,) = world.slots.slots(job="churn")
    assert slot.state is SlotState.FAILED
    assert "changed in the database" in slot.message
    assert world.states("other") == [(1, "running")]
    ((newest), *_) = AuditStore(world.store).entries(action="job.pause")
    assert newest.entry.front == "scheduler"
