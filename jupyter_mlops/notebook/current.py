"""Which notebook is this kernel running? Jupyter does not tell a kernel; its server's sessions API knows.

Asked are, in this order: the sessions of the Jupyter servers of this user on this machine (they follow a
rename), the variable `JPY_SESSION_NAME` that a server sets when it starts a kernel, and what VS Code leaves
in the namespace. Tokens go to a server only if the process that its file names is this user's and is the one that
listens there, and never through a proxy or a redirect.
"""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from ..errors import NotebookError
from .naming import shown_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from IPython.core.interactiveshell import InteractiveShell
    from nbformat import NotebookNode

_TIMEOUT = 10.0
"""Seconds that a server may take: one that is saving a large notebook answers late."""
_ANSWER_LIMIT = 16 * 2**20
_HINT = "Give its path: %mlops train path/to/notebook.ipynb"


def current_notebook(shell: InteractiveShell) -> Path:
    """The file of the notebook whose kernel this is.

    Args:
        shell: The kernel's shell.

    Raises:
        NotebookError: nobody knows, several notebooks share this kernel, or what is known is not a file here.
    """
    found = _from_servers() or _from_variable(shell) or _from_vscode(shell)
    if found is None:
        raise NotebookError(
            "It is not known which notebook this kernel belongs to.", hint=_HINT, code="notebook_unknown"
        )
    if not _is_file(found):
        raise NotebookError(
            f"The notebook should be {shown_text(str(found))}, which is not a file on this machine.",
            hint=f"Save it. If its files are elsewhere (a remote kernel), download it. {_HINT}",
            code="notebook_unknown",
        )
    return found


def _is_file(path: Path) -> bool:
    # pathlib's raises for a name that is too long.
    return os.path.isfile(path)  # noqa: PTH113


def cell_is_saved(nb: NotebookNode, raw_cell: str) -> bool:
    """Whether a cell with this very source is in the notebook, whatever its line ends and trailing space.

    Args:
        nb: The notebook as it was saved.
        raw_cell: The source of the cell that is executing.
    """
    wanted = _plain(raw_cell)
    return bool(wanted) and any(cell.cell_type == "code" and _plain(cell.source) == wanted for cell in nb.cells)


def _plain(source: str) -> str:
    return "\n".join(source.splitlines()).rstrip()


def _from_servers() -> Path | None:
    kernel_id = _kernel_id()
    if kernel_id is None:
        return None
    for server in _servers():
        paths = _notebooks_of(kernel_id, _sessions(server))
        if len(paths) > 1:
            names = ", ".join(shown_text(path) for path in paths)
            raise NotebookError(f"Several notebooks share this kernel: {names}.", hint=_HINT, code="notebook_unknown")
        root = server.get("root_dir") or server.get("notebook_dir")
        if paths and isinstance(root, str):
            return _under(Path(root), paths[0])
    return None


def _kernel_id() -> str | None:
    """The kernel's id, as the server that started it has put it into the connection file's name."""
    try:
        from ipykernel.connect import get_connection_file

        name = Path(get_connection_file()).stem
    except Exception:  # noqa: BLE001 - no kernel, or one of another make
        return None
    return name.removeprefix("kernel-") if name.startswith("kernel-") else None


def server_base_url() -> str | None:
    """The path below which the browser finds this kernel's Jupyter server, with its slashes; None: there is none."""
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    found = [prefix] if prefix else [str(server.get("base_url") or "/") for server in _servers()]
    return f"/{found[0].strip('/')}/".replace("//", "/") if found else None


