"""One connection to MLflow: its client, each call bounded in time, each failure one sentence.

An SQLite store is made here when it is not there yet: complete or not at all, whatever number of processes
want it at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import TrackingError
from . import trouble
from .address import absolute_uri, artifact_root, is_file_store, sqlite_path
from .patience import within
from .server import check_tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

_MAKING_TAKES = 180.0
"""Seconds that another process may need to make the database; it takes four on an idle laptop."""

_NOISY = ("mlflow", "alembic")
_quiet_lock = threading.Lock()
_quiet_depth = 0
_levels: dict[str, int] = {}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps MLflow and Alembic from logging: what matters is raised, and the rest is their own business."""
    import mlflow  # noqa: F401 - its import sets the level of its logger, so it must have happened before

    global _quiet_depth  # noqa: PLW0603 - a logger's level is global, so is how many want it changed
    with _quiet_lock:
        _quiet_depth += 1
        if _quiet_depth == 1:
            for name in _NOISY:
                logger = logging.getLogger(name)
                _levels[name] = logger.level
                logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                for name, level in _levels.items():
                    logging.getLogger(name).setLevel(level)


class Connection:
    """MLflow's client, for calls that may take `wait` seconds each.

    Args:
        uri: MLflow's address, with credentials if it has them.
        wait: Seconds that one call may take.

    Attributes:
        uri: The address, valid from every working directory.
        client: MLflow's client; use it inside `do` only.
    """

    def __init__(self, uri: str, wait: float) -> None:
        self.uri = absolute_uri(uri)
        self._wait = max(wait, 1.0)
        # A file on this machine answers at once or waits for a lock that it bounds by itself.
        self._local = sqlite_path(self.uri) is not None or is_file_store(self.uri)
        with quiet():
            import mlflow

        self.client: Any = self.do(lambda: mlflow.MlflowClient(self.uri))

    def do(self, call: Callable[[], T], *, allowance: float = 0.0) -> T:
        """The result of a call to MLflow.

        Args:
            call: Uses `client`.
            allowance: Seconds on top of the usual, for what is large.

        Raises:
            TrackingError: whatever went wrong.
        """
        wait = self._wait + allowance
        try:
            with quiet():
                return call() if self._local else within(wait, call)
        except TimeoutError as error:
            check_tracking(self.uri, min(self._wait, 3.0))  # tells more than that it took too long
            raise trouble.explain(error, self.uri, waited=wait) from None
        except Exception as error:
            raise trouble.explain(error, self.uri, waited=wait) from error


def connect(uri: str, wait: float) -> Connection:
    """A connection to an MLflow that answers; an SQLite store that is missing is made.

    Args:
        uri: MLflow's address, with credentials if it has them.
        wait: Seconds to wait for it, now and in each later call.

    Raises:
        TrackingError: it is away, refuses, or its files cannot be written.
    """
    uri = absolute_uri(uri)
    check_tracking(uri, wait)
    path = sqlite_path(uri)
    if path is not None:
        ensure_database(path)
    return Connection(uri, wait)


def ensure_database(path: Path) -> None:
    """Make MLflow's SQLite database if it is not there yet, with its artifacts in `mlartifacts` beside it.

    It is made under another name and then linked to its own, so nobody ever sees it unfinished.

    Args:
        path: The database's file.

    Raises:
        TrackingError: it cannot be written.
    """
    if _is_made(path):
        return
    uri = f"sqlite:///{path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _one_process(path.with_name(path.name + ".lock")):
            if not _is_made(path):
                _make(path)
    except Exception as error:
        raise trouble.explain(error, uri) from error


def _is_made(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def _make(path: Path) -> None:
    unfinished = path.with_name(f"{path.name}.making")
    for leftover in (unfinished, unfinished.with_name(unfinished.name + "-journal")):
        leftover.unlink(missing_ok=True)
    unfinished.touch(mode=0o600)  # parameters and tags are nobody else's business
    with quiet():
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with _written_later(unfinished):
            store = SqlAlchemyStore(f"sqlite:///{unfinished}", artifact_root(path).as_uri())
            store.engine.dispose()
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    if path.exists():  # empty: someone opened it without writing
        path.unlink()
    try:
        os.link(unfinished, path)
        unfinished.unlink()
    except FileExistsError:
        unfinished.unlink()
    except OSError:  # no hard links on this file system
        unfinished.replace(path)


@contextlib.contextmanager
def _written_later(database: Path) -> Iterator[None]:
    """Keeps SQLite from waiting for the disk at each of MLflow's hundreds of steps; who makes it syncs it once."""
    from sqlalchemy import Engine, event

    def connected(connection: Any, _record: Any) -> None:
        # Other threads may connect to other databases meanwhile.
        if isinstance(connection, sqlite3.Connection):
            files = [row[2] for row in connection.execute("PRAGMA database_list")]
            if any(file and database.samefile(file) for file in files):
                connection.execute("PRAGMA synchronous=OFF")
                connection.execute("PRAGMA journal_mode=MEMORY")

    event.listen(Engine, "connect", connected)
    try:
        yield
    finally:
        event.remove(Engine, "connect", connected)


@contextlib.contextmanager
def _one_process(lock: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows; the link at the end still lets only one win
        yield
        return
    with lock.open("w") as file:
        deadline = time.monotonic() + _MAKING_TAKES
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise TrackingError(
                        f"Another process has been making MLflow's database {lock.stem} for too long.",
                        hint=f"If none is, remove {lock}.",
                    ) from error
                time.sleep(0.1)
        yield
