"""Stands before the API server and counts what a client asks it, request by request; changes nothing of it.

The client's side is plain HTTP inside the node's network, so that the requests can be read.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 65536


class Counting:
    """Passes every connection on to the API server.

    Args:
        host: The address of both.
        port: The API server's port.
        ca: The authority of its certificate.

    Attributes:
        port: Its own.
    """

    def __init__(self, host: str, port: int, ca: Path) -> None:
        self._host, self._target = host, port
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._lock = threading.Lock()
        self._seen: list[str] = []
        self._listener = socket.create_server((host, 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://{self._host}:{self.port}"

    def close(self) -> None:
        self._listener.close()

    @contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """What is asked meanwhile, as `create jobs`, `list pods`, `watch pods`; complete at the end of the block."""
        found: Counter[str] = Counter()
        with self._lock:
            start = len(self._seen)
        yield found
        with self._lock:
            found.update(self._seen[start:])

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client:
            plain = socket.create_connection((self._host, self._target), timeout=60)
            with self._tls.wrap_socket(plain, server_hostname=self._host) as server:
                server.settimeout(None)
                threading.Thread(target=_pump, args=[server, client], daemon=True).start()
                rest = b""
                while True:
                    head, rest = _until(client, rest, b"\r\n\r\n")
                    with self._lock:
                        self._seen.append(_name(head))
                    length = _length(head)
                    while len(rest) < length:
                        more = client.recv(_BLOCK)
                        if not more:
                            return
                        rest += more
                    server.sendall(head + rest[:length])
                    rest = rest[length:]


def _until(client: socket.socket, rest: bytes, mark: bytes) -> tuple[bytes, bytes]:
    while mark not in rest:
        more = client.recv(_BLOCK)
        if not more:
            raise OSError("the client is gone")
        rest += more
    head, _, rest = rest.partition(mark)
    return head + mark, rest


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
        if name.strip().lower() == b"transfer-encoding":
            raise ValueError("requests of the product have a length")
    return 0


def _name(head: bytes) -> str:
    """The request as verb and resource, in the words of Kubernetes' rights."""
    method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
    url = urlsplit(target)
    parts = [part for part in url.path.split("/") if part]
    query = parse_qs(url.query)
    if parts[:1] == ["version"]:
        return "get version"
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[0] == "namespaces" and len(parts) > 2:
        parts = parts[2:]
    resource = "/".join([parts[0], *parts[2:]])
    one = len(parts) > 1
    verb = {"POST": "create", "PATCH": "patch", "DELETE": "delete", "PUT": "update"}.get(method)
    if verb is None:
        verb = "watch" if "watch" in query else "get" if one else "list"
    if "dryRun" in query:
        verb = f"check and {verb}"
    return f"{verb} {resource}"


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := source.recv(_BLOCK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
