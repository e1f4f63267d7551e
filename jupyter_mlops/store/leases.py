"""What a scheduler process does with slots: it takes one for a while, decides under everybody's eyes, writes down.

A lease is a wake time in the future and a token. Whoever writes says which token it holds; when the lease has run out
and another process has taken the slot, the token is another and nothing is written. So a process that was stopped for
an hour does no harm when it goes on. Knows no clock and no launcher.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, delete, func, select, text, tuple_, union_all, update

from ..jobs.model import JobState, JobVersion, Slot, SlotKind, SlotState
from .database import Store, outlasting_a_restart
from .jobs import intact
from .models import plain_text
from .slots import as_slot, fan_out
from .tables import JobRow, ProcessRow, SlotRow, VersionRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_ADMISSION_LOCK = 0x6D6C6F7074  # of PostgreSQL's advisory locks
_ACTIVE = [state.value for state in SlotState if state.is_active]
_KEPT_PROCESSES = 100


@dataclass(frozen=True)
class Lease:
    """A slot that a process may work on.

    Attributes:
        slot: As it stood when it was taken.
        version: What it runs; None: somebody changed it in the database.
        token: What the process must show to write.
    """

    slot: Slot
    version: JobVersion | None
    token: int


@dataclass(frozen=True)
class Crowd:
    """What stands beside a slot that wants to start.

    Attributes:
        job_state: Of its job.
        active: Other slots of the job whose run exists, or may.
        unended: These, and the ones that wait for their next attempt.
        earlier: Whether an earlier slot of the job still waits for its first attempt.
        owner_active: Active slots of the same owner.
        profile_active: Active slots that use each of its profiles.
    """

    job_state: JobState
    active: int
    unended: int
    earlier: bool
    owner_active: int
    profile_active: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Admission:
    """What is to become of a slot that wants to start.

    Attributes:
        state: STARTING, WAITING or SKIPPED.
        message: Why it waits or is skipped.
        wake_time: When to ask again, if it waits.
        replace: Whether the other slots of the job are to make room: they are cancelled.
    """

    state: SlotState
    message: str = ""
    wake_time: datetime | None = None
    replace: bool = False


@dataclass(frozen=True)
class SchedulerProcess:
    """A process of the job scheduler.

    Attributes:
        process_id: Ours.
        host: Its machine.
        pid: Its process there.
        start_time: When it began.
        beat_time: When it was last heard of.
        end_time: When it ended in order, or None.
    """

    process_id: str
    host: str
    pid: int
    start_time: datetime
    beat_time: datetime
    end_time: datetime | None = None


class LeaseStore:
    """The slots of a store, as a scheduler process works on them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @outlasting_a_restart
    def wakeable(self, now: datetime, *, limit: int) -> list[tuple[str, int]]:
        """Ids and tokens of slots to look at: those whose time has come, and those whose lease has run out."""
        query = select(SlotRow.slot_id, SlotRow.token).where(SlotRow.wake_time <= now)
        with self._store.reading() as session:
            found = session.execute(query.order_by(SlotRow.wake_time).limit(limit))
            return [(slot_id, token) for slot_id, token in found]

    def take(self, slot_id: str, token: int, *, process_id: str, now: datetime, until: datetime) -> Lease | None:
        """Take a slot until a moment; None: another process was first, or it has ended."""
        with self._store.writing() as session:
            mine = session.execute(
                update(SlotRow)
                .where(SlotRow.slot_id == slot_id, SlotRow.token == token, SlotRow.wake_time <= now)
                .values(token=token + 1, lease_owner=process_id, wake_time=until)
            )
            if not mine.rowcount:  # type: ignore[attr-defined]
                return None
            query = (
                select(SlotRow, VersionRow, JobRow.name)
                .join(VersionRow, (VersionRow.job_id == SlotRow.job_id) & (VersionRow.number == SlotRow.version))
                .join(JobRow, JobRow.job_id == SlotRow.job_id)
                .where(SlotRow.slot_id == slot_id)
            )
            row, version, job = session.execute(query).one()
            return Lease(as_slot(row, job), intact(version), token + 1)

    def extend(self, leases: Iterable[tuple[str, int]], until: datetime) -> None:
        """Hold leases until a later moment; those that were lost stay lost."""
        with self._store.writing() as session:
            _alone(session)
            for slot_id, token in leases:
                session.execute(
                    update(SlotRow)
                    .where(SlotRow.slot_id == slot_id, SlotRow.token == token, SlotRow.wake_time.is_not(None))
                    .values(wake_time=until)
                )

    def admit(self, lease: Lease, decide: Callable[[Crowd], Admission], now: datetime) -> Slot | None:
        """Let a slot start, wait or be skipped, while nobody else is let in.

        Args:
            lease: Of a waiting slot.
            decide: What is to become of it, given what stands beside it.
            now: The time.

        Returns:
            The slot as it stands then: STARTING with its next attempt, or not; None: the lease was lost.
        """
        with self._store.writing() as session:
            _alone(session)
            row = _held(session, lease)
            if row is None:
                return None
            admission = decide(_crowd(session, row))
            row.message = plain_text(admission.message)
            if admission.state is SlotState.STARTING:
                row.state, row.attempt, row.run_id = SlotState.STARTING.value, row.attempt + 1, None
                row.start_time = row.start_time or now
            elif admission.state is SlotState.SKIPPED:
                _end(session, row, SlotState.SKIPPED, now)
            else:
                row.wake_time, row.lease_owner = admission.wake_time, None
            if admission.replace:
                _make_room(session, row, now)
            session.flush()
            return as_slot(row, lease.slot.job)

    def save(
        self, lease: Lease, *, now: datetime, state: SlotState, wake_time: datetime | None, message: str = "",
        run_id: str | None = None, failures: int | None = None,
    ) -> bool:  # fmt: skip
        """Write how a slot stands, and let go of it. A success makes the slots of the jobs that wait for it.

        A slot that somebody wants cancelled stays so until it has ended.

        Args:
            lease: The lease.
            now: The time.
            state: The slot's new state.
            wake_time: When to look again; not looked at if the state is terminal.
            message: Why.
            run_id: The run of the attempt, if it is known.
            failures: How many attempts failed, if that has changed.

        Returns:
            Whether it was written; False: the lease was lost.
        """
        with self._store.writing() as session:
            if state.is_terminal:
                _alone(session)
            row = _held(session, lease)
            if row is None:
                return False
            asked_to_end = row.state == SlotState.CANCELLING.value and lease.slot.state is not SlotState.CANCELLING
            if message and not asked_to_end:
                row.message = plain_text(message)
            row.run_id = run_id or row.run_id
            row.failures = row.failures if failures is None else failures
            if not state.is_terminal:
                row.state = SlotState.CANCELLING.value if asked_to_end else state.value
                row.wake_time, row.lease_owner = wake_time, None
                return True
            _end(session, row, state, now)
            if state is SlotState.SUCCEEDED:
                told = {"job": lease.slot.job, "slot": row.slot_id, "run": row.run_id}
                fan_out(session, SlotKind.JOB, lease.slot.job, row.slot_id, now, told)
            return True

    def cancel(self, slot_id: str, *, message: str, now: datetime) -> bool:
        """Have a slot end: one that waits is cancelled at once, one that runs is asked to. False: it has ended."""
        with self._store.writing() as session:
            _alone(session)
            row = session.scalars(select(SlotRow).where(SlotRow.slot_id == slot_id).with_for_update()).one_or_none()
            if row is None or SlotState(row.state).is_terminal:
                return False
            _cancel(session, row, message, now)
            return True

    def beat(self, process: SchedulerProcess) -> None:
        """Record that a scheduler process is there, or that it has ended."""
        with self._store.writing() as session:
            session.merge(ProcessRow(**vars(process)))
            if process.beat_time == process.start_time:  # once in its life: forget those that are long gone
                session.flush()
                keep = select(ProcessRow.process_id).order_by(ProcessRow.beat_time.desc()).limit(_KEPT_PROCESSES)
                session.execute(delete(ProcessRow).where(ProcessRow.process_id.not_in(keep)))

    @outlasting_a_restart
    def processes(self, *, limit: int = 20) -> list[SchedulerProcess]:
        """Scheduler processes, those heard of last first."""
        query = select(ProcessRow).order_by(ProcessRow.beat_time.desc()).limit(limit)
        with self._store.reading() as session:
            return [
                SchedulerProcess(row.process_id, row.host, row.pid, row.start_time, row.beat_time, row.end_time)
                for row in session.scalars(query)
            ]


