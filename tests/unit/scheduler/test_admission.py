"""Whether a slot may start, given what stands beside it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jupyter_mlops.jobs.model import CatchUp, JobState, Overlap, Policies, Slot, SlotKind, SlotState
from jupyter_mlops.scheduler.admission import Limits, decide
from jupyter_mlops.store.leases import Crowd
from tests.unit.store.job_cases import NOON, version

FREE = Crowd(job_state=JobState.ACTIVE, active=0, unended=0, earlier=False, owner_active=0)


def slot(**changes: Any) -> Slot:
    fields = {
        "slot_id": "a", "job_id": "j", "job": "churn", "version": 1, "key": "k", "kind": SlotKind.SCHEDULE,
        "slot_time": NOON, "state": SlotState.WAITING, "create_time": NOON,
    }  # fmt: skip
    return Slot(**{**fields, **changes})


def crowd(**changes: Any) -> Crowd:
    return Crowd(**{**vars(FREE), **changes})


@pytest.mark.parametrize(
    ("policies", "given", "beside", "state", "words"),
    [
        ({}, {}, {}, "starting", ""),
        ({}, {}, {"unended": 1}, "skipped", "had not ended"),
        ({}, {}, {"earlier": True}, "skipped", "had not ended"),
        ({}, {"kind": SlotKind.FILE}, {"unended": 1}, "waiting", "before it"),
        ({"catch_up": CatchUp.ALL}, {}, {"unended": 1}, "waiting", "before it"),
        ({"overlap": Overlap.ALLOW}, {}, {"unended": 3, "active": 3, "earlier": True}, "starting", ""),
        ({"overlap": Overlap.REPLACE}, {}, {"unended": 1}, "waiting", "replaces"),
        ({"overlap": Overlap.REPLACE}, {}, {}, "starting", ""),
        ({"overlap": Overlap.ALLOW, "max_active": 2}, {}, {"active": 2}, "waiting", "2 of the job"),
        ({"overlap": Overlap.ALLOW, "max_active": 2}, {}, {"active": 1}, "starting", ""),
        ({}, {}, {"owner_active": 3}, "waiting", "3 of ann"),
        ({}, {}, {"owner_active": 2}, "starting", ""),
        ({}, {}, {"profile_active": {"gpu": 1, "local": 9}}, "waiting", "1 on the profile gpu"),
        ({}, {}, {"profile_active": {"gpu": 0, "local": 9}}, "starting", ""),
        ({}, {}, {"job_state": JobState.PAUSED}, "waiting", "paused"),
        ({}, {}, {"job_state": JobState.DELETED}, "skipped", "deleted"),
        ({}, {"state": SlotState.RETRYING, "attempt": 1}, {"earlier": True, "unended": 1}, "starting", ""),
        ({}, {"state": SlotState.RETRYING, "attempt": 1}, {"job_state": JobState.DELETED}, "skipped", "deleted"),
    ],
)
def test_a_slot_starts_waits_or_is_skipped(
    policies: dict[str, Any], given: dict[str, Any], beside: dict[str, Any], state: str, words: str
) -> None:
    limits = Limits(per_owner=3, per_profile={"gpu": 1})
    found = decide(slot(**given), version(policies=Policies(**policies)), crowd(**beside), limits, NOON)
    assert found.state.value == state
    assert words in found.message
    assert (found.wake_time is not None) == (state == "waiting")
    assert found.replace == ("replaces" in words)


def test_a_slot_that_could_not_start_in_time_is_skipped() -> None:
    policies = Policies(start_deadline=60, overlap=Overlap.ALLOW)
    late = NOON + timedelta(seconds=61)
    for now, state in ((NOON + timedelta(seconds=59), "starting"), (late, "skipped")):
        assert decide(slot(), version(policies=policies), FREE, Limits(), now).state.value == state
    again = slot(state=SlotState.RETRYING, attempt=1)
    assert decide(again, version(policies=policies), FREE, Limits(), late).state.value == "starting"
