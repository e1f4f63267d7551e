"""Slots: made once each, by a unique key, and listed.

What a scheduler does with a slot that is there is in `leases`. Knows no clock: the caller says what time it is.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from ..errors import NotFoundError, UsageError
from ..jobs.model import Job, JobState, JobVersion, Slot, SlotKind, SlotState, VersionState
from .audit import AuditEntry, append
from .database import Store, outlasting_a_restart
from .jobs import as_job, checked_version, intact, job_row
from .models import plain_text
from .tables import JobRow, SlotRow, VersionRow, WatchRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


_ID = re.compile(r"[0-9a-f]{1,64}")


@dataclass(frozen=True)
class PlannedSlot:
    """A scheduled moment that has come.

    Attributes:
        time: The moment.
        skipped: Why it is not going to run, or empty: it is.
    """

    time: datetime
    skipped: str = ""


class SlotStore:
    """The slots of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @outlasting_a_restart
    def due_jobs(self, now: datetime, *, limit: int = 100) -> list[tuple[Job, JobVersion | None]]:
        """Jobs whose next moment has come, the longest overdue first, with their live versions.

        None for a version that somebody changed in the database: it must not run.
        """
        query = (
            select(JobRow, VersionRow)
            .join(VersionRow, (VersionRow.job_id == JobRow.job_id) & (VersionRow.number == JobRow.live_version))
            .where(JobRow.next_time <= now)
            .order_by(JobRow.next_time)
            .limit(limit)
        )
        with self._store.reading() as session:
            return [(as_job(job), intact(version)) for job, version in session.execute(query)]

    def claim(
        self, job: Job, version: JobVersion, planned: Sequence[PlannedSlot], next_time: datetime | None, now: datetime
    ) -> int:
        """Make the slots of moments that have come and set the job's next one, all or nothing.

        Args:
            job: As `due_jobs` gave it: if it has changed since, another scheduler was first and nothing is done.
            version: Its live version.
            planned: The moments.
            next_time: The next one.
            now: The time.

        Returns:
            How many slots were made.
        """
        with self._store.writing() as session:
            mine = session.execute(
                update(JobRow)
                .where(
                    JobRow.job_id == job.job_id, JobRow.next_time == job.next_time,
                    JobRow.live_version == version.number,
                )
                .values(next_time=next_time)
            )  # fmt: skip
            if not mine.rowcount:  # type: ignore[attr-defined]
                return 0
            return insert_slots(session, [
                new_slot(job.job_id, version, SlotKind.SCHEDULE, moment_key(one.time), one.time, now,
                         skipped=one.skipped)
                for one in planned
            ])  # fmt: skip

    def add_slot(
        self, name: str, kind: SlotKind, key: str, *, now: datetime, slot_time: datetime | None = None,
        payload: dict[str, Any] | None = None, entry: AuditEntry | None = None,
    ) -> Slot:  # fmt: skip
        """Make a slot of the live version by hand or by a trigger; one that is there already is given as it is.

        Args:
            name: The job.
            kind: What makes it.
            key: What makes it the same slot when this is called again; unique in the job. `moment_key` is that of a
                scheduled moment, so that a backfill never repeats what ran on time.
            now: The time.
            slot_time: The moment that it stands for; default: now.
            payload: What the trigger tells.
            entry: For the audit log, if the slot is new.

        Raises:
            NotFoundError: no such job.
            UsageError: the job is deleted, or no version of it is live.
        """
        with self._store.writing() as session:
            job, version = live_version(session, name)
            row = new_slot(job.job_id, version, kind, key, slot_time or now, now, payload=payload or {})
            if insert_slots(session, [row]) and entry is not None:
                append(session, entry)
            found = select(SlotRow).where(SlotRow.job_id == job.job_id, SlotRow.key == row["key"])
            return as_slot(session.scalars(found).one(), job.name)

    def backfill(
        self, name: str, moments: Sequence[datetime], *, now: datetime, entry: AuditEntry | None = None
    ) -> list[datetime]:
        """Make a slot for each of these scheduled moments that has none; all or nothing.

        Args:
            name: The job.
            moments: The moments.
            now: The time.
            entry: For the audit log, if there is a new slot; their number is added to its details.

        Returns:
            The moments that got one.

        Raises:
            NotFoundError: no such job.
            UsageError: the job is deleted, or no version of it is live.
        """
        with self._store.writing() as session:
            job, version = live_version(session, name)
            made = [
                moment for moment in moments
                if insert_slots(session, [
                    new_slot(job.job_id, version, SlotKind.BACKFILL, moment_key(moment), moment, now)
                ])
            ]  # fmt: skip
            if made and entry is not None:
                append(session, replace(entry, details={**entry.details, "slots": len(made)}))
            return made

    def emit(
        self, kind: SlotKind, source: str, key: str, *, now: datetime, payload: dict[str, Any] | None = None,
        entry: AuditEntry | None = None,
    ) -> int:  # fmt: skip
        """Tell that something has happened: each active job with a trigger for it gets one slot.

        Args:
            kind: EVENT or WEBHOOK.
            source: The event's name; for a webhook, the job's.
            key: What makes it the same happening when it is told again.
            now: The time.
            payload: What the run is told.
            entry: For the audit log.

        Returns:
            How many slots were made: 0 also when it was told before.
        """
        with self._store.writing() as session:
            made = fan_out(session, kind, source, key, now, payload or {})
            if made and entry is not None:
                append(session, entry)
            return made

    @outlasting_a_restart
    def slot(self, name: str) -> Slot:
        """The slot of that id, or of its unique beginning.

        Raises:
            NotFoundError: there is none, or several fit.
        """
        query = select(SlotRow, JobRow.name).join(JobRow, JobRow.job_id == SlotRow.job_id)
        # Ids are hexadecimal digits: so the index serves, which LIKE would not let it.
        query = query.where(SlotRow.slot_id >= name, SlotRow.slot_id < f"{name}g").limit(2)
        with self._store.reading() as session:
            found = [as_slot(row, job) for row, job in session.execute(query)] if _ID.fullmatch(name) else []
        if len(found) == 1:
            return found[0]
        what = f"More than one slot begins with '{name}'." if found else f"There is no slot '{name}'."
        raise NotFoundError(what, hint="`jupyter mlops scheduler slots` lists them.")

    @outlasting_a_restart
    def slots(
        self, *, job: str | None = None, states: Sequence[SlotState] = (), limit: int = 50, before: Slot | None = None
    ) -> list[Slot]:
        """Slots, the newest moments first.

        Args:
            job: Only of this job.
            states: Only these; empty: all.
            limit: At most so many.
            before: Only those that come after this one in the list: the last of the page before.

        Raises:
            NotFoundError: no such job.
        """
        query = select(SlotRow, JobRow.name).join(JobRow, JobRow.job_id == SlotRow.job_id)
        query = query.order_by(SlotRow.slot_time.desc(), SlotRow.slot_id.desc()).limit(limit)
        if before is not None:
            query = query.where(tuple_(SlotRow.slot_time, SlotRow.slot_id) < (before.slot_time, before.slot_id))
        with self._store.reading() as session:
            if job is not None:
                query = query.where(SlotRow.job_id == job_row(session, job).job_id)
            # A question for each state: an index answers each in order, and no database merges them for us.
            queries = [query.where(SlotRow.state == state.value) for state in dict.fromkeys(states)] or [query]
            found = [as_slot(row, name) for one in queries for row, name in session.execute(one)]
        return sorted(found, key=lambda slot: (slot.slot_time, slot.slot_id), reverse=True)[:limit]

    @outlasting_a_restart
    def counts(self) -> dict[SlotState, int]:
        """How many slots there are that have not ended, by state."""
        unended = [state.value for state in SlotState if not state.is_terminal]
        query = select(SlotRow.state, func.count()).where(SlotRow.state.in_(unended)).group_by(SlotRow.state)
        with self._store.reading() as session:
            return {SlotState(state): count for state, count in session.execute(query)}


