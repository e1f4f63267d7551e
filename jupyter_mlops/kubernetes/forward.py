"""Ports of a pod on this machine, through the API server: no open port in the cluster, and its TLS on the way.

Each connection gets a stream of its own, so that a slow or broken one holds up no other. Knows what no connection
carries. Ports are on 127.0.0.1: whoever may open connections on this machine reaches the pod's port, so that what
listens there must ask for a key of its own (a kernel's signature, a cluster's certificate).

One thing a port-forward cannot pass on: that one side has finished sending and still listens. The protocol has no word
for it, and container runtimes end both ways a second after the first. So after the end of what a client sends, the
pod's answer is still brought back, until the pod ends it or is silent for `_LINGER` seconds.
"""

from __future__ import annotations

import contextlib
import logging
import select
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import KubernetesError
from .websocket import BINARY, CLOSE, PING, PONG, Frames, frame

if TYPE_CHECKING:
    from .api import Api

_log = logging.getLogger(__name__)
_LINGER = 10.0
"""Seconds that the answer to a client that has finished sending may be silent."""
_PING = 30.0
"""Seconds of silence after which a ping keeps what is between from forgetting the connection."""
_BLOCK = 2**16
_MOST = 2**22
"""Bytes kept of a side that sends faster than the other reads."""
_CLOSING = 5.0
_PAUSE = 1.0
_DATA, _ERROR = 0, 1
_NOT_NOW = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class PortForward:
    """Ports of 127.0.0.1 that lead to a pod's.

    Args:
        api: Calls to the pod's namespace.
        pod: Its name.
        ports: The pod's.

    Raises:
        KubernetesError: it is not allowed (the hint has the right to ask for), there is no such pod, or no way to it.
    """

    def __init__(self, api: Api, pod: str, ports: Iterable[int]) -> None:
        self._api = api
        self._pod = pod
        self._lock = threading.Condition()
        self._connections: set[_Connection] = set()
        self._closed = False
        self._held: frozenset[int] = frozenset()
        self._instead: dict[int, int] = {}
        self._error: KubernetesError | None = None
        wanted = sorted(set(ports))
        # Asked for once now: a refusal must not come only as a connection that breaks.
        api.port_forward(pod, wanted[0]).close()
        self._listeners = {port: socket.create_server(("127.0.0.1", 0), backlog=64) for port in wanted}
        self._wake, self._woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name=f"forward {pod}", daemon=True)
        self._acceptor.start()

    def local_port(self, remote: int) -> int:
        """The port of 127.0.0.1 that leads to this port of the pod."""
        port: int = self._listeners[remote].getsockname()[1]
        return port

    @property
    def error(self) -> KubernetesError | None:
        """Why the last connection could not be made; None: it could, or there was none yet."""
        return self._error

    def hold(self, *ports: int) -> None:
        """Let new connections to these ports of the pod wait: what listens there is being started."""
        with self._lock:
            self._held = frozenset(ports)
            self._instead = {}

    def lead(self, port: int, instead: int) -> None:
        """Lead one port to another of this machine until `hold`: what was there is gone, and somebody speaks for it."""
        with self._lock:
            self._instead[port] = instead
            self._lock.notify_all()
            for connection in self._connections:
                if connection.port == port and connection.begun:
                    connection.end()

    def release(self) -> None:
        """Let all connections go through again."""
        with self._lock:
            self._held = frozenset()
            self._lock.notify_all()

    def turn_to(self, pod: str) -> None:
        """Lead to another pod from now on; the connections to the one before end."""
        with self._lock:
            self._pod = pod
            for connection in self._connections:
                if connection.begun:
                    connection.end()

    def close(self) -> None:
        """End all connections and free the ports; waits a few seconds at most."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._lock.notify_all()
            connections = list(self._connections)
        self._wake.close()
        for connection in connections:
            connection.end()
        until = time.monotonic() + _CLOSING
        for thread in (self._acceptor, *(each.thread for each in connections)):
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def __enter__(self) -> PortForward:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._woken.close)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(self._woken, selectors.EVENT_READ)
            for port, listener in self._listeners.items():
                stack.callback(listener.close)
                listener.setblocking(False)
                selector.register(listener, selectors.EVENT_READ, port)
            while not self._closed:
                for key, _ in selector.select():
                    if isinstance(key.fileobj, socket.socket) and key.data:
                        self._take(key.fileobj, key.data)

    def _take(self, listener: socket.socket, port: int) -> None:
        try:
            local, _ = listener.accept()
        except OSError:  # It went away again, or there is no file descriptor left: then a later look may work.
            time.sleep(0.1)
            return
        connection = _Connection(local, port)
        connection.thread = threading.Thread(
            target=self._serve, args=(connection, port), name=f"forward {self._pod}:{port}", daemon=True
        )
        with self._lock:
            if self._closed:
                local.close()
                return
            self._connections.add(connection)
            connection.thread.start()

    def _serve(self, connection: _Connection, port: int) -> None:
        try:
            if self._wait(connection, port):
                instead = self._instead.get(port)
                if instead is not None:
                    connection.join(socket.create_connection(("127.0.0.1", instead), timeout=_CLOSING))
                    return
                remote = self._api.port_forward(self._pod, port)
                self._error = None
                connection.run(remote)
        except (KubernetesError, OSError, ValueError) as error:
            if isinstance(error, KubernetesError):
                self._error = error
            _log.debug("No connection to port %d of pod %s, or it broke: %s", port, self._pod, error)
            if not connection.stopped:
                # Clients come again at once, and each time it costs the API server a handshake.
                connection.left.wait(_PAUSE)
        finally:
            connection.reset()
            with self._lock:
                self._connections.discard(connection)

    def _wait(self, connection: _Connection, port: int) -> bool:
        """Wait while the port is held; whether somebody is still there to be connected."""
        with self._lock:
            while port in self._held and port not in self._instead and not self._closed:
                if connection.is_gone():
                    return False
                self._lock.wait(1)
            connection.begun = True
            return not self._closed


class _Connection:
    """One accepted connection and its stream; both ways in one thread, so that TLS is used by one only."""

    thread: threading.Thread

    def __init__(self, local: socket.socket, port: int) -> None:
        self.port = port
        self._local = local
        self._frames = Frames()
        self._to_pod, self._to_local = bytearray(), bytearray()
        self._local_ended = self._pod_ended = False
        self.begun = False
        self.left = threading.Event()
        self._named = {_DATA: False, _ERROR: False}
        self._heard = self._said = time.monotonic()

    @property
    def stopped(self) -> bool:
        """Whether it is to end."""
        return self.left.is_set()

    def is_gone(self) -> bool:
        """Whether the client has gone before it was connected; where the system does not tell, it is there."""
        hang_up = getattr(select, "POLLRDHUP", 0)
        if not hang_up:
            return False
        poll = select.poll()
        poll.register(self._local, hang_up)
        return bool(poll.poll(0))

    def end(self) -> None:
        """Have the thread end it; may be called from any other."""
        self.left.set()
        with contextlib.suppress(OSError):
            self._local.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Let go of it; where it has not ended in order, the client sees an error and not the end of an answer."""
        with contextlib.suppress(OSError):
            self._local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._local.close()

    def join(self, other: socket.socket) -> None:
        """Carry both ways to another socket of this machine until one side has ended."""
        pairs = {self._local: other, other: self._local}
        with other, selectors.DefaultSelector() as selector:
            for sock in pairs:
                selector.register(sock, selectors.EVENT_READ)
            while not self.stopped:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(_BLOCK)
                    if not data:
                        self._local.close()
                        return
                    pairs[source].sendall(data)

    def run(self, remote: socket.socket) -> None:
        """Carry both ways until one side has ended.

        Raises:
            OSError: it broke, or the pod does not listen there.
            ValueError: the other end speaks another language.
        """
        with remote, selectors.DefaultSelector() as selector:
            self._local.setblocking(False)
            self._local.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not self._over():
                waiting = isinstance(remote, ssl.SSLSocket) and len(self._to_local) < _MOST and remote.pending() > 0
                _want(selector, remote, read=len(self._to_local) < _MOST, write=bool(self._to_pod))
                _want(selector, self._local, read=not self._local_ended and len(self._to_pod) < _MOST,
                      write=bool(self._to_local))  # fmt: skip
                pause = min(1.0, _LINGER) if self._local_ended else _PING
                ready = {key.fileobj: events for key, events in selector.select(0 if waiting else pause)}
                if waiting or ready.get(remote, 0) & selectors.EVENT_READ:
                    self._hear(remote)
                if ready.get(self._local, 0) & selectors.EVENT_READ:
                    self._read()
                self._flush(remote)
            if not self.stopped:
                with contextlib.suppress(OSError):
                    remote.send(frame(b"\x03\xe8", CLOSE))
            self._local.close()

    def _over(self) -> bool:
        if self.stopped:
            return True
        if self._pod_ended:
            return not self._to_local
        return self._local_ended and not self._to_pod and time.monotonic() - self._heard > _LINGER

    def _read(self) -> None:
        try:
            data = self._local.recv(_BLOCK)
        except _NOT_NOW:
            return
        if data:
            self._to_pod += frame(bytes((_DATA,)) + data)
        else:
            self._local_ended = True
            self._heard = time.monotonic()

    def _hear(self, remote: socket.socket) -> None:
        try:
            data = remote.recv(_BLOCK)
        except _NOT_NOW:
            return
        self._pod_ended = not data
        for opcode, payload in self._frames.feed(data):
            if opcode == CLOSE:
                self._pod_ended = True
            elif opcode == PING:
                self._to_pod += frame(payload, PONG)
            elif opcode == BINARY and payload:
                self._take(payload[0], payload[1:])

    def _take(self, channel: int, data: bytes) -> None:
        if not self._named.get(channel, True):
            self._named[channel] = True  # The first of each channel names the port.
        elif channel == _DATA:
            self._heard = time.monotonic()
            self._to_local += data
        elif channel == _ERROR and data:
            raise OSError(data.decode("utf-8", "replace")[:500])

    def _flush(self, remote: socket.socket) -> None:
        now = time.monotonic()
        if not self._to_pod and now - self._said > _PING:
            self._to_pod += frame(b"", PING)
        if self._to_pod and not self._pod_ended:
            self._said = now
            _send(remote, self._to_pod)
        _send(self._local, self._to_local)


def _want(selector: selectors.BaseSelector, sock: socket.socket, *, read: bool, write: bool) -> None:
    events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
    known = selector.get_map().get(sock)
    if not events:
        if known is not None:
            selector.unregister(sock)
    elif known is None:
        selector.register(sock, events)
    elif known.events != events:
        selector.modify(sock, events)


def _send(sock: socket.socket, data: bytearray) -> None:
    while data:
        try:
            sent = sock.send(bytes(data[: 4 * _BLOCK]))
        except _NOT_NOW:
            return
        del data[:sent]
