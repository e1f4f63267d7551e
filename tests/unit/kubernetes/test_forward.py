import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.kubernetes import forward as forward_module
from jupyter_mlops.kubernetes.forward import PortForward
from jupyter_mlops.kubernetes.websocket import BINARY, CLOSE
from tests.unit.kubernetes.test_websocket import served

PATIENCE = 60
Pod = Callable[[int, "Stream"], None]


class Stream:
    """The pod's end of a stream: what a kubelet does with websocket frames."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self._sock = sock
        self._rest = b""
        for channel in (0, 1):
            sock.sendall(served(bytes((channel,)) + port.to_bytes(2, "little")))

    def send(self, data: bytes, *, channel: int = 0) -> None:
        for at in range(0, len(data), 2**15):
            self._sock.sendall(served(bytes((channel,)) + data[at : at + 2**15]))

    def receive(self) -> bytes | None:
        """The next data, or None: the stream ended."""
        while True:
            head = self._exactly(2)
            if head is None:
                return None
            size = head[1] & 0x7F
            if size > 125:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8) or b"", "big")
            mask = self._exactly(4) or b""
            masked = self._exactly(size) or b""
            data = (int.from_bytes(masked, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")).to_bytes(
                size, "big"
            )
            if head[0] & 0x0F == CLOSE:
                return None
            if head[0] & 0x0F == BINARY:
                assert data[0] == 0
                return data[1:]

    def _exactly(self, size: int) -> bytes | None:
        while len(self._rest) < size:
            try:
                more = self._sock.recv(2**16)
            except OSError:
                return None
            if not more:
                return None
            self._rest += more
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


class Server:
    """Stands for the API server: gives streams that end in functions of the test."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.refusal: KubernetesError | None = None
        self.asked: list[tuple[str, int]] = []

    def port_forward(self, pod: str, port: int) -> socket.socket:
        if self.refusal is not None:
            raise self.refusal
        self.asked.append((pod, port))
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs, port), daemon=True).start()
        ours.setblocking(False)
        return ours

    def _serve(self, sock: socket.socket, port: int) -> None:
        with sock, contextlib.suppress(OSError):
            self.pod(port, Stream(sock, port))


def echo(_port: int, stream: Stream) -> None:
    while (data := stream.receive()) is not None:
        stream.send(data)


@contextlib.contextmanager
def forwarding(pod: Pod, *ports: int) -> Iterator[tuple[PortForward, Server]]:
    server = Server(pod)
    with PortForward(server, "kernel", ports) as forward:  # type: ignore[arg-type]
        yield forward, server