def moment_key(moment: datetime) -> str:
    """The key of the slot of a scheduled moment."""
    return f"at:{moment.isoformat()}"


def new_slot(
    job_id: str, version: JobVersion, kind: SlotKind, key: str, slot_time: datetime, now: datetime, *,
    payload: dict[str, Any] | None = None, skipped: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The columns of a slot that is to be made."""
    key = plain_text(key)
    if len(key) > SlotRow.key.type.length:
        key = f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    names = sorted({step.profile.name for step in version.steps})
    state = SlotState.SKIPPED if skipped else SlotState.WAITING
    return {
        "slot_id": secrets.token_hex(8), "job_id": job_id, "version": version.number, "key": key, "kind": kind.value,
        "slot_time": slot_time, "state": state.value, "attempt": 0, "failures": 0, "owner": plain_text(version.owner),
        "profiles": "\n" + "".join(f"{name}\n" for name in names), "message": skipped,
        "payload": json.dumps(payload or {}), "wake_time": None if skipped else now, "token": 0, "create_time": now,
        "end_time": now if skipped else None,
    }  # fmt: skip


def insert_slots(session: Session, rows: Iterable[dict[str, Any]]) -> int:
    """Make the slots whose keys are not there yet; gives how many."""
    return sum(insert_new(session, SlotRow, row, ("job_id", "key")) for row in rows)


def fan_out(session: Session, kind: SlotKind, source: str, key: str, now: datetime, payload: dict[str, Any]) -> int:
    """A slot for each active job that has a trigger for this; gives how many were made."""
    query = (
        select(VersionRow)
        .join(JobRow, (VersionRow.job_id == JobRow.job_id) & (VersionRow.number == JobRow.live_version))
        .join(WatchRow, WatchRow.job_id == JobRow.job_id)
        .where(WatchRow.kind == kind.value, WatchRow.source == plain_text(source))
        .where(JobRow.state == JobState.ACTIVE.value, VersionRow.state == VersionState.LIVE.value)
    )
    return insert_slots(session, [
        new_slot(row.job_id, version, kind, f"{kind.value}:{source}:{key}", now, now, payload=payload)
        for row in session.scalars(query).all()
        if (version := intact(row)) is not None
    ])  # fmt: skip


def as_slot(row: SlotRow, job: str) -> Slot:
    """The value that leaves the store."""
    return Slot(
        slot_id=row.slot_id, job_id=row.job_id, job=job, version=row.version, key=row.key, kind=SlotKind(row.kind),
        slot_time=row.slot_time, state=SlotState(row.state), attempt=row.attempt, failures=row.failures,
        run_id=row.run_id, message=row.message, payload=json.loads(row.payload), create_time=row.create_time,
        start_time=row.start_time, end_time=row.end_time,
    )  # fmt: skip


def live_version(session: Session, name: str) -> tuple[JobRow, JobVersion]:
    """A job and its live version.

    Raises:
        NotFoundError: no such job.
        UsageError: the job is deleted, or no version of it is live.
    """
    job = job_row(session, name)
    if job.live_version is None:
        what = "is deleted" if job.state == JobState.DELETED.value else "has no version that is live"
        raise UsageError(f"The job {name} {what}.", hint=f"jupyter mlops jobs history {name}", code="job")
    version = session.get(VersionRow, (job.job_id, job.live_version))
    assert version is not None
    return job, checked_version(version)


def insert_new(session: Session, table: Any, row: dict[str, Any], key: tuple[str, ...]) -> int:
    """Insert a row unless one with that key is there; gives how many."""
    insert = postgresql_insert if session.get_bind().dialect.name == "postgresql" else sqlite_insert
    statement = insert(table.__table__).values(row).on_conflict_do_nothing(index_elements=key)
    # Asked for: SQLAlchemy does not keep the count of an insert by itself.
    done = session.execute(statement, execution_options={"preserve_rowcount": True})
    return int(done.rowcount)  # type: ignore[attr-defined]
