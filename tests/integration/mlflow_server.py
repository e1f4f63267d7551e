"""A real MLflow server for tests, on SQLite and a directory, on a port of its own; it can be killed and
started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class MLflowServer:
    """A server and its place.

    Attributes:
        directory: Its database, artifacts and log.
        port: The same after a restart.
        password: Of its user `admin`; None: it asks nobody who they are.
        host: The address that it listens on.
    """

    directory: Path
    port: int
    password: str | None = None
    host: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it and return when it answers."""
        environ = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_") and not k.startswith("PYTEST")}
        command = [
            sys.executable, "-m", "mlflow", "server",
            "--backend-store-uri", f"sqlite:///{self.directory / 'mlflow.db'}",
            "--artifacts-destination", str(self.directory / "artifacts"), "--host", self.host,
            "--port", str(self.port), "--workers", "1",
        ]  # fmt: skip
        if self.host != "127.0.0.1":
            command += ["--allowed-hosts", f"{self.host}:*"]
        if self.password is not None:
            settings = self.directory / "auth.ini"
            settings.write_text(
                f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.directory / 'auth.db'}\n"
                f"admin_username = admin\nadmin_password = {self.password}\n"
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
            environ["MLFLOW_AUTH_CONFIG_PATH"] = str(settings)
            environ["MLFLOW_FLASK_SERVER_SECRET_KEY"] = "only-for-tests"
            command += ["--app-name", "basic-auth"]
        environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        self._await_answer()

    def _await_answer(self) -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            time.sleep(0.2)
        self.kill()
        raise RuntimeError((self.directory / "server.log").read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        """End it at once, with its workers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Keep its port open and answer nothing, as a server does that is overloaded."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGCONT)


@contextlib.contextmanager
def mlflow_server(
    directory: Path, *, password: str | None = None, database: Path | None = None, host: str = "127.0.0.1"
) -> Iterator[MLflowServer]:
    """A running MLflow server.

    Args:
        directory: For its files; made if it is not there.
        password: Of the user `admin`; with it the server asks who one is.
        host: The address that it listens on.
        database: A prepared MLflow database to begin with a copy of, which saves the seconds of making one.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if database is not None:
        shutil.copy(database, directory / "mlflow.db")
    server = MLflowServer(directory, free_port(host), password, host)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
