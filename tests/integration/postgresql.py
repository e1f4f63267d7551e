"""A real PostgreSQL for tests: a cluster of its own in a temporary directory, on a port of 127.0.0.1, run by a user
without rights; it can be stopped, killed and started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .mlflow_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


@dataclass
class PostgreSQL:
    """A server and its cluster.

    Attributes:
        programs: Where `initdb` and `pg_ctl` are.
        directory: Its data, socket and log; belongs to the user that runs it.
        user: That user's name, or None: whoever runs the tests.
    """

    programs: Path
    directory: Path
    user: str | None
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(8), repr=False)

    def make(self) -> None:
        """Make the cluster."""
        secret = self.directory / "password"
        secret.write_text(self.password)
        if self.user is not None:
            shutil.chown(secret, self.user)
        self._run(
            "initdb", "-D", str(self._data), "-U", "mlops", "--auth=scram-sha-256", f"--pwfile={secret}",
            "--encoding=UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip
        with (self._data / "postgresql.conf").open("a") as conf:
            conf.write(
                f"\nlisten_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = '{self.directory}'\n"
                "fsync = off\nmax_connections = 60\nshared_buffers = 16MB\n"
            )

    def start(self) -> None:
        """Start it and return when it answers."""
        self._run("pg_ctl", "-D", str(self._data), "-l", str(self.directory / "log"), "-w", "-t", "120", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it; "immediate" breaks off in the middle, as a crash does."""
        self._run("pg_ctl", "-D", str(self._data), "-m", mode, "-w", "-t", "120", "stop")

    def kill(self) -> None:
        """Kill the server's first process; the others notice."""
        lock = self._data / "postmaster.pid"
        os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)
        deadline = time.monotonic() + 120
        # Its shared memory is free again when the last of its processes is gone; then it can be started.
        while time.monotonic() < deadline:
            with contextlib.suppress(subprocess.CalledProcessError):
                self.start()
                return
            time.sleep(0.5)
        raise RuntimeError((self.directory / "log").read_text(errors="replace")[-4000:])

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement as the superuser."""
        import psycopg

        with psycopg.connect(self.plain_url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"store_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        return self.plain_url(name)

    def plain_url(self, database: str) -> str:
        return f"postgresql://mlops:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _run(self, program: str, *arguments: str) -> None:
        environ = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.directory)}
        with (self.directory / "commands.log").open("ab") as log:
            subprocess.run(
                [str(self.programs / program), *arguments],
                check=True, user=self.user, env=environ, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, timeout=300,
            )  # fmt: skip


def _programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    places = [place for pattern in _PLACES for place in Path("/").glob(pattern.lstrip("/"))]
    with_server = [place for place in places if (place / "initdb").exists() and (place / "postgres").exists()]
    return max(with_server, key=lambda place: place.parent.name, default=None)


def _user() -> str | None:
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A running server; without one installed the test is skipped, or fails where CI is set in the environment."""
    programs = _programs()
    if programs is None:
        reason = "no PostgreSQL server on this machine: sh tests/postgresql.sh says how to get one"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    # Not in pytest's own directory: the user that runs the server may not pass through it.
    directory = Path(tempfile.mkdtemp(prefix="mlops-pg-"))
    user = _user()
    if user is not None:
        shutil.chown(directory, user)
    server = PostgreSQL(programs, directory, user)
    try:
        server.make()
        server.start()
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            server.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)
