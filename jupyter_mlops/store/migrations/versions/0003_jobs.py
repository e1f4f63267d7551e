"""Jobs, their versions, gates and approvals; slots, triggers and the processes of the scheduler."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _moment(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _job() -> sa.Column[Any]:
    return sa.Column("job_id", sa.String(64), sa.ForeignKey("jobs.job_id"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(63), nullable=False, unique=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("live_version", sa.Integer),
        _moment("next_time", nullable=True),
        _moment("create_time"),
    )
    op.create_index("ix_jobs_next_time", "jobs", ["next_time"])
    op.create_index("ix_jobs_owner_name", "jobs", ["owner", "name"])
    op.create_table(
        "job_versions",
        _job(),
        sa.Column("number", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        _moment("create_time"),
        _moment("live_time", nullable=True),
        sa.PrimaryKeyConstraint("job_id", "number"),
    )
    op.create_index("ix_job_versions_state", "job_versions", ["state", "create_time"])
    op.create_table(
        "gate_results",
        sa.Column("result_id", sa.Integer, primary_key=True),
        _job(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_index("ix_gate_results_version", "gate_results", ["job_id", "version"])
    op.create_table(
        "approvals",
        _job(),
        sa.Column("version", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("who", sa.String(255), nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        _moment("create_time"),
        sa.PrimaryKeyConstraint("job_id", "version", "who"),
    )
    op.create_table(
        "slots",
        sa.Column("slot_id", sa.String(64), primary_key=True),
        _job(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("key", sa.String(200), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        _moment("slot_time"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("run_id", sa.String(64)),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("profiles", sa.Text, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        _moment("wake_time", nullable=True),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("token", sa.Integer, nullable=False),
        _moment("create_time"),
        _moment("start_time", nullable=True),
        _moment("end_time", nullable=True),
        sa.UniqueConstraint("job_id", "key", name="uq_slots_job_key"),
    )
    op.create_index("ix_slots_wake_time", "slots", ["wake_time"])
    op.create_index("ix_slots_slot_time", "slots", ["slot_time", "slot_id"])
    op.create_index("ix_slots_job_slot_time", "slots", ["job_id", "slot_time", "slot_id"])
    op.create_index("ix_slots_state_slot_time", "slots", ["state", "slot_time", "slot_id"])
    op.create_index("ix_slots_state_job", "slots", ["state", "job_id", "slot_time", "slot_id"])
    op.create_table(
        "watches",
        _job(),
        sa.Column("trigger_key", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        _moment("since"),
        sa.Column("armed", sa.Boolean, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        _moment("wake_time", nullable=True),
        sa.Column("token", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "trigger_key"),
    )
    op.create_index("ix_watches_wake_time", "watches", ["wake_time"])
    op.create_index("ix_watches_kind_source", "watches", ["kind", "source"])
    op.create_table(
        "seen_objects",
        _job(),
        sa.Column("object_key", sa.String(64), nullable=False),
        _moment("seen_time"),
        sa.PrimaryKeyConstraint("job_id", "object_key"),
    )
    op.create_table(
        "scheduler_processes",
        sa.Column("process_id", sa.String(64), primary_key=True),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        _moment("start_time"),
        _moment("beat_time"),
        _moment("end_time", nullable=True),
    )
    op.create_index("ix_scheduler_processes_beat_time", "scheduler_processes", ["beat_time"])


def downgrade() -> None:
    for name in (
        "scheduler_processes", "seen_objects", "watches", "slots", "approvals", "gate_results", "job_versions", "jobs",
    ):  # fmt: skip
        op.drop_table(name)
