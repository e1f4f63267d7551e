"""Brings the store's schema to the newest version with Alembic; loaded only when there is something to do."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from ..errors import StoreError

_LOCK = 0x6D6C6F7073  # "mlops": PostgreSQL's advisory lock, so that two upgrades do not meet


def upgrade(engine: Engine, *, shown: str) -> None:
    """Run the missing migrations in one transaction.

    Args:
        engine: The store's.
        shown: The store's URL without its password, for messages.

    Raises:
        StoreError: a newer version of jupyter-mlops wrote the store.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    with engine.execution_options(write=True).begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        known = {revision.revision for revision in script.walk_revisions()}
        if current is not None and current not in known:
            raise StoreError(
                f"The store {shown} was written by a newer version of jupyter-mlops (schema {current}).",
                hint="Upgrade jupyter-mlops here: pip install --upgrade jupyter-mlops",
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
