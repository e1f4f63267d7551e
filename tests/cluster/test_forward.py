"""Ports of a real pod through a real API server and kubelet, for somebody who has that right and no other."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.kubernetes.api import Api
from jupyter_mlops.kubernetes.forward import PortForward
from jupyter_mlops.kubernetes.rights import INTERACTIVE_RIGHTS, role_manifest

from . import access
from .pods import pod_spec, run_pod, wait_for, wait_for_phase
from .product_image import product_image

if TYPE_CHECKING:
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .context import Context

__all__ = ["product_image"]

pytestmark = pytest.mark.cluster

PATIENCE = 240
ECHO, LATE, NOBODY = 9001, 9002, 9003
SERVERS = f"""
import socketserver, time
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Late(socketserver.StreamRequestHandler):
    def handle(self):
        size = int(self.rfile.readline())
        time.sleep(3)
        self.wfile.write(b"x" * size)
socketserver.ThreadingTCPServer.allow_reuse_address = True
import threading
late = socketserver.ThreadingTCPServer(("127.0.0.1", {LATE}), Late)
threading.Thread(target=late.serve_forever, daemon=True).start()
socketserver.ThreadingTCPServer(("127.0.0.1", {ECHO}), Echo).serve_forever()
"""


@pytest.fixture
def api(
    context: Context, admin: ApiClient, namespace: str, product_image: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Api:  # fmt: skip
    run_pod(admin, namespace, "servers", pod_spec(product_image, "python", "-c", SERVERS))
    wait_for_phase(admin, namespace, "servers", "Running")
    rules = role_manifest(*INTERACTIVE_RIGHTS, namespace=namespace)["rules"]
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "kubeconfig", namespace, rules)
    monkeypatch.setenv("KUBECONFIG", str(limited))
    return Api(None, namespace)


@pytest.fixture
def forward(api: Api) -> Iterator[PortForward]:
    with PortForward(api, "servers", [ECHO, LATE, NOBODY]) as found:
        wait_for("the servers", lambda: echoed(found, b"hello"))
        yield found


def connect(forward: PortForward, port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", forward.local_port(port)), timeout=PATIENCE)


def read(sock: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size and (data := sock.recv(2**16)):
        found += data
    return bytes(found)


def echoed(forward: PortForward, data: bytes) -> bool:
    """Whether it comes back, sent and received at once."""
    try:
        with connect(forward, ECHO) as sock:
            writer = threading.Thread(target=sock.sendall, args=(data,))
            writer.start()
            back = read(sock, len(data))
            writer.join(PATIENCE)
            return back == data
    except ConnectionError:
        return False


def test_much_data_goes_both_ways_at_once_on_many_connections(forward: PortForward) -> None:
    data = bytes(range(256)) * 2**14
    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.append(echoed(forward, data))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [True] * 8


def test_a_late_answer_comes_whole_to_a_client_that_has_finished_sending(forward: PortForward) -> None:
    with connect(forward, LATE) as sock:
        sock.sendall(b"3000000\n")
        sock.shutdown(socket.SHUT_WR)
        assert read(sock, 3_000_001) == b"x" * 3_000_000


def test_a_port_that_nobody_listens_on_breaks_its_own_connection_only(forward: PortForward) -> None:
    with connect(forward, ECHO) as good:
        good.sendall(b"one")
        assert read(good, 3) == b"one"
        with connect(forward, NOBODY) as bad, pytest.raises(ConnectionError):
            bad.recv(1)
        good.sendall(b"two")
        assert read(good, 3) == b"two"


def test_a_pod_that_is_not_there_and_a_right_that_is_missing_are_told_at_once(
    api: Api, context: Context, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KubernetesError, match="no-such-pod"):
        PortForward(api, "no-such-pod", [ECHO])
    nothing = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "nothing", namespace, [])
    monkeypatch.setenv("KUBECONFIG", str(nothing))
    with pytest.raises(KubernetesError, match="pods/portforward") as refused:
        PortForward(Api(None, namespace), "servers", [ECHO])
    assert "jupyter-mlops-interactive" in refused.value.hint
