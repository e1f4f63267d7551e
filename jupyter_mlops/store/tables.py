"""The tables of jobs, their slots and the audit log; `models` has those of runs and what all tables share.

Text, not JSON, for what holds parameters: PostgreSQL's JSON takes neither nan nor NUL.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from .models import Base, UTCDateTime


class JobRow(Base):
    """One job."""

    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    owner: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    live_version: Mapped[int | None] = mapped_column(Integer)
    # Set exactly while the scheduler has something to do at that moment: active, live, fired by us, not triggers only.
    next_time: Mapped[datetime | None] = mapped_column(UTCDateTime)
    create_time: Mapped[datetime] = mapped_column(UTCDateTime)

    __table_args__ = (Index("ix_jobs_next_time", "next_time"), Index("ix_jobs_owner_name", "owner", "name"))


class VersionRow(Base):
    """One version of a job; `state` and `live_time` may change, the rest never."""

    __tablename__ = "job_versions"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64))
    content: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime] = mapped_column(UTCDateTime)
    live_time: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (Index("ix_job_versions_state", "state", "create_time"),)


class GateResultRow(Base):
    """How a gate was judged."""

    __tablename__ = "gate_results"

    result_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    version: Mapped[int] = mapped_column(Integer)
    content: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("ix_gate_results_version", "job_id", "version"),)


class ApprovalRow(Base):
    """What somebody said about a version."""

    __tablename__ = "approvals"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    who: Mapped[str] = mapped_column(String(255), primary_key=True)
    approved: Mapped[bool] = mapped_column(Boolean)
    comment: Mapped[str] = mapped_column(Text)
    create_time: Mapped[datetime] = mapped_column(UTCDateTime)


class SlotRow(Base):
    """One slot. The unique key is what makes it fire once; `wake_time` and `token` say who may touch it and when."""

    __tablename__ = "slots"

    slot_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"))
    version: Mapped[int] = mapped_column(Integer)
    key: Mapped[str] = mapped_column(String(200))
    kind: Mapped[str] = mapped_column(String(16))
    slot_time: Mapped[datetime] = mapped_column(UTCDateTime)
    state: Mapped[str] = mapped_column(String(16))
    attempt: Mapped[int] = mapped_column(Integer, default=0)
    failures: Mapped[int] = mapped_column(Integer, default=0)
    run_id: Mapped[str | None] = mapped_column(String(64))
    owner: Mapped[str] = mapped_column(String(255))
    # The names of its steps' profiles, each between line feeds: a limit counts the slots that use a profile.
    profiles: Mapped[str] = mapped_column(Text)
    message: Mapped[str] = mapped_column(Text, default="")
    payload: Mapped[str] = mapped_column(Text, default="{}")
    # When a scheduler is to look at it next; None once it has ended. A lease is a wake time in the future.
    wake_time: Mapped[datetime | None] = mapped_column(UTCDateTime)
    lease_owner: Mapped[str | None] = mapped_column(String(64))
    token: Mapped[int] = mapped_column(Integer, default=0)
    create_time: Mapped[datetime] = mapped_column(UTCDateTime)
    start_time: Mapped[datetime | None] = mapped_column(UTCDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        UniqueConstraint("job_id", "key", name="uq_slots_job_key"),
        Index("ix_slots_wake_time", "wake_time"),
        Index("ix_slots_slot_time", "slot_time", "slot_id"),
        Index("ix_slots_job_slot_time", "job_id", "slot_time", "slot_id"),
        Index("ix_slots_state_slot_time", "state", "slot_time", "slot_id"),
        Index("ix_slots_state_job", "state", "job_id", "slot_time", "slot_id"),
    )


class WatchRow(Base):
    """A trigger of a live version."""

    __tablename__ = "watches"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    trigger_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    # What is looked up when something happens: the other job's name, the event's name, the job's own for a webhook.
    source: Mapped[str] = mapped_column(String(255))
    content: Mapped[str] = mapped_column(Text)
    # When the trigger went live: what had changed before then is not new.
    since: Mapped[datetime] = mapped_column(UTCDateTime)
    # Whether what was there then has been noted as seen.
    armed: Mapped[bool] = mapped_column(Boolean, default=False)
    message: Mapped[str] = mapped_column(Text, default="")
    wake_time: Mapped[datetime | None] = mapped_column(UTCDateTime)
    token: Mapped[int] = mapped_column(Integer, default=0)

    __table_args__ = (
        Index("ix_watches_wake_time", "wake_time"),
        Index("ix_watches_kind_source", "kind", "source"),
    )


class SeenRow(Base):
    """An object that a file trigger has seen."""

    __tablename__ = "seen_objects"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    object_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    seen_time: Mapped[datetime] = mapped_column(UTCDateTime)


class ProcessRow(Base):
    """A process of the job scheduler."""

    __tablename__ = "scheduler_processes"

    process_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int] = mapped_column(Integer)
    start_time: Mapped[datetime] = mapped_column(UTCDateTime)
    beat_time: Mapped[datetime] = mapped_column(UTCDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (Index("ix_scheduler_processes_beat_time", "beat_time"),)


class AuditRow(Base):
    """One entry of the audit log; the database itself refuses to change or delete it."""

    __tablename__ = "audit"

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    time: Mapped[datetime] = mapped_column(UTCDateTime)
    who: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    process: Mapped[int] = mapped_column(BigInteger)
    front: Mapped[str] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(64))
    object: Mapped[str] = mapped_column(Text)
    details: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AuditHeadRow(Base):
    """How many entries the audit log has, and the hash of the last: what is cut off at the end shows."""

    __tablename__ = "audit_head"

    head_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    count: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(String(64))
