"""Slots that a person asks for: a job run now, or the moments of a time that has passed; a scheduler runs them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ..errors import ParameterError, UsageError
from ..identity import current_user
from ..redact import Redactor
from ..runs import Runs
from ..schedule import moments_between
from .model import JobVersion, Slot, SlotKind
from .proposal import masked

if TYPE_CHECKING:
    from ..store.jobs import JobStore
    from ..store.slots import SlotStore

MOST_MOMENTS = 10_000
"""A backfill makes at most so many slots."""


class Firing:
    """Asks for slots of jobs.

    Args:
        runs: The core of runs; its `front` is what the audit log says.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs

    @property
    def _jobs(self) -> JobStore:
        from ..store.jobs import JobStore

        return JobStore(self._runs.store)

    @property
    def _slots(self) -> SlotStore:
        from ..store.slots import SlotStore

        return SlotStore(self._runs.store)

    def trigger(self, job: str, *, assignments: Mapping[str, str] | None = None, reason: str = "") -> Slot:
        """Have the job scheduler run the live version now, once.

        Args:
            job: The job.
            assignments: Parameters to set for this once, as text.
            reason: Why.

        Raises:
            NotFoundError: no such job.
            UsageError: no version is live, or a parameter does not fit.
        """
        payload: dict[str, Any] = {"by": current_user()}
        values = self._bound(job, assignments) if assignments else {}
        if values:
            payload["parameters"] = values
        entry = self._runs.audit.entry(
            "job.trigger", f"job {job}", parameters=values, reason=masked(self._runs, reason)
        )
        now = datetime.now(timezone.utc)
        return self._slots.add_slot(
            job, SlotKind.MANUAL, f"by hand:{secrets.token_hex(8)}", now=now, payload=payload, entry=entry
        )

    def _bound(self, job: str, assignments: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        from ..notebook.document import check_notebook, parse_notebook
        from ..notebook.parameters import accepts_any_name, bind_parameters, read_parameters
        from ..snapshot import SnapshotStore

        live = live_version(self._jobs, job)
        if len(live.steps) != 1:
            raise UsageError(f"The job {job} has {len(live.steps)} steps: their parameters are not set by hand.")
        step, config = live.steps[0], self._runs.config
        path = Path(step.notebook)
        nb = check_notebook(parse_notebook(SnapshotStore(config.data_path).notebook(step.snapshot_id), path), path)
        values = bind_parameters(
            read_parameters(nb), text=assignments, values=step.parameters, secret_pattern=config.secret_pattern,
            any_name=accepts_any_name(nb),
        )  # fmt: skip
        values = {name: values[name] for name in assignments}
        if Redactor.from_environment(config.secret_pattern).data(values) != values:
            raise ParameterError(
                "A parameter holds the value of a variable that is a secret; it would be recorded for all to read.",
                code="secret",
            )
        return {step.name: values}

    def backfill(
        self, job: str, first: str, last: str, *, limit: int = 100, dry_run: bool = False, reason: str = ""
    ) -> tuple[list[datetime], list[datetime]]:
        """Have the job scheduler run the scheduled moments of a time that has passed; those that ran are left alone.

        Args:
            job: The job.
            first: An ISO date or time, in the schedule's time zone where it has none.
            last: The same; a date means its end.
            limit: The most moments that there may be.
            dry_run: Make nothing.
            reason: Why.

        Returns:
            All the moments, and those that got a slot.

        Raises:
            NotFoundError: no such job.
            UsageError: no version is live, a moment cannot be read, or there are too many.
        """
        version, now = live_version(self._jobs, job), datetime.now(timezone.utc)
        schedule = version.schedule
        if schedule.cron is None and schedule.every is None:
            raise UsageError(f"The job {job} has no scheduled moments.", hint="jupyter mlops jobs trigger", code="job")
        begin, end = _moment(first, schedule.tz, end=False), _moment(last, schedule.tz, end=True)
        if begin > end:
            raise UsageError(f"{first} is after {last}.", code="job")
        limit = min(limit, MOST_MOMENTS)
        moments = [*islice(moments_between(schedule, begin, min(end, now)), limit + 1)]
        if len(moments) > limit:
            raise UsageError(
                f"From {first} to {last} the job {job} has more than {limit} moments.",
                hint=f"Take a shorter time, or raise --limit (at most {MOST_MOMENTS}).",
                code="job",
            )
        if dry_run or not moments:
            return moments, []
        entry = self._runs.audit.entry(
            "job.backfill", f"job {job}", first=moments[0].isoformat(), last=moments[-1].isoformat(),
            reason=masked(self._runs, reason),
        )  # fmt: skip
        return moments, self._slots.backfill(job, moments, now=now, entry=entry)


def live_version(jobs: JobStore, job: str) -> JobVersion:
    """The live version of a job.

    Raises:
        NotFoundError: no such job.
        UsageError: no version of it is live.
    """
    number = jobs.job(job).live_version
    if number is None:
        raise UsageError(
            f"The job {job} has no version that is live.", hint=f"jupyter mlops jobs history {job}", code="job"
        )
    return jobs.version(job, number).version


def _moment(text: str, tz: str, *, end: bool) -> datetime:
    zone = ZoneInfo(tz)
    try:
        if len(text) == len("2026-11-24"):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            start = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(timezone.utc)
            return start - timedelta(microseconds=1) if end else start
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no moment.", hint="Write a date like 2026-11-24, or a time like 2026-11-24T06:00."
        ) from None
