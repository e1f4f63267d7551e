"""Which slots the moments of a job become, given how late they are noticed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.jobs.model import CatchUp, Policies
from jupyter_mlops.schedule import Schedule, moments_between
from jupyter_mlops.scheduler.due import due_slots

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
HOURLY = Schedule(cron="@hourly")


def at(hours: float) -> datetime:
    return NOON + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("catch_up", "grace", "now", "runs", "skipped", "following"),
    [
        ("latest", 300, 0.01, [0], [], 1),  # on time
        ("none", 300, 0.01, [0], [], 1),
        ("latest", 300, 0.5, [0], [], 1),  # late: the latest of one
        ("none", 300, 0.5, [], [0], 1),
        ("all", 300, 0.5, [0], [], 1),
        ("latest", 300, 5.5, [5], [], 6),  # six are missed
        ("none", 300, 5.5, [], [5], 6),
        ("all", 300, 5.5, [0, 1, 2, 3, 4, 5], [], 6),
        ("latest", 300, 5.01, [5], [4], 6),  # one of the six is on time: it stands for the rest
        ("none", 300, 5.01, [5], [4], 6),
        ("latest", 2.5 * 3600, 5.1, [3, 4, 5], [2], 6),  # a long grace: more than one is on time
    ],
)
def test_a_policy_decides_over_what_was_missed(
    catch_up: str, grace: float, now: float, runs: list[int], skipped: list[int], following: int
) -> None:
    policies = Policies(catch_up=CatchUp(catch_up), misfire_grace=grace)
    planned, next_time = due_slots(HOURLY, policies, next_time=NOON, now=at(now))
    assert [one.time for one in planned if not one.skipped] == [at(hour) for hour in runs]
    assert [one.time for one in planned if one.skipped] == [at(hour) for hour in skipped]
    assert next_time == at(following)


def test_why_a_moment_was_missed_is_told() -> None:
    policies = Policies(catch_up=CatchUp.NONE, misfire_grace=60)
    ((missed,), _) = due_slots(HOURLY, policies, next_time=NOON, now=at(0.5))
    assert missed.skipped == (
        "Missed: no scheduler was there until 0:30:00 later, and the grace is 60 s. The job does not catch up."
    )


@given(limit=st.integers(1, 30), hours=st.integers(0, 60))
def test_a_long_absence_is_made_up_for_in_parts_without_loss(limit: int, hours: int) -> None:
    policies = Policies(catch_up=CatchUp.ALL)
    now, next_time, found = at(hours + 0.5), NOON, []
    while next_time is not None and next_time <= now:
        planned, next_time = due_slots(HOURLY, policies, next_time=next_time, now=now, limit=limit)
        assert 0 < len(planned) <= limit
        found += [one.time for one in planned]
    assert found == list(moments_between(HOURLY, NOON, now))


def test_a_year_of_minutes_costs_nothing_when_only_the_latest_counts() -> None:
    policies = Policies(catch_up=CatchUp.LATEST)
    every_minute = Schedule(cron="* * * * *")
    planned, next_time = due_slots(every_minute, policies, next_time=NOON, now=at(365 * 24) + timedelta(seconds=1))
    assert len(planned) == 6  # the minutes of the grace, and one that stands for half a million
    assert next_time == at(365 * 24) + timedelta(minutes=1)