def _alone(session: Session) -> None:
    """Wait until nobody else touches more than one slot: no place is taken twice, and no two wait for each other."""
    Store.hurry(session)
    if session.get_bind().dialect.name == "postgresql":  # who writes to SQLite is alone
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADMISSION_LOCK})


def _held(session: Session, lease: Lease) -> SlotRow | None:
    """The slot's row, if the lease still holds."""
    query = select(SlotRow).where(SlotRow.slot_id == lease.slot.slot_id, SlotRow.token == lease.token)
    row = session.scalars(query.with_for_update()).one_or_none()
    return row if row is not None and row.wake_time is not None else None


def _end(session: Session, row: SlotRow, state: SlotState, now: datetime) -> None:
    row.state, row.wake_time, row.lease_owner, row.end_time = state.value, None, None, now
    session.flush()
    # There may be room now for the one that has waited longest.
    waiting = (
        select(SlotRow.slot_id)
        .where(SlotRow.state == SlotState.WAITING.value, SlotRow.job_id == row.job_id)
        .where(SlotRow.lease_owner.is_(None))
        .order_by(SlotRow.slot_time, SlotRow.slot_id)
        .limit(1)
    )
    session.execute(
        update(SlotRow)
        .where(SlotRow.slot_id == waiting.scalar_subquery(), SlotRow.wake_time > now)
        .values(wake_time=now)
    )