def connect(forward: PortForward, port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", forward.local_port(port)), timeout=PATIENCE)


def read_all(sock: socket.socket) -> bytes:
    found = bytearray()
    while data := sock.recv(2**16):
        found += data
    return bytes(found)


def read(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = sock.recv(2**16)
        assert data
        found += data
    return bytes(found)


def test_each_connection_reaches_the_port_that_it_asked_for() -> None:
    with forwarding(lambda port, stream: stream.send(f"{port}".encode()), 7001, 7002) as (forward, server):
        assert forward.local_port(7001) != forward.local_port(7002)
        for port in (7001, 7002, 7001):
            with connect(forward, port) as sock:
                assert read_all(sock) == f"{port}".encode()
        assert [port for _, port in server.asked] == [7001, 7001, 7002, 7001]
        assert {pod for pod, _ in server.asked} == {"kernel"}


def test_much_goes_both_ways_at_once_when_neither_side_waits_for_the_other() -> None:
    # More than all buffers hold: who reads only after it has written would stand still here.
    data = bytes(range(256)) * 2**16
    with forwarding(echo, 7001) as (forward, _), connect(forward, 7001) as sock:
        writer = threading.Thread(target=sock.sendall, args=(data,))
        writer.start()
        assert read(sock, len(data)) == data
        writer.join(PATIENCE)
        assert not writer.is_alive()


def test_a_pod_that_does_not_read_holds_up_only_its_own_connection() -> None:
    free = threading.Event()

    def pod(port: int, stream: Stream) -> None:
        if port == 7001:
            free.wait(PATIENCE)
        echo(port, stream)

    with forwarding(pod, 7001, 7002) as (forward, _), connect(forward, 7001) as slow, connect(forward, 7002) as quick:
        data = b"x" * 2**24
        writer = threading.Thread(target=slow.sendall, args=(data,))
        writer.start()
        quick.sendall(b"hello")
        assert read(quick, 5) == b"hello"
        free.set()
        assert read(slow, len(data)) == data
        writer.join(PATIENCE)


def test_an_answer_comes_whole_to_a_client_that_has_finished_sending() -> None:
    def pod(_port: int, stream: Stream) -> None:
        asked = stream.receive()
        time.sleep(1.5)
        stream.send((asked or b"") * 2**20)

    with forwarding(pod, 7001) as (forward, _), connect(forward, 7001) as sock:
        sock.sendall(b"abcd")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"abcd" * 2**20


def test_a_stream_does_not_outlive_a_client_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward_module, "_LINGER", 0.2)
    ended = threading.Event()

    def pod(port: int, stream: Stream) -> None:
        echo(port, stream)
        ended.set()

    with forwarding(pod, 7001) as (forward, _):
        ended.clear()
        with connect(forward, 7001) as sock:
            sock.sendall(b"x")
            assert read(sock, 1) == b"x"
            ended.clear()
        assert ended.wait(PATIENCE)


def test_a_port_that_nobody_listens_on_is_an_error_for_its_client_and_for_no_other() -> None:
    def pod(port: int, stream: Stream) -> None:
        if port == 7001:
            stream.send(b"connection refused", channel=1)
            stream.receive()
        else:
            echo(port, stream)

    with forwarding(pod, 7001, 7002) as (forward, _), connect(forward, 7002) as good:
        with connect(forward, 7001) as bad, pytest.raises(ConnectionError):
            read_all(bad)
        good.sendall(b"hello")
        assert read(good, 5) == b"hello"


def test_a_refusal_comes_at_once_and_a_later_one_is_told() -> None:
    refusal = KubernetesError("You may not create pods/portforward.", code="kubernetes_forbidden")
    server = Server(echo)
    server.refusal = refusal
    with pytest.raises(KubernetesError, match="pods/portforward"):
        PortForward(server, "kernel", [7001])  # type: ignore[arg-type]
    with forwarding(echo, 7001) as (forward, server):
        assert forward.error is None
        server.refusal = refusal
        with connect(forward, 7001) as sock, pytest.raises(ConnectionError):
            read_all(sock)
        assert forward.error is refusal


def test_connections_wait_while_a_port_is_held_and_go_where_they_are_led() -> None:
    with forwarding(echo, 7001, 7002) as (forward, server):
        forward.hold(7001)
        with connect(forward, 7001) as waiting, connect(forward, 7002) as other:
            waiting.sendall(b"later")
            other.sendall(b"now")
            assert read(other, 3) == b"now"
            assert [port for _, port in server.asked].count(7001) == 1  # the first look only
            forward.release()
            assert read(waiting, 5) == b"later"
            with socket.create_server(("127.0.0.1", 0)) as instead:
                forward.hold(7001)
                forward.lead(7001, instead.getsockname()[1])
                assert waiting.recv(1) == b""
                with connect(forward, 7001) as led:
                    answering, _ = instead.accept()
                    with answering:
                        led.sendall(b"who are you?")
                        assert read(answering, 12) == b"who are you?"
                        answering.sendall(b"another")
                    assert read_all(led) == b"another"


def test_after_a_turn_the_same_port_leads_to_another_pod() -> None:
    with forwarding(echo, 7001) as (forward, server):
        port = forward.local_port(7001)
        with connect(forward, 7001) as before:
            before.sendall(b"x")
            assert read(before, 1) == b"x"
            forward.turn_to("next")
            with contextlib.suppress(ConnectionError):
                assert before.recv(1) == b""
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as after:
            after.sendall(b"y")
            assert read(after, 1) == b"y"
        assert server.asked[-1] == ("next", 7001)


def test_closing_ends_connections_and_threads_and_frees_the_ports() -> None:
    before = set(threading.enumerate())
    with forwarding(echo, 7001) as (forward, _):
        port = forward.local_port(7001)
        socks = [connect(forward, 7001) for _ in range(5)]
        for sock in socks:
            sock.sendall(b"x")
            assert read(sock, 1) == b"x"
        forward.close()
        for sock in socks:
            with sock, contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
        left = {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("forward")}
        assert not left
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    forward.close()
