"""What the end of an attempt means for its slot."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jupyter_mlops.jobs.model import Policies, SlotState
from jupyter_mlops.scheduler.launcher import Standing
from jupyter_mlops.scheduler.outcome import next_state
from tests.unit.store.job_cases import NOON

from .test_admission import slot

FAILED = Standing(SlotState.FAILED, "r", "why")
LOST = Standing(SlotState.FAILED, "r", "why", lost=True)


def test_a_failure_is_tried_again_with_a_growing_delay_and_then_stands() -> None:
    policies = Policies(retries=3, retry_delay=60, retry_factor=3, retry_delay_max=200)
    found = []
    failures = 0
    for attempt in range(1, 5):
        after = next_state(slot(state=SlotState.RUNNING, attempt=attempt, failures=failures), policies, FAILED, NOON)
        failures = after.failures
        found.append((after.state.value, (after.wake_time - NOON).total_seconds() if after.wake_time else None))
    assert found == [("retrying", 60), ("retrying", 180), ("retrying", 200), ("failed", None)]
    assert failures == 4


def test_an_attempt_of_which_nothing_ran_is_repeated_without_counting_as_a_failure() -> None:
    running = slot(state=SlotState.STARTING, attempt=1)
    after = next_state(running, Policies(), LOST, NOON)
    assert (after.state, after.failures) == (SlotState.RETRYING, 0)
    assert "Nothing of it had run" in after.message
    for attempt in range(2, 6):
        assert next_state(slot(state=SlotState.STARTING, attempt=attempt), Policies(), LOST, NOON).wake_time
    assert next_state(slot(state=SlotState.STARTING, attempt=6), Policies(), LOST, NOON).state is SlotState.FAILED


@pytest.mark.parametrize(
    ("before", "standing", "after"),
    [
        ("starting", Standing(SlotState.RUNNING, "r"), "running"),
        ("running", Standing(SlotState.RUNNING, "r"), "running"),
        ("stopping", Standing(SlotState.RUNNING, "r"), "stopping"),
        ("stopping", Standing(SlotState.CANCELLED, "r"), "cancelled"),
        ("stopping", FAILED, "cancelled"),
        ("stopping", Standing(SlotState.SUCCEEDED, "r"), "succeeded"),
        ("running", Standing(SlotState.CANCELLED, "r", "by ann"), "cancelled"),
        ("running", Standing(SlotState.SUCCEEDED, "r"), "succeeded"),
    ],
)
def test_a_slot_follows_its_run(before: str, standing: Standing, after: str) -> None:
    policies = Policies(retries=5)
    found = next_state(slot(state=SlotState(before), attempt=1), policies, standing, NOON)
    assert found.state.value == after
    assert (found.wake_time is None) == found.state.is_terminal


def test_a_long_run_is_looked_at_less_often() -> None:
    waits = []
    for minutes in (0, 1, 60 * 24):
        running = slot(state=SlotState.RUNNING, attempt=1, start_time=NOON - timedelta(minutes=minutes))
        after = next_state(running, Policies(), Standing(SlotState.RUNNING, "r"), NOON)
        assert after.wake_time is not None
        waits.append((after.wake_time - NOON).total_seconds())
    assert waits == [0.5, 6, 15]
