"""The table of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(64), primary_key=True),
        sa.Column("run_key", sa.String(255), unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("snapshot_id", sa.String(64), nullable=False),
        sa.Column("profile", sa.String(63), nullable=False),
        sa.Column("runner", sa.String(63), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("experiment", sa.Text, nullable=False),
        sa.Column("tracking_uri", sa.Text, nullable=False),
        sa.Column("mlflow_run_id", sa.String(64)),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("code", sa.String(32)),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("retry_of", sa.String(64)),
        sa.Column("create_time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start_time", sa.DateTime(timezone=True)),
        sa.Column("end_time", sa.DateTime(timezone=True)),
    )
    op.create_index("ix_runs_create_time", "runs", ["create_time"])
    op.create_index("ix_runs_state_create_time", "runs", ["state", "create_time"])
    op.create_index("ix_runs_source_create_time", "runs", ["source", "create_time"])


def downgrade() -> None:
    op.drop_table("runs")
