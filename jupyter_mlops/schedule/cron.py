"""Cron expressions in a time zone: checked with sentences for a person, and walked in both directions.

cronsim does the arithmetic, by Debian's rules: a job at a fixed time that the clock jumps over runs right after the
jump, and one at a time that comes twice runs the first time; a job that runs every hour, or more often, follows real
time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

NAMED = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *",
}  # fmt: skip
_FIELDS = {
    "minute": "0 to 59", "hour": "0 to 23", "day-of-month": "1 to 31, or L for the last",
    "month": "1 to 12 or JAN to DEC", "day-of-week": "0 to 7 or SUN to SAT",
}  # fmt: skip
_LONGEST = 200
_MINUTE, _HOUR = 60, 3600
_JUMP = timedelta(hours=3)
"""No zone sets its clock by more at the ends of daylight saving."""


class _Walk(CronSim):
    """cronsim's walk, mended for a zone that sets its clock by half an hour.

    Its long steps (to the only minute of an expression, to the next hour) are taken in real time. Over a change of half
    an hour they land elsewhere on the clock, and the minute or the hour between is lost: there it goes by minutes.
    """

    def tick(self, seconds: int = 1) -> None:
        before = self.dt
        super().tick(seconds)
        if seconds <= _MINUTE or before.tzinfo in (None, timezone.utc):
            return
        change = (self.dt.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        edge = 0 if self.tick_direction > 0 else 59
        if change % timedelta(hours=1) or (seconds == _HOUR and before.minute != edge):
            self.dt = before
            super().tick(_MINUTE)
            while seconds == _HOUR and self.dt.minute != edge and self.dt.hour == before.hour:
                super().tick(_MINUTE)


def five_fields(expression: str) -> str:
    """The expression as five fields: `@daily` and its like spelt out, space trimmed, case as given."""
    words = expression.split()
    return NAMED.get(words[0].lower(), words[0]) if len(words) == 1 else " ".join(words)


def check_cron(expression: str) -> None:
    """Refuse an expression that is none, or has no moment.

    Raises:
        ValueError: with a sentence for the person.
    """
    if len(expression) > _LONGEST:
        raise ValueError(f"the cron expression is longer than {_LONGEST} characters")
    fields = five_fields(expression)
    parts = fields.split()
    if fields.startswith("@"):
        raise ValueError(f"{expression!r} is no schedule; the names are: {', '.join(NAMED)}")
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"{expression!r} has {len(parts)} fields and a cron expression has five: "
            "minute, hour, day of month, month, day of week"
        )
    for number, (name, may_be) in enumerate(_FIELDS.items()):
        alone = ["*"] * len(_FIELDS)
        alone[number] = parts[number]
        try:
            CronSim(" ".join(alone), datetime(2000, 1, 1))  # noqa: DTZ001 - no moment is made from it
        except CronSimError:
            raise ValueError(f"the {name} {parts[number]!r} in {expression!r} is none: it takes {may_be}") from None
    try:
        next(CronSim(fields, datetime(2000, 1, 1)))  # noqa: DTZ001
    except (CronSimError, StopIteration):
        raise ValueError(f"{expression!r} has no moment: {_never(parts)} never comes") from None


def _never(parts: list[str]) -> str:
    return f"the day of month {parts[2]} in the month {parts[3]}" + (
        "" if parts[4] == "*" else f" on the day of week {parts[4]}"
    )


@lru_cache(maxsize=256)
def zone(name: str) -> ZoneInfo | timezone:
    """The time zone of that name; UTC as the plain one, which costs less.

    Raises:
        ValueError: there is none.
    """
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}") from None


def check_zone(name: str) -> None:
    """Refuse a name that is no time zone, and name the nearest.

    Raises:
        ValueError: with a sentence for the person.
    """
    try:
        zone(name)
    except ValueError as error:
        close = difflib.get_close_matches(name, available_timezones(), n=1, cutoff=0.6)
        raise ValueError(f"{error}; {f'{close[0]} is near' if close else 'they look like Europe/Berlin'}") from None


def forward(expression: str, tz: str, after: datetime) -> Iterator[datetime]:
    """The moments after one, ascending, in UTC; ends where the expression has none for 50 years."""
    after = after.astimezone(timezone.utc)
    last = after
    for moment in _Walk(five_fields(expression), after.astimezone(zone(tz))):
        # In UTC, since datetimes of one zone are compared by what the clock shows, which comes twice in autumn.
        found = moment.astimezone(timezone.utc)
        if found > last:
            last = found
            yield found


def backward(expression: str, tz: str, at: datetime) -> Iterator[datetime]:
    """The moments at or before one, descending, in UTC."""
    at = at.astimezone(timezone.utc)
    begin = at.replace(microsecond=0) + timedelta(seconds=1)
    local = begin.astimezone(zone(tz))
    if local.fold or at.astimezone(zone(tz)).fold:
        local = (begin + _JUMP).astimezone(zone(tz))  # the hour that comes twice: the first may be past the second
    last = None
    for moment in _Walk(five_fields(expression), local, reverse=True):
        found = moment.astimezone(timezone.utc)
        if found <= at and (last is None or found < last):
            last = found
            yield found