def _cancel(session: Session, row: SlotRow, message: str, now: datetime) -> None:
    row.message = plain_text(message)
    if row.state in (SlotState.WAITING.value, SlotState.RETRYING.value):
        row.token += 1
        _end(session, row, SlotState.CANCELLED, now)
        return
    row.state = SlotState.CANCELLING.value
    if row.lease_owner is None:
        row.wake_time = now


def _make_room(session: Session, row: SlotRow, now: datetime) -> None:
    states = [SlotState.STARTING.value, SlotState.RUNNING.value, SlotState.RETRYING.value]
    others = select(SlotRow).where(SlotRow.job_id == row.job_id, SlotRow.slot_id != row.slot_id)
    for query in (others.where(SlotRow.state.in_(states)), _earlier(row)):
        for other in session.scalars(query.with_for_update()).all():
            _cancel(session, other, f"Replaced by the slot {row.slot_id}.", now)


def _earlier(row: SlotRow) -> Select[Any]:
    """The slots of the job that came before this one and have not been started."""
    return select(SlotRow).where(
        SlotRow.state == SlotState.WAITING.value,
        SlotRow.job_id == row.job_id,
        tuple_(SlotRow.slot_time, SlotRow.slot_id) < (row.slot_time, row.slot_id),
    )


def _crowd(session: Session, row: SlotRow) -> Crowd:
    job_state = session.scalar(select(JobRow.state).where(JobRow.job_id == row.job_id))
    # A question for each state: nearly all slots of a store have ended, and a planner that knows how many states there
    # are, and not how few of the slots are in these, reads the whole table for a list of states.
    columns = select(SlotRow.job_id, SlotRow.owner, SlotRow.profiles).where(SlotRow.slot_id != row.slot_id)
    found = session.execute(union_all(*(columns.where(SlotRow.state == state) for state in _ACTIVE))).all()
    retrying = session.scalar(
        select(func.count()).where(
            SlotRow.state == SlotState.RETRYING.value, SlotRow.job_id == row.job_id, SlotRow.slot_id != row.slot_id
        )
    )
    earlier = session.scalar(_earlier(row).with_only_columns(SlotRow.slot_id).limit(1))
    active = sum(job_id == row.job_id for job_id, _, _ in found)
    return Crowd(
        job_state=JobState(job_state),
        active=active,
        unended=active + (retrying or 0),
        earlier=earlier is not None,
        owner_active=sum(owner == row.owner for _, owner, _ in found),
        profile_active={
            name: sum(f"\n{name}\n" in profiles for _, _, profiles in found)
            for name in row.profiles.split("\n")
            if name
        },
    )
