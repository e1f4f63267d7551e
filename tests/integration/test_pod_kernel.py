"""The supervisor of a kernel's pod with a real ipykernel, and the line that a client holds to it; without a cluster."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from jupyter_client.blocking import BlockingKernelClient

from jupyter_mlops.kernels.link import Link
from jupyter_mlops.kubernetes import contract

pytestmark = pytest.mark.integration

PATIENCE = 120
TOKEN, KEY = "t" * 32, "k" * 32

SUPERVISOR = """
import json, signal, sys
from jupyter_mlops.kubernetes import contract, pod_kernel
contract.KERNEL_PORTS.update(json.loads(sys.argv[1]))
contract.TEMPORARY_DIR = sys.argv[2]
secret = {"token": sys.argv[3], "key": sys.argv[4], "signature_scheme": "hmac-sha256"}
supervisor = pod_kernel.Supervisor(secret, float(sys.argv[5]), int(sys.argv[6]))
signal.signal(signal.SIGTERM, supervisor.leave)
print("up", flush=True)
sys.exit(supervisor.run())
"""


@dataclass
class Pod:
    """A supervisor's process, and where it listens."""

    process: subprocess.Popen[str]
    ports: dict[str, int]
    port: int

    def link(self, token: str = TOKEN) -> Link:
        return Link(self.port, token, lambda: None if self.process.poll() is None else "The pod is gone.", PATIENCE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def start_pod(tmp_path: Path) -> Iterator[Callable[..., Pod]]:
    started: list[subprocess.Popen[str]] = []

    def start(*, idle: float = 600) -> Pod:
        ports, port = {name: free_port() for name in contract.KERNEL_PORTS}, free_port()
        command = [json.dumps(ports), str(tmp_path), TOKEN, KEY, str(idle), str(port)]
        process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, *command], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "up"
        return Pod(process, ports, port)

    yield start
    for process in started:
        process.terminate()
        process.wait(PATIENCE)


@pytest.fixture
def running(start_pod: Callable[..., Pod]) -> Iterator[tuple[Pod, Link, BlockingKernelClient]]:
    pod = start_pod()
    link = pod.link()
    link.start({"GIVEN": "yes"})
    assert link.wait_ready(PATIENCE, threading.Event())
    client = BlockingKernelClient()
    client.load_connection_info({
        "transport": "tcp", "ip": "127.0.0.1", "key": KEY.encode(), "signature_scheme": "hmac-sha256", **pod.ports
    })  # fmt: skip
    client.start_channels()
    client.wait_for_ready(PATIENCE)
    yield pod, link, client
    client.stop_channels()
    link.close()


def printed(client: BlockingKernelClient, code: str) -> str:
    found: list[str] = []

    def take(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            found.append(message["content"]["text"])

    client.execute_interactive(code, output_hook=take, timeout=PATIENCE)
    return "".join(found)


def wait_for(look: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_kernel_gets_the_variables_that_are_given_and_forgets_all_in_a_restart(
    running: tuple[Pod, Link, BlockingKernelClient],
) -> None:
    _, link, client = running
    assert printed(client, "import os; left_over = 1; print(os.environ['GIVEN'])") == "yes\n"
    link.start({"GIVEN": "other"})
    assert link.wait_ready(PATIENCE, threading.Event())
    client.wait_for_ready(PATIENCE)
    assert printed(client, "import os; print(os.environ['GIVEN'], 'left_over' in globals())") == "other False\n"


def test_what_is_executed_is_known_by_its_request(running: tuple[Pod, Link, BlockingKernelClient]) -> None:
    _, link, client = running
    asked = client.execute("import time; time.sleep(3)")
    wait_for(lambda: link.parent is not None)
    assert link.parent is not None
    assert link.parent["msg_id"] == asked
    wait_for(lambda: link.parent is None)


def test_a_kernel_that_ends_is_told_with_its_status_and_what_it_printed_and_leaves_no_child(
    running: tuple[Pod, Link, BlockingKernelClient],
) -> None:
    _, link, client = running
    child = int(printed(client, "import subprocess; print(subprocess.Popen(['sleep', '600']).pid)"))
    client.execute("import os; os.write(2, b'my last words\\n'); os._exit(7)")
    wait_for(lambda: link.ended is not None)
    assert link.ended is not None
    assert link.ended["code"] == 7
    assert "my last words" in link.ended["printed"]
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_kernel_can_be_killed(running: tuple[Pod, Link, BlockingKernelClient]) -> None:
    _, link, client = running
    client.execute("import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)")
    wait_for(lambda: link.parent is not None)
    link.signal(9)
    wait_for(lambda: link.ended is not None)
    assert link.ended is not None
    assert link.ended["code"] == -9
    assert link.lost is None


def test_a_line_that_breaks_is_made_anew_and_the_kernel_is_the_same(
    running: tuple[Pod, Link, BlockingKernelClient],
) -> None:
    pod, link, client = running
    printed(client, "kept = 1")
    link.close()
    again = pod.link()
    again.generation = link.generation
    wait_for(lambda: again.ready)
    assert printed(client, "print(kept)") == "1\n"
    again.close()


def test_who_does_not_know_the_token_is_not_listened_to(start_pod: Callable[..., Pod]) -> None:
    pod = start_pod()
    link = pod.link(token="x" * 32)
    link.start({})
    assert not link.wait_ready(5, threading.Event())
    link.close()
    with socket.create_connection(("127.0.0.1", pod.port), timeout=PATIENCE) as sock:
        sock.sendall(b"nonsense\n")
        assert sock.recv(1) == b""


def test_a_pod_that_is_gone_is_lost_with_the_reason(start_pod: Callable[..., Pod]) -> None:
    pod = start_pod()
    link = pod.link()
    link.start({})
    assert link.wait_ready(PATIENCE, threading.Event())
    kernels = psutil.Process(pod.process.pid).children(recursive=True)
    pod.process.kill()
    wait_for(lambda: link.lost)
    assert link.lost == "The pod is gone."
    for kernel in kernels:  # with a container they would have ended; here they may
        with suppress(psutil.NoSuchProcess):
            kernel.kill()


def test_it_ends_when_nobody_was_there_for_too_long_and_not_while_it_computes(start_pod: Callable[..., Pod]) -> None:
    pod = start_pod(idle=13)  # more than the time between two signs of life
    link = pod.link()
    link.start({})
    assert link.wait_ready(PATIENCE, threading.Event())
    client = BlockingKernelClient()
    client.load_connection_info({
        "transport": "tcp", "ip": "127.0.0.1", "key": KEY.encode(), "signature_scheme": "hmac-sha256", **pod.ports
    })  # fmt: skip
    client.start_channels()
    client.wait_for_ready(PATIENCE)
    client.execute("import time; time.sleep(20)")
    wait_for(lambda: link.parent is not None)
    client.stop_channels()
    link.close()
    left = time.monotonic()
    assert pod.process.wait(PATIENCE) == 0
    assert time.monotonic() - left > 18
