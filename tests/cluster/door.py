"""Stands before a server and lets in only who brings the password (HTTP basic authentication)."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading

_REFUSAL = b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 12\r\nConnection: close\r\n\r\nWho are you?"
_LONGEST_HEAD = 65536


class Door:
    """Passes connections on whose first request has the right login, as it does on each connection that a client opens.

    Args:
        host: The address of both.
        target: The server's port.
        user: Who is let in.
        password: With this password.

    Attributes:
        port: Its own.
        user: Who is let in.
        password: With this password.
        refused: How many were not let in.
    """

    def __init__(self, host: str, target: int, user: str, password: str) -> None:
        self._host, self._target, self.user, self.password = host, target, user, password
        login = base64.b64encode(f"{user}:{password}".encode())
        self._wanted = b"authorization: basic " + login.lower()
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://{self._host}:{self.port}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = b""
            while b"\r\n\r\n" not in head and len(head) < _LONGEST_HEAD and (more := client.recv(65536)):
                head += more
            if self._wanted not in head.lower() and not head.startswith(b"GET /health"):
                self.refused += 1
                client.sendall(_REFUSAL)
                return
            with socket.create_connection((self._host, self._target), timeout=60) as server:
                server.settimeout(None)
                server.sendall(head)
                back = threading.Thread(target=_pump, args=[server, client], daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