def _servers() -> list[dict[str, Any]]:
    """The running Jupyter servers of this user, this kernel's own first.

    Read here and not by jupyter_server, which a kernel's environment need not have, and which deletes files
    of servers that it takes for dead: with a shared home directory they may run on another machine.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    found = []
    with suppress(OSError):
        for file in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")):
            with suppress(OSError, ValueError):
                info = json.loads(file.read_text(encoding="utf-8"))
                if isinstance(info, dict) and _is_mine(info):
                    found.append(info)
    parents = {str(os.getppid()), os.environ.get("JPY_PARENT_PID")}
    return sorted(found, key=lambda info: str(info["pid"]) not in parents)


def _is_mine(info: dict[str, Any]) -> bool:
    # A file that a dead server, or one on another machine with the same home, left may name a process that is
    # something else here, and a port that is another user's by now, who would get the token.
    import psutil

    pid, sock = info.get("pid"), info.get("sock")
    if type(pid) is not int:
        return False
    try:
        process = psutil.Process(pid)
        if process.username() != psutil.Process().username():
            return False
        if sock:
            return bool(Path(unquote(str(sock))).stat().st_uid == process.uids().effective)
        # Its name before psutil 6 was `connections`.
        connections = getattr(process, "net_connections", None) or process.connections
        return any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == info.get("port") for one in connections(kind="inet")
        )
    except (psutil.Error, OSError, ValueError, OverflowError, KeyError):
        return False


def _sessions(server: dict[str, Any]) -> list[dict[str, Any]]:
    """What a server says to `GET api/sessions`; nothing if it does not answer."""
    path = f"{str(server.get('base_url') or '/').rstrip('/')}/api/sessions"
    for token in _tokens(server):
        try:
            connection = _connect(server)
        except (TypeError, ValueError):
            return []
        headers = {"Accept": "application/json", **({"Authorization": f"token {token}"} if token else {})}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(_ANSWER_LIMIT) if answer.status == 200 else b""
            sessions = json.loads(body) if body else None
        except (OSError, HTTPException, ValueError, OverflowError, RecursionError):
            return []  # another token would not make it answer
        finally:
            connection.close()
        if isinstance(sessions, list):
            return [session for session in sessions if isinstance(session, dict)]
    return []


def _tokens(server: dict[str, Any]) -> Iterator[str]:
    """The tokens to try, each once: the server's own, then what JupyterHub gives to this user's server."""
    variables = ["JUPYTER_TOKEN"]
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    if prefix and str(server.get("base_url") or "").rstrip("/") == prefix.rstrip("/"):
        variables += ["JUPYTERHUB_API_TOKEN", "JPY_API_TOKEN"]
    tokens = [str(server.get("token") or ""), *(os.environ.get(name, "") for name in variables)]
    # A newline would end the header; http.client refuses it with a ValueError, and so would all others be
    # lost.
    usable = [token for token in tokens if token and re.fullmatch(r"[\x21-\x7e]+", token)]
    yield from dict.fromkeys(usable) or [""]


def _connect(server: dict[str, Any]) -> HTTPConnection:
    sock = server.get("sock")
    if sock:
        return _UnixConnection(unquote(str(sock)))
    host = _address(str(server.get("hostname") or ""))
    port = int(server.get("port") or 0)
    if not server.get("secure"):
        return HTTPConnection(host, port, timeout=_TIMEOUT)
    # The server's certificate names a public host; here it is asked on this machine, where its process was
    # checked.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=_TIMEOUT, context=context)


def _address(hostname: str) -> str:
    """Where on this machine a server that was bound to that name can be asked.

    Raises:
        ValueError: it is a name that only a resolver knows; a token is not sent there.
    """
    if hostname in ("", "*", "localhost"):
        return "127.0.0.1" if hostname != "localhost" else hostname
    address = ip_address(hostname)
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    if address.is_loopback:
        return hostname
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as probe:
        try:
            probe.bind((hostname, 0))  # only possible for an address of this machine
        except OSError as error:
            raise ValueError(hostname) from error
    return hostname


class _UnixConnection(HTTPConnection):
    """HTTP over a server's Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


def _notebooks_of(kernel_id: str, sessions: list[dict[str, Any]]) -> list[str]:
    """The API paths of the notebooks that use a kernel; a console beside a notebook is none."""
    mine = [session for session in sessions if _part(session, "kernel").get("id") == kernel_id]
    notebooks = [session for session in mine if session.get("type", "notebook") == "notebook"]
    paths = (session.get("path") or _part(session, "notebook").get("path") for session in notebooks)
    return sorted({path for path in paths if isinstance(path, str) and path})


def _part(session: dict[str, Any], name: str) -> dict[str, Any]:
    found = session.get(name)
    return found if isinstance(found, dict) else {}


def _under(root: Path, api_path: str) -> Path:
    """The file of an API path, which a session may have been given with any content.

    Raises:
        NotebookError: it leads out of the server's root.
    """
    # Real-time collaboration puts its drive before the path.
    relative = api_path.removeprefix("RTC:").lstrip("/")
    root = root.expanduser()
    found = Path(os.path.normpath(root / relative))
    if "\0" in relative or not found.is_relative_to(os.path.normpath(root)):
        raise NotebookError(
            f"The Jupyter server says that this is {shown_text(api_path)}, outside of its directory.",
            hint=_HINT,
            code="notebook_unknown",
        )
    return found


def _from_variable(shell: InteractiveShell) -> Path | None:
    name = os.environ.get("JPY_SESSION_NAME")
    if not name:
        return None
    path = Path(name.removeprefix("RTC:"))
    # Servers without a directory for the kernel give the path as their API has it; the shell began in it.
    start = Path(getattr(shell, "starting_dir", None) or Path.cwd())
    candidates = [path] if path.is_absolute() else [start / path, start / path.name]
    return next((one for one in candidates if _is_file(one)), None)


def _from_vscode(shell: InteractiveShell) -> Path | None:
    name = shell.user_ns.get("__vsc_ipynb_file__")
    return Path(name) if isinstance(name, str) and name else None
