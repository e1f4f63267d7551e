"""The moments of a schedule: which comes next, which was the last, which lie between. All in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import islice, takewhile

from . import cron
from .model import Schedule


def next_moment(schedule: Schedule, after: datetime) -> datetime | None:
    """The first moment after this one; None: there is none (triggers only, or by hand)."""
    return next(_after(schedule, after), None)


def next_moments(schedule: Schedule, after: datetime, count: int) -> list[datetime]:
    """The next moments, at most so many."""
    return list(islice(_after(schedule, after), count))


def previous_moment(schedule: Schedule, at: datetime) -> datetime | None:
    """The last moment at or before this one."""
    if schedule.cron is not None:
        return next(cron.backward(schedule.cron, schedule.tz, at), None)
    if schedule.every is not None:
        number = (at - schedule.anchor) // timedelta(seconds=schedule.every)
        return _of_interval(schedule, number) if number >= 0 else None
    return None


def moments_between(schedule: Schedule, first: datetime, last: datetime) -> Iterator[datetime]:
    """The moments from `first` to `last`, both included, ascending."""
    just_before = first - timedelta(microseconds=1)
    return takewhile(lambda moment: moment <= last, _after(schedule, just_before))


def _after(schedule: Schedule, after: datetime) -> Iterator[datetime]:
    if schedule.cron is not None:
        yield from cron.forward(schedule.cron, schedule.tz, after)
    elif schedule.every is not None:
        number = max(0, (after - schedule.anchor) // timedelta(seconds=schedule.every) + 1)
        while True:
            yield _of_interval(schedule, number)
            number += 1


def _of_interval(schedule: Schedule, number: int) -> datetime:
    assert schedule.every is not None
    return (schedule.anchor + number * timedelta(seconds=schedule.every)).astimezone(timezone.utc)
