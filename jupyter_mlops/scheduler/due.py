"""Which slots a job's scheduled moments become, given how late they are noticed. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice

from ..jobs.model import CatchUp, Policies
from ..schedule import Schedule, moments_between, next_moment, previous_moment
from ..store.slots import PlannedSlot

_MOST_AT_ONCE = 500
_INSTANT = timedelta(microseconds=1)


def due_slots(
    schedule: Schedule, policies: Policies, *, next_time: datetime, now: datetime, limit: int = _MOST_AT_ONCE
) -> tuple[list[PlannedSlot], datetime | None]:
    """The slots of the moments from `next_time` to now, and the job's next moment.

    A moment within the grace is on time and runs. Of the missed ones before it, `catch_up` runs all, or the latest if
    none is on time, or none; one that stands for the rest is recorded as skipped.

    Args:
        schedule: When.
        policies: How late is too late, and what then.
        next_time: The first moment that has not become a slot; it is not after `now`.
        now: The time.
        limit: At most so many slots; the next moment is then one that has come too.
    """
    grace = now - timedelta(seconds=policies.misfire_grace)
    planned: list[PlannedSlot] = []
    if policies.catch_up is CatchUp.ALL:
        first = next_time
    else:
        first = max(next_time, grace)
        missed = previous_moment(schedule, grace - _INSTANT)
        if missed is not None and missed >= next_time:
            on_time = next(moments_between(schedule, first, now), None)
            runs = policies.catch_up is CatchUp.LATEST and on_time is None
            planned.append(PlannedSlot(missed, "" if runs else _why(missed, now, policies)))
    found = list(islice(moments_between(schedule, first, now), limit + 1))
    planned += [PlannedSlot(moment) for moment in found[:limit]]
    return planned, found[limit] if len(found) > limit else next_moment(schedule, now)


def _why(missed: datetime, now: datetime, policies: Policies) -> str:
    late = timedelta(seconds=round((now - missed).total_seconds()))
    why = f"Missed: no scheduler was there until {late} later, and the grace is {policies.misfire_grace:g} s."
    if policies.catch_up is CatchUp.LATEST:
        return f"{why} A later moment runs in its place."
    return f"{why} The job does not catch up."
