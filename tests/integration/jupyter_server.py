"""A real Jupyter server on this machine with real kernels, for the tests that are about what a kernel is told.

`running_server` starts one with directories of its own; `JupyterServer` opens notebooks and executes code through the
REST interface and the websocket that JupyterLab uses.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

PATIENCE = 120
"""Seconds for a server or a kernel on a slow machine."""


@dataclass(frozen=True)
class JupyterServer:
    """A running server.

    Attributes:
        url: Its address with its prefix, without a slash at the end.
        token: What it asks for; empty: nothing.
        root: The directory that it serves.
    """

    url: str
    token: str
    root: Path

    @property
    def headers(self) -> dict[str, str]:
        """What opens it."""
        return {"Authorization": f"token {self.token}"} if self.token else {}

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Call the REST interface; `path` begins after `/api/` and is quoted already."""
        request = urllib.request.Request(
            f"{self.url}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={**self.headers, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            content = response.read()
        return json.loads(content) if content else None

    def save(self, path: str, nb: Mapping[str, Any]) -> None:
        """Save a notebook as JupyterLab does."""
        self.request("PUT", f"contents/{quote(path)}", {"type": "notebook", "format": "json", "content": nb})

    def open(self, path: str, *, kernel: str | None = None, kind: str = "notebook") -> dict[str, Any]:
        """Open a session, with a kernel of its own if none is given, as JupyterLab does for a notebook."""
        which = {"name": "python3"} if kernel is None else {"id": kernel}
        name = path.rpartition("/")[2]
        session: dict[str, Any] = self.request(
            "POST", "sessions", {"path": path, "name": name, "type": kind, "kernel": which}
        )
        return session

    def end_kernels(self) -> None:
        """Shut every kernel down; their sessions go with them."""
        for kernel in self.request("GET", "kernels"):
            self.request("DELETE", f"kernels/{kernel['id']}")

    def execute(self, session: Mapping[str, Any], code: str) -> str:
        """What the code prints in the kernel of a session, errors included."""
        from websocket import create_connection

        connection = create_connection(
            f"ws{self.url.removeprefix('http')}/api/kernels/{session['kernel']['id']}/channels",
            header=self.headers,
            timeout=PATIENCE,
            http_no_proxy=["*"],
        )
        message_id = uuid.uuid4().hex
        header = {"msg_id": message_id, "msg_type": "execute_request", "username": "u", "session": uuid.uuid4().hex,
                  "version": "5.3", "date": "2024-01-01T00:00:00Z"}  # fmt: skip
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True}  # fmt: skip
        printed = ""
        try:
            connection.send(
                json.dumps(
                    {"channel": "shell", "header": header, "parent_header": {}, "metadata": {}, "content": content}
                )
            )
            while True:
                message = json.loads(connection.recv())
                if message["parent_header"].get("msg_id") != message_id:
                    continue
                if message["msg_type"] == "stream":
                    printed += message["content"]["text"]
                elif message["msg_type"] == "error":
                    printed += "\n".join(message["content"]["traceback"])
                elif message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                    return printed
        finally:
            connection.close()


@contextmanager
def running_server(
    root: Path, runtime: Path, *, base_url: str = "/", token: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[JupyterServer]:
    """A Jupyter server, gone at the end with its kernels.

    Args:
        root: The directory that it serves; its own files are beside it.
        runtime: Jupyter's runtime directory, where servers of one user find each other.
        base_url: Its prefix.
        token: What it asks for; None: a random one; empty: nothing.
        env: More variables for the server and its kernels.
    """
    token = secrets.token_hex(16) if token is None else token
    port = _free_port()
    log = root.parent / f"{root.name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter_server", "--no-browser", "--ip=127.0.0.1", f"--port={port}",
                "--ServerApp.port_retries=0", f"--ServerApp.root_dir={root}", f"--ServerApp.base_url={base_url}",
                f"--IdentityProvider.token={token}", "--allow-root", "--ServerApp.disable_check_xsrf=True",
            ],
            env=_environment(root, runtime, env or {}),
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
    server = JupyterServer(f"http://127.0.0.1:{port}{base_url.rstrip('/')}", token, root)
    try:
        _wait_until_up(server, process, log)
        yield server
        server.end_kernels()
    finally:
        _end(process)


def _environment(root: Path, runtime: Path, env: Mapping[str, str]) -> dict[str, str]:
    own = root.parent / f"{root.name}-own"
    for name in ("home", "data", "config", "ipython"):
        (own / name).mkdir(parents=True)
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "HOME": str(own / "home"),
        "JUPYTER_RUNTIME_DIR": str(runtime),
        "JUPYTER_DATA_DIR": str(own / "data"),
        "JUPYTER_CONFIG_DIR": str(own / "config"),
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_MLOPS_DATA_DIR": str(own / "mlops"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        **env,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait_until_up(server: JupyterServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            server.request("GET", "status")
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"The Jupyter server did not start:\n{log.read_text(errors='replace')[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
