"""Alembic's entry: the connection comes from `store.migrate`, or from `alembic` run by a developer."""

from alembic import context

from jupyter_mlops.store.models import Base

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, render_as_batch=True)
context.run_migrations()
