"""Jobs and their versions, the results of gates, and approvals.

Each change may carry an entry of the audit log, which is recorded with it or not at all. Knows no scheduler: it only
keeps `next_time`, the moment at which one has something to do.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError

from ..errors import NotFoundError, StoreError, UsageError
from ..jobs.gate import Approval, GateResult
from ..jobs.model import FiredBy, Job, JobState, JobVersion, VersionRecord, VersionState
from ..schedule import JobTrigger, Schedule, Trigger, next_moment
from ..schedule.model import EventTrigger, FileTrigger
from .audit import AuditEntry, append
from .database import Store, outlasting_a_restart
from .models import plain_text
from .tables import ApprovalRow, GateResultRow, JobRow, VersionRow, WatchRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class JobStore:
    """The jobs of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add_version(self, version: JobVersion, *, entry: AuditEntry | None = None) -> VersionRecord:
        """Record a proposed version, and the job if this is its first; the store numbers it.

        Args:
            version: Its own number is not looked at.
            entry: For the audit log; the number is added to its details.
        """
        try:
            return self._add_version(version, entry)
        except StoreError as error:
            # Two first versions of one name at once: the second finds the job made.
            if not isinstance(error.__cause__, IntegrityError):
                raise
            return self._add_version(version, entry)

    def _add_version(self, version: JobVersion, entry: AuditEntry | None) -> VersionRecord:
        with self._store.writing() as session:
            job = session.scalars(select(JobRow).where(JobRow.name == version.job).with_for_update()).one_or_none()
            if job is None:
                job = JobRow(
                    job_id=secrets.token_hex(6), name=version.job, owner=plain_text(version.owner),
                    state=JobState.ACTIVE.value, create_time=version.create_time,
                )  # fmt: skip
                session.add(job)
                session.flush()
            last = session.scalar(select(func.max(VersionRow.number)).where(VersionRow.job_id == job.job_id)) or 0
            numbered = version.model_copy(update={"number": last + 1})
            session.add(VersionRow(
                job_id=job.job_id, number=numbered.number, state=VersionState.PROPOSED.value, digest=numbered.digest,
                content=numbered.to_json(), create_time=numbered.create_time,
            ))  # fmt: skip
            _append(session, entry, version=numbered.number)
            return VersionRecord(version=numbered, state=VersionState.PROPOSED)

    def set_live(self, name: str, number: int, *, entry: AuditEntry | None = None, now: datetime | None = None) -> Job:
        """Let a version live; the one before is retired, and a deleted job is there again.

        Nothing is asked of gates here: whoever calls this has judged them.

        Args:
            name: The job.
            number: The version.
            entry: For the audit log.
            now: From when on its moments count; default: now.

        Raises:
            NotFoundError: no such job or version.
            UsageError: it is retired or refused: a rollback makes a new version.
        """
        now = now or datetime.now(timezone.utc)
        with self._store.writing() as session:
            job = job_row(session, name, lock=True)
            row = _version(session, job, number)
            version = checked_version(row)
            if row.state not in (VersionState.PROPOSED.value, VersionState.LIVE.value):
                raise UsageError(f"Version {number} of the job {name} is {row.state}, not proposed.", code="job")
            due = job.next_time
            before = session.get(VersionRow, (job.job_id, job.live_version)) if job.live_version else None
            if before is not None and before.number != number:
                before.state = VersionState.RETIRED.value
            row.state, row.live_time = VersionState.LIVE.value, now
            if job.state == JobState.DELETED.value:
                job.state = JobState.ACTIVE.value
            job.live_version, job.owner = number, plain_text(version.owner)
            earlier = intact(before) if before is not None else None
            same = earlier is not None and earlier.schedule == version.schedule
            # A moment that is due and that no scheduler has seen yet is not lost by a new version in between.
            if not (same and due is not None and due <= now):
                due = _next_time(job, version, now)
            job.next_time = due
            _watch(session, job, version, now)
            _append(session, entry, version=number)
            session.flush()
            return as_job(job)

    def refuse(self, name: str, number: int, *, entry: AuditEntry | None = None) -> None:
        """Record that a proposed version will not live.

        Raises:
            NotFoundError: no such job or version.
            UsageError: it is not proposed any more.
        """
        with self._store.writing() as session:
            row = _version(session, job_row(session, name, lock=True), number)
            if row.state != VersionState.PROPOSED.value:
                raise UsageError(f"Version {number} of the job {name} is {row.state}, not proposed.", code="job")
            row.state = VersionState.REFUSED.value
            _append(session, entry, version=number)

    def set_state(
        self, name: str, state: JobState, *, entry: AuditEntry | None = None, now: datetime | None = None
    ) -> Job:
        """Pause, resume or delete a job. What it missed while it was paused is not made up for.

        Args:
            name: The job.
            state: The new state.
            entry: For the audit log.
            now: From when on its moments count; default: now.

        Raises:
            NotFoundError: no such job.
        """
        now = now or datetime.now(timezone.utc)
        with self._store.writing() as session:
            job = job_row(session, name, lock=True)
            if job.state != state.value:
                job.state = state.value
                live = _version(session, job, job.live_version) if job.live_version else None
                job.next_time = None
                if live is not None and state is JobState.ACTIVE:
                    job.next_time = _next_time(job, checked_version(live), now)
                if state is JobState.DELETED:
                    session.execute(delete(WatchRow).where(WatchRow.job_id == job.job_id))
                    if live is not None:
                        live.state, job.live_version = VersionState.RETIRED.value, None
            _append(session, entry)
            session.flush()
            return as_job(job)

    @outlasting_a_restart
    def job(self, name: str) -> Job:
        """The job of that name, also a deleted one.

        Raises:
            NotFoundError: there is none.
        """
        with self._store.reading() as session:
            return as_job(job_row(session, name))

    @outlasting_a_restart
    def jobs(
        self,
        *,
        states: Sequence[JobState] = (JobState.ACTIVE, JobState.PAUSED),
        owner: str | None = None,
        limit: int = 50,
        after: str = "",
    ) -> list[Job]:
        """Jobs by name.

        Args:
            states: Only these.
            owner: Only this person's.
            limit: At most so many.
            after: Only names after this one: the last of the page before.
        """
        query = select(JobRow).where(JobRow.name > after).order_by(JobRow.name).limit(limit)
        query = query.where(JobRow.state.in_([state.value for state in states]))
        if owner is not None:
            query = query.where(JobRow.owner == plain_text(owner))
        with self._store.reading() as session:
            return [as_job(row) for row in session.scalars(query)]

    @outlasting_a_restart
    def version(self, name: str, number: int) -> VersionRecord:
        """One version of a job.

        Raises:
            NotFoundError: no such job or version.
            StoreError: somebody changed it in the database.
        """
        with self._store.reading() as session:
            return _record(_version(session, job_row(session, name), number))

    @outlasting_a_restart
    def versions(self, name: str, *, limit: int = 50, before: int | None = None) -> list[VersionRecord]:
        """The versions of a job, newest first.

        Args:
            name: The job.
            limit: At most so many.
            before: Only those with a smaller number: the last of the page before.

        Raises:
            NotFoundError: no such job.
        """
        with self._store.reading() as session:
            query = select(VersionRow).where(VersionRow.job_id == job_row(session, name).job_id)
            if before is not None:
                query = query.where(VersionRow.number < before)
            return [_record(row) for row in session.scalars(query.order_by(VersionRow.number.desc()).limit(limit))]

    @outlasting_a_restart
    def proposed(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """The numbers of the versions of these jobs that wait for their gates, ascending.

        Their content is not looked at, so that one that somebody changed in the database hides no other.

        Args:
            names: The jobs; one that has no such version is not in the answer.
        """
        query = (
            select(JobRow.name, VersionRow.number)
            .join(VersionRow, VersionRow.job_id == JobRow.job_id)
            .where(JobRow.name.in_([plain_text(name) for name in names]))
            .where(VersionRow.state == VersionState.PROPOSED.value)
        )
        found: dict[str, list[int]] = {}
        with self._store.reading() as session:
            for name, number in session.execute(query):
                found.setdefault(name, []).append(number)
        return {name: tuple(sorted(numbers)) for name, numbers in found.items()}

    def add_gate_results(
        self, name: str, number: int, results: Sequence[GateResult], *, entry: AuditEntry | None = None
    ) -> None:
        """Record how the gates of a version were judged; what was recorded before stays.

        Raises:
            NotFoundError: no such job or version.
        """
        with self._store.writing() as session:
            job = job_row(session, name)
            _version(session, job, number)
            for result in results:
                data = {**result.model_dump(mode="json", exclude={"evidence"}), "evidence": result.evidence}
                session.add(GateResultRow(job_id=job.job_id, version=number, content=json.dumps(data)))
            _append(session, entry, version=number)

    @outlasting_a_restart
    def gate_results(self, name: str, number: int) -> list[GateResult]:
        """How the gates of a version were judged, in the order in which they were.

        Raises:
            NotFoundError: no such job.
        """
        with self._store.reading() as session:
            query = (
                select(GateResultRow)
                .where(GateResultRow.job_id == job_row(session, name).job_id, GateResultRow.version == number)
                .order_by(GateResultRow.result_id)
            )
            return [GateResult.model_validate(json.loads(row.content)) for row in session.scalars(query)]

    def add_approval(self, name: str, number: int, approval: Approval, *, entry: AuditEntry | None = None) -> None:
        """Record what somebody says about a version; it replaces what they said before.

        Raises:
            NotFoundError: no such job or version.
        """
        with self._store.writing() as session:
            job = job_row(session, name, lock=True)
            _version(session, job, number)
            session.merge(ApprovalRow(
                job_id=job.job_id, version=number, who=plain_text(approval.who), approved=approval.approved,
                comment=plain_text(approval.comment), create_time=approval.create_time,
            ))  # fmt: skip
            _append(session, entry, version=number)

    @outlasting_a_restart
    def approvals(self, name: str, number: int) -> list[Approval]:
        """What people said about a version, in the order of time.

        Raises:
            NotFoundError: no such job.
        """
        with self._store.reading() as session:
            query = (
                select(ApprovalRow)
                .where(ApprovalRow.job_id == job_row(session, name).job_id, ApprovalRow.version == number)
                .order_by(ApprovalRow.create_time, ApprovalRow.who)
            )
            return [
                Approval(who=row.who, approved=row.approved, comment=row.comment, create_time=row.create_time)
                for row in session.scalars(query)
            ]


def _append(session: Session, entry: AuditEntry | None, **details: object) -> None:
    if entry is not None:
        session.flush()  # whoever waits for what is written here must not hold the log meanwhile
        append(session, replace(entry, details={**entry.details, **details}))


def job_row(session: Session, name: str, *, lock: bool = False) -> JobRow:
    """The row of a job.

    Raises:
        NotFoundError: there is none of that name.
    """
    query = select(JobRow).where(JobRow.name == plain_text(name))
    found = session.scalars(query.with_for_update() if lock else query).one_or_none()
    if found is None:
        raise NotFoundError(f"There is no job '{name}'.", hint="`jupyter mlops jobs list` lists the jobs.")
    return found


def _version(session: Session, job: JobRow, number: int) -> VersionRow:
    found = session.get(VersionRow, (job.job_id, number))
    if found is None:
        raise NotFoundError(
            f"The job {job.name} has no version {number}.", hint=f"jupyter mlops jobs history {job.name}"
        )
    return found


def _record(row: VersionRow) -> VersionRecord:
    return VersionRecord(version=checked_version(row), state=VersionState(row.state), live_time=row.live_time)


def checked_version(row: VersionRow) -> JobVersion:
    """The version, if it is what was recorded.

    Raises:
        StoreError: somebody changed it in the database.
    """
    try:
        version = JobVersion.from_json(row.content)
    except ValueError as error:
        raise _changed(row) from error
    if version.digest != row.digest or version.number != row.number:
        raise _changed(row)
    return version


def intact(row: VersionRow) -> JobVersion | None:
    """The version, or None if somebody changed it in the database."""
    try:
        return checked_version(row)
    except StoreError:
        return None


def _changed(row: VersionRow) -> StoreError:
    return StoreError(
        f"Version {row.number} of the job with the id {row.job_id} is not what was recorded: it was changed in the "
        "database.",
        hint="Promote the notebook again, and ask who writes to the store: jupyter mlops audit verify",
        code="version_changed",
    )


def as_job(row: JobRow) -> Job:
    """The value that leaves the store."""
    return Job(
        job_id=row.job_id, name=row.name, owner=row.owner, state=JobState(row.state), live_version=row.live_version,
        next_time=row.next_time, create_time=row.create_time,
    )  # fmt: skip


def _next_time(job: JobRow, version: JobVersion, now: datetime) -> datetime | None:
    if job.state != JobState.ACTIVE.value or version.fired_by is not FiredBy.SCHEDULER:
        return None
    return next_moment(version.schedule, now)


def trigger_key(trigger: Trigger) -> str:
    """What makes a trigger the same in a later version, so that it goes on where it was."""
    return hashlib.sha256(trigger.model_dump_json().encode()).hexdigest()


def _watch(session: Session, job: JobRow, version: JobVersion, now: datetime) -> None:
    """Have the triggers of the live version, and no others, watched."""
    schedule: Schedule = version.schedule
    wanted = {trigger_key(trigger): trigger for trigger in schedule.triggers}
    for row in session.scalars(select(WatchRow).where(WatchRow.job_id == job.job_id)):
        if row.trigger_key not in wanted:
            session.delete(row)
        else:
            del wanted[row.trigger_key]
    for key, trigger in wanted.items():
        session.add(WatchRow(
            job_id=job.job_id, trigger_key=key, kind=trigger.kind, source=_source(trigger, job),
            content=trigger.model_dump_json(), since=now, wake_time=now if isinstance(trigger, FileTrigger) else None,
        ))  # fmt: skip


def _source(trigger: Trigger, job: JobRow) -> str:
    if isinstance(trigger, JobTrigger):
        return trigger.job
    return plain_text(trigger.event) if isinstance(trigger, EventTrigger) else job.name
