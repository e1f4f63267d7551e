"""A TCP proxy on 127.0.0.1 that passes on, delays, drops, or answers with an error of its own, as it is told."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Literal

Mode = Literal["pass", "delay", "drop", "error"]

_ERROR = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"


class Proxy:
    """Stands before a server.

    Args:
        target: The server's port.
        delay: Seconds before a new connection is passed on, in the mode "delay".

    Attributes:
        port: Its own.
        requests: How many connections came.
    """

    def __init__(self, target: int, *, delay: float = 1.0) -> None:
        self._target, self._delay = target, delay
        self._mode: Mode = "pass"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.requests = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def become(self, mode: Mode) -> None:
        """Treat what comes from now on so; connections that are open are closed."""
        self._mode = mode
        self._close_all()

    def close(self) -> None:
        self._listener.close()
        self._close_all()

    def _close_all(self) -> None:
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.requests += 1
            with self._lock:
                self._open.add(client)
            threading.Thread(target=self._serve, args=[client, self._mode], daemon=True).start()

    def _serve(self, client: socket.socket, mode: Mode) -> None:
        with contextlib.suppress(OSError):
            if mode == "drop":
                client.close()
                return
            if mode == "error":
                head = b""
                while b"\r\n\r\n" not in head and (more := client.recv(65536)):
                    head += more
                client.sendall(_ERROR)
                client.close()
                return
            if mode == "delay":
                time.sleep(self._delay)
            server = socket.create_connection(("127.0.0.1", self._target), timeout=60)
            server.settimeout(None)
            with self._lock:
                self._open.add(server)
            threading.Thread(target=_pump, args=[client, server], daemon=True).start()
            _pump(server, client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
