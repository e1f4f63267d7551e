"""Opens the store (SQLite or PostgreSQL), brings its schema up to date, and answers questions about runs.

Jobs, slots and the audit log have modules of their own, which use the sessions of this one. May not know runners, files
of runs, or MLflow. Everything that is asked of it may be done twice: so what met a server
that was just being restarted is done again.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event, or_, select, text, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from ..errors import NotFoundError, StoreError
from ..spec import RunSpec, RunState
from .models import RunRecord, RunRow, plain_text, record_from_row, row_from_spec

if TYPE_CHECKING:
    from .audit import AuditEntry

F = TypeVar("F", bound=Callable[..., Any])

SCHEMA_HEAD = "0003"
"""The newest migration; a test holds it against the files in `migrations/versions`."""

_BUSY_TIMEOUT = 30.0
"""Seconds that a writer waits for another on SQLite, unless the URL says `?timeout=`."""
_RESTART_TIMEOUT = 30.0
"""Seconds in which a database server that was there is expected back."""
_CONNECT_TIMEOUT = 10
"""Seconds for a connection to a database server: without a limit a firewall that drops packets costs minutes."""
AWAY = "store_away"


def outlasting_a_restart(method: F) -> F:
    """Do a question to the store again while its server is being restarted; it must be one that may come twice."""

    @functools.wraps(method)
    def ask(*args: Any, **kwargs: Any) -> Any:
        deadline = time.monotonic() + _RESTART_TIMEOUT
        while True:
            try:
                return method(*args, **kwargs)
            except StoreError as error:
                if error.code != AWAY or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    return cast("F", ask)


class Store:
    """Runs, in one database.

    Args:
        url: SQLAlchemy URL; its password is never shown.

    Raises:
        StoreError: it cannot be opened, or a newer version wrote it.
    """

    def __init__(self, url: str) -> None:
        self._url = _parsed(url)
        self._shown = self._url.render_as_string(hide_password=True)
        self._engine = _engine(self._url)
        with self._errors():
            self._migrate()

    def close(self) -> None:
        """Give back the connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self, *, one_moment: bool = False) -> Iterator[Session]:
        """A session that reads; with `one_moment` everything in it is of the same moment.

        Raises:
            StoreError: the store fails.
        """
        engine = self._engine
        if one_moment and engine.dialect.name == "postgresql":  # SQLite's transactions are so anyway
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self._errors(), Session(engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that writes, and is committed at its end; on SQLite nobody else writes meanwhile.

        Raises:
            StoreError: the store fails.
        """
        with self._errors(), self._write() as session:
            yield session

    @staticmethod
    def hurry(session: Session) -> None:
        """Say that a session is about to hold what every other writer waits for.

        A process that is stopped in the middle, with its machine for instance, would hold it for hours: PostgreSQL ends
        its transaction after a minute. On SQLite nothing helps but to end the process.
        """
        if session.get_bind().dialect.name == "postgresql":
            session.execute(text("SELECT set_config('idle_in_transaction_session_timeout', '60s', true)"))

    @outlasting_a_restart
    def add_run(self, spec: RunSpec, *, entry: AuditEntry | None = None) -> RunRecord:
        """Record an accepted run.

        A second call with the same `run_id`, or with a `run_key` that is taken, adds nothing and gives the record
        that is there.

        Args:
            spec: The run.
            entry: What the audit log says of it: both are recorded, or neither is.
        """
        from .audit import append

        with self._errors():
            try:
                with self._write() as session:
                    session.add(row_from_spec(spec))
                    session.flush()
                    if entry is not None:
                        append(session, entry)
            except IntegrityError:
                with self._read() as session:
                    query = select(RunRow).where(
                        (RunRow.run_id == spec.run_id)
                        | ((RunRow.run_key == plain_text(spec.run_key)) & (RunRow.run_key.is_not(None)))
                    )
                    return record_from_row(session.scalars(query).one())
            return self.run(spec.run_id)

    @outlasting_a_restart
    def update_run(self, run_id: str, **fields: Any) -> bool:
        """Set fields of a run that has not ended; what has ended stays as it is.

        Args:
            run_id: The whole id.
            **fields: Columns of `RunRow`; enums are stored by their value.

        Returns:
            Whether something was changed.
        """
        values = {key: plain_text(getattr(value, "value", value)) for key, value in fields.items()}
        ended = [state.value for state in RunState if state.is_terminal]
        with self._errors(), self._write() as session:
            done = session.execute(
                update(RunRow).where(RunRow.run_id == run_id, RunRow.state.not_in(ended)).values(**values)
            )
            return bool(done.rowcount)  # type: ignore[attr-defined]

    @outlasting_a_restart
    def run(self, name: str) -> RunRecord:
        """The run of that id, unique prefix, or `@last`.

        Raises:
            NotFoundError: there is none, or several fit.
        """
        name = plain_text(name)
        with self._errors(), self._read() as session:
            whole = session.get(RunRow, name)
            if whole is not None:  # the common case by far, and the only one that no number of runs makes slow
                return record_from_row(whole)
            query = select(RunRow).order_by(RunRow.create_time.desc(), RunRow.run_id).limit(2)
            if name != "@last":
                query = query.where(RunRow.run_id.startswith(name, autoescape=True))
            found = [record_from_row(row) for row in session.scalars(query)] if name else []
        if len(found) == 1 or (found and name == "@last"):
            return found[0]
        if found:
            raise NotFoundError(f"More than one run begins with '{name}'.", hint="Write more of its id.")
        what = "There is no run yet." if name == "@last" else f"There is no run '{name}'."
        raise NotFoundError(what, hint="`jupyter mlops runs` lists the runs.")

    @outlasting_a_restart
    def run_with_key(self, run_key: str) -> RunRecord | None:
        """The run that was submitted with this key, or None."""
        with self._errors(), self._read() as session:
            row = session.scalars(select(RunRow).where(RunRow.run_key == plain_text(run_key))).one_or_none()
            return record_from_row(row) if row is not None else None

    @outlasting_a_restart
    def runs(
        self,
        *,
        states: Sequence[RunState] = (),
        source: str | None = None,
        owner: str | None = None,
        name: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        before: datetime | None = None,
    ) -> list[RunRecord]:
        """Runs, newest first.

        Args:
            states: Only these; empty: all.
            source: Only runs of this notebook: its whole path, or its last parts.
            owner: Only this person's.
            name: Only runs of this name.
            since: Created at or after this moment.
            limit: At most so many.
            before: Created before this moment: the `create_time` of the last of the page before.
        """
        query = select(RunRow).order_by(RunRow.create_time.desc(), RunRow.run_id).limit(limit)
        if source is not None:
            wanted = plain_text(source)
            query = query.where(
                or_(RunRow.source == wanted, RunRow.source.endswith(f"/{wanted.lstrip('/')}", autoescape=True))
            )
        if owner is not None:
            query = query.where(RunRow.owner == plain_text(owner))
        if name is not None:
            query = query.where(RunRow.name == plain_text(name))
        if since is not None:
            query = query.where(RunRow.create_time >= since)
        if before is not None:
            query = query.where(RunRow.create_time < before)
        # A question for each state: for a list of them a planner may read every run there is.
        queries = [query.where(RunRow.state == state.value) for state in dict.fromkeys(states)] or [query]
        with self._errors(), self._read() as session:
            found = [record_from_row(row) for one in queries for row in session.scalars(one)]
        return sorted(found, key=lambda record: (-record.create_time.timestamp(), record.run_id))[:limit]

    @contextmanager
    def _read(self) -> Iterator[Session]:
        with Session(self._engine) as session:
            yield session

    @contextmanager
    def _write(self) -> Iterator[Session]:
        # A write says so at its start: a read that turns into a write can fail on SQLite without waiting its turn.
        with Session(self._engine.execution_options(write=True), expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._explained(error) from error
        except SQLAlchemyError as error:
            raise StoreError(f"The store {self._shown} failed: {type(error).__name__}.") from error

    def _explained(self, error: DBAPIError) -> StoreError:
        reason = next(iter(str(error.orig or error).strip().splitlines()), type(error).__name__)
        if "locked" in reason:
            waited = float(str(self._url.query.get("timeout", _BUSY_TIMEOUT)))
            return StoreError(
                f"The store {self._shown} is locked by another process for over {waited:g} s.",
                hint="End the process that holds it, or use PostgreSQL when several machines share one store.",
            )
        if "full" in reason or "No space left" in reason:
            return StoreError(
                f"The disk of the store {self._shown} is full.", hint="Free some space.", code="disk_full"
            )
        hint = "Check c.MLOps.store_url, the database server, and the rights on the file."
        if self._is_away(error):
            return StoreError(f"The store {self._shown} does not answer: {reason}.", hint=hint, code=AWAY)
        return StoreError(f"The store {self._shown} failed: {reason}.", hint=hint)

    def _is_away(self, error: DBAPIError) -> bool:
        if self._url.get_backend_name() == "sqlite":
            return False
        state = getattr(error.orig, "sqlstate", None) or ""
        # 08: the connection; 57P: the server is shut down or starts; no state: there was no connection at all.
        return error.connection_invalidated or (
            isinstance(error, OperationalError) and (not state or state.startswith(("08", "57P")))
        )

    def _migrate(self) -> None:
        if _version(self._engine) == SCHEMA_HEAD:
            return
        from .migrate import upgrade

        upgrade(self._engine, shown=self._shown)


def _version(engine: Engine) -> str | None:
    with engine.connect() as connection:
        if not engine.dialect.has_table(connection, "alembic_version"):
            return None
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        return str(found) if found is not None else None


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        # SQLAlchemy's own message repeats the whole of it, which may hold a password.
        raise StoreError("The store's URL is no URL of a database.", hint="Check c.MLOps.store_url.") from error
    if parsed.drivername in ("postgresql", "postgres"):
        # Which driver SQLAlchemy would take by itself changed between its versions; this is the one of our extra.
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def _engine(url: URL) -> Engine:
    try:
        if url.get_backend_name() != "sqlite":
            options: dict[str, Any] = {}
            if url.drivername == "postgresql+psycopg":
                limits: dict[str, Any] = {
                    "connect_timeout": _CONNECT_TIMEOUT,
                    # A server whose machine is gone without a word is noticed in a minute and not in two hours.
                    "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3,
                }  # fmt: skip
                options["connect_args"] = {key: value for key, value in limits.items() if key not in url.query}
            return create_engine(url, pool_pre_ping=True, **options)
        if url.database and url.database != ":memory:":
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={} if "timeout" in url.query else {"timeout": _BUSY_TIMEOUT})
    except ModuleNotFoundError as error:
        raise StoreError(
            f"The driver '{error.name}' of the store is not installed.", hint="pip install 'jupyter-mlops[postgresql]'"
        ) from error
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(f"The store's URL cannot be used: {error}.", hint="Check c.MLOps.store_url.") from error

    @event.listens_for(engine, "connect")
    def _connected(dbapi_connection: Any, _record: Any) -> None:
        # SQLAlchemy's own recipe for SQLite: the driver's implicit transactions off, ours are stated below.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine
