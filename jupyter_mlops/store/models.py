"""Tables of the store, and the values that come out of it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict
from sqlalchemy import DateTime, Dialect, Index, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ..spec import FailureCode, RunSpec, RunState

T = TypeVar("T")


class UTCDateTime(TypeDecorator[datetime]):
    """A moment: aware and UTC on both sides, although SQLite keeps no zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        return value.astimezone(timezone.utc) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


class Base(DeclarativeBase):
    """What the migrations are checked against."""


class RunRow(Base):
    """One accepted run."""

    __tablename__ = "runs"

    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    run_key: Mapped[str | None] = mapped_column(String(255), unique=True)
    name: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    snapshot_id: Mapped[str] = mapped_column(String(64))
    profile: Mapped[str] = mapped_column(String(63))
    runner: Mapped[str] = mapped_column(String(63))
    owner: Mapped[str] = mapped_column(String(255))
    experiment: Mapped[str] = mapped_column(Text)
    tracking_uri: Mapped[str] = mapped_column(Text)
    mlflow_run_id: Mapped[str | None] = mapped_column(String(64))
    # Text, not JSON: PostgreSQL's JSON takes neither nan nor NUL, parameters may hold both.
    parameters: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    code: Mapped[str | None] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(Text, default="")
    retry_of: Mapped[str | None] = mapped_column(String(64))
    create_time: Mapped[datetime] = mapped_column(UTCDateTime)
    start_time: Mapped[datetime | None] = mapped_column(UTCDateTime)
    end_time: Mapped[datetime | None] = mapped_column(UTCDateTime)

    __table_args__ = (
        Index("ix_runs_create_time", "create_time"),
        Index("ix_runs_state_create_time", "state", "create_time"),
        Index("ix_runs_source_create_time", "source", "create_time"),
    )


class RunRecord(BaseModel):
    """A run as the store knows it; the fields of `RunSpec` keep their meaning."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    run_key: str | None = None
    name: str
    source: str
    snapshot_id: str
    profile: str
    runner: str
    owner: str
    experiment: str
    tracking_uri: str
    mlflow_run_id: str | None = None
    parameters: dict[str, Any]
    state: RunState
    code: FailureCode | None = None
    message: str = ""
    retry_of: str | None = None
    create_time: datetime
    start_time: datetime | None = None
    end_time: datetime | None = None

    @property
    def duration(self) -> float | None:
        """Seconds from start to end, to now while it runs, None before it started."""
        if self.start_time is None:
            return None
        return ((self.end_time or datetime.now(timezone.utc)) - self.start_time).total_seconds()

    def as_dict(self) -> dict[str, Any]:
        """The record as `--json` prints it: times in ISO 8601, UTC."""
        data = self.model_dump()
        for key in ("create_time", "start_time", "end_time"):
            data[key] = data[key].isoformat() if data[key] else None
        data["state"] = self.state.value
        data["code"] = self.code.value if self.code else None
        data["duration"] = self.duration
        return data


def row_from_spec(spec: RunSpec) -> RunRow:
    """The row of a run that was just accepted."""
    return RunRow(
        run_id=spec.run_id,
        run_key=plain_text(spec.run_key),
        name=plain_text(spec.name),
        source=plain_text(spec.source),
        snapshot_id=spec.snapshot_id,
        profile=spec.profile.name,
        runner=spec.profile.runner,
        owner=plain_text(spec.owner),
        experiment=plain_text(spec.experiment),
        tracking_uri=plain_text(spec.tracking_uri),
        parameters=json.dumps(spec.parameters),
        state=RunState.PENDING.value,
        message="",
        retry_of=spec.retry_of,
        create_time=spec.create_time,
    )


def record_from_row(row: RunRow) -> RunRecord:
    """The value that leaves the store."""
    data = {column.name: getattr(row, column.name) for column in RunRow.__table__.columns}
    data["parameters"] = json.loads(data["parameters"])
    return RunRecord.model_validate(data)


def plain_text(value: T) -> T:
    """Text as every database takes it; what is no text comes back as it is.

    PostgreSQL refuses NUL, and half of a surrogate pair (from a file name that is no UTF-8) is no UTF-8 either.
    """
    if not isinstance(value, str):
        return value
    return value.replace("\x00", "\N{SYMBOL FOR NULL}").encode("utf-8", "replace").decode("utf-8")  # type: ignore[return-value]
