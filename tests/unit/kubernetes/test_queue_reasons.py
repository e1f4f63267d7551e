"""The texts are those of Kueue v0.14.0: pkg/scheduler/flavorassigner/flavorassigner.go (Message, fitsResourceQuota),
pkg/scheduler/scheduler.go, pkg/controller/core/workload_controller.go."""

from __future__ import annotations

from typing import Any

import pytest

from jupyter_mlops.kubernetes.queue_reasons import position, queued
from jupyter_mlops.kubernetes.reason import Reason, Stage
from jupyter_mlops.states import FailureCode

from .objects import condition, workload

MORE = "couldn't assign flavors to pod set main: insufficient unused quota for nvidia.com/gpu in flavor h100, 2 more needed"
NEVER = (
    "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor h100, request > maximum "
    "capacity (8 > 4)"
)


def look(*conditions: dict[str, Any], others: Any = None, **more: Any) -> Reason:
    mine = workload(*conditions, **more)
    found = queued(mine, None if others is None else [mine, *others])
    assert found is not None
    return found


def pending(message: str, reason: str = "Pending") -> dict[str, Any]:
    return condition("QuotaReserved", "False", reason, message)


def test_a_run_that_waits_says_where_and_for_what() -> None:
    found = look(pending(MORE))
    assert found.message == "The run waits in the queue team-a: 2 GPUs more must come free."
    assert (found.stage, found.cause, found.blocked) == (Stage.QUEUED, "queued", False)
    assert found.raw == f"Pending: {MORE}"


def test_the_place_in_the_queue_is_by_priority_and_then_by_age() -> None:
    others = [
        workload(uid="older", created="2026-11-24T09:00:00Z"),
        workload(uid="urgent", created="2026-11-24T11:00:00Z", priority=100),
        workload(uid="younger", created="2026-11-24T11:00:00Z"),
        workload(condition("QuotaReserved"), uid="running", created="2026-11-24T08:00:00Z"),
        workload(condition("Finished"), uid="done", created="2026-11-24T08:00:00Z"),
        workload(uid="aside", created="2026-11-24T08:00:00Z", spec={"active": False}),
        workload(uid="elsewhere", queue="team-b", created="2026-11-24T08:00:00Z"),
    ]
    assert look(pending(MORE), others=others).message.startswith("The run waits in the queue team-a, position 3: ")


def test_one_that_was_put_back_for_being_late_is_as_old_as_that() -> None:
    late = workload(
        condition("Evicted", "True", "PodsReadyTimeout", lastTransitionTime="2026-11-24T12:00:00Z"),
        uid="late", created="2026-11-24T08:00:00Z",
    )  # fmt: skip
    preempted = workload(
        condition("Evicted", "True", "Preempted", lastTransitionTime="2026-11-24T12:00:00Z"),
        uid="preempted", created="2026-11-24T08:00:00Z",
    )  # fmt: skip
    mine = workload()
    everybody = [late, preempted, mine]
    assert [position(each, everybody) for each in everybody] == [3, 1, 2]


def test_one_that_is_not_among_the_waiting_has_no_place() -> None:
    assert position(workload(uid="mine"), [workload(uid="other")]) is None


def test_more_than_the_queue_ever_gives_blocks() -> None:
    found = look(pending(NEVER))
    assert found.message == "The queue team-a never gives a run more than 4 GPUs, and this one asks for 8 GPUs."
    assert (found.cause, found.blocked) == ("too_large", True)


def test_where_another_flavor_may_still_come_free_nothing_is_final() -> None:
    found = look(pending(f"{NEVER}, insufficient unused quota for nvidia.com/gpu in flavor a30, 1 more needed"))
    assert not found.blocked
    assert "1 GPU more must come free" in found.message


def test_memory_is_told_in_its_unit() -> None:
    found = look(pending("insufficient unused quota for memory in flavor cpu, 64Gi more needed; couldn't assign"))
    assert "64 GiB memory more must come free" in found.message


@pytest.mark.parametrize(
    "message",
    ["LocalQueue team-a doesn't exist", "ClusterQueue all doesn't exist", "ClusterQueue all is inactive",
     "LocalQueue team-a is inactive"],
)  # fmt: skip
def test_a_queue_that_takes_nothing_blocks(message: str) -> None:
    found = look(pending(message, "Inadmissible"))
    assert message in found.message
    assert (found.cause, found.blocked) == ("inadmissible", True)
    assert "'queue'" in found.hint


def test_a_workload_that_kueue_has_not_looked_at_yet_just_waits() -> None:
    assert look().message == "The run waits in the queue team-a."


def test_an_admission_check_is_named() -> None:
    found = look(
        condition("QuotaReserved"),
        admissionChecks=[{"name": "capacity", "state": "Pending", "message": "asking the cloud"},
                         {"name": "other", "state": "Ready"}],
    )  # fmt: skip
    assert found.message == "The queue team-a has a place for the run and waits for capacity."
    assert found.raw == "capacity: asking the cloud"
    assert not found.blocked


def test_an_admission_check_that_refuses_blocks() -> None:
    found = look(
        condition("QuotaReserved"), admissionChecks=[{"name": "budget", "state": "Rejected", "message": "empty"}]
    )
    assert "The check budget of the queue team-a refuses the run" in found.message
    assert found.blocked


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Preempted", "made way for more important work"),
        ("PodsReadyTimeout", "was not ready in the time"),
        ("ClusterQueueStopped", "queue was stopped"),
        ("SomethingNew", "was taken out (SomethingNew)"),
    ],
)
def test_a_run_that_was_put_back_says_why(reason: str, words: str) -> None:
    found = look(pending(MORE), condition("Evicted", "True", reason))
    assert words in found.message
    assert "begins again" in found.message
    assert found.stage is Stage.QUEUED


def test_a_run_that_was_put_aside_has_ended() -> None:
    evicted = condition("Evicted", "True", "DeactivatedDueToRequeuingLimitExceeded", "The workload is deactivated")
    found = look(evicted, spec={"active": False})
    assert (found.stage, found.code, found.blocked) == (Stage.FAILED, FailureCode.NOT_STARTED, True)
    assert "DeactivatedDueToRequeuingLimitExceeded" in found.raw


@pytest.mark.parametrize("let_through", ["Admitted", "Finished"])
def test_a_run_that_was_let_through_is_not_waiting(let_through: str) -> None:
    assert queued(workload(condition(let_through))) is None


def test_words_that_are_not_known_pass_through() -> None:
    found = look(pending("the moon is in the wrong phase"))
    assert found.raw == "Pending: the moon is in the wrong phase"
    assert found.message == "The run waits in the queue team-a."
