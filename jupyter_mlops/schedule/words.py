"""A schedule in plain words, for lists and questions."""

from __future__ import annotations

from datetime import timedelta

from cronsim import CronSim

from .cron import five_fields
from .model import EventTrigger, FileTrigger, JobTrigger, Schedule, Trigger

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def describe_schedule(schedule: Schedule) -> str:
    """For example "at 02:00 every day, Europe/Berlin", or "when the job ingest succeeds"."""
    found = []
    if schedule.cron is not None:
        found.append(f"{_cron(schedule.cron)}, {schedule.tz}")
    elif schedule.every is not None:
        found.append(f"every {_duration(schedule.every)}")
    found += [_trigger(trigger) for trigger in schedule.triggers]
    return "; ".join(found) or "by hand only"


def _cron(expression: str) -> str:
    from datetime import datetime, timezone

    words = CronSim(five_fields(expression), datetime(2000, 1, 1, tzinfo=timezone.utc)).explain()
    return words[:1].lower() + words[1:]


def _duration(seconds: float) -> str:
    """In the largest unit that fits: "15 minutes", "2 hours", "day"."""
    for name, size in _UNITS:
        count = seconds / size
        if count == 1:
            return name
        if count > 1 and count == int(count):
            return f"{int(count)} {name}s"
    return str(timedelta(seconds=seconds))


def _trigger(trigger: Trigger) -> str:
    if isinstance(trigger, FileTrigger):
        return f"when a file appears at {trigger.url}"
    if isinstance(trigger, JobTrigger):
        return f"when the job {trigger.job} succeeds"
    if isinstance(trigger, EventTrigger):
        return f"on the event {trigger.event}"
    return "on a signed request"
