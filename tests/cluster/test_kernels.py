"""Kernels in pods of a real Kubernetes, through the stock Jupyter client, papermill and a Jupyter server."""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from jupyter_client.manager import KernelManager

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.kubernetes import names
from jupyter_mlops.kubernetes.rights import INTERACTIVE_RIGHTS, RIGHTS, role_manifest

from . import access
from .pods import wait_for
from .product_image import product_image
from .registry import empty_registry

if TYPE_CHECKING:
    from jupyter_client.blocking import BlockingKernelClient
    from kubernetes.client import ApiClient

    from .context import Context

__all__ = ["product_image"]

pytestmark = pytest.mark.cluster

KERNEL = "mlops-cluster"
PATIENCE = 240


@dataclass
class Place:
    """A namespace for kernels, as somebody who may start them sees it."""

    admin: ApiClient
    namespace: str
    image: str
    config_dir: Path

    def configure(self, **settings: Any) -> None:
        """Write the person's configuration."""
        fields = {
            "runner": "kubernetes", "image": self.image, "namespace": self.namespace, "memory": "1Gi",
            **settings.pop("profile", {}),
        }  # fmt: skip
        lines = [f"c.MLOps.profiles = {{'cluster': {fields!r}}}"]
        lines += [f"c.MLOps.{name} = {value!r}" for name, value in settings.items()]
        self.config_dir.mkdir(exist_ok=True)
        (self.config_dir / "jupyter_mlops_config.py").write_text("\n".join(lines) + "\n")

    def pods(self) -> list[Any]:
        from kubernetes import client as k

        found: list[Any] = k.CoreV1Api(self.admin).list_namespaced_pod(self.namespace).items
        return found

    def objects(self) -> list[str]:
        """Everything of ours in the namespace."""
        from kubernetes import client as k

        core, batch = k.CoreV1Api(self.admin), k.BatchV1Api(self.admin)
        ours = {"label_selector": f"{names.MANAGED_BY_LABEL}={names.PRODUCT}"}
        lists = (
            batch.list_namespaced_job(self.namespace, **ours),
            core.list_namespaced_pod(self.namespace, **ours),
            core.list_namespaced_secret(self.namespace, **ours),
        )
        return [f"{type(each).__name__}/{each.metadata.name}" for found in lists for each in found.items]

    def wait_until_nothing_is_left(self) -> None:
        wait_for("everything to be gone", lambda: not self.objects(), self.objects)


@pytest.fixture
def place(
    context: Context,
    admin: ApiClient,
    namespace: str,
    product_image: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    from kubernetes import client as k

    rules = role_manifest(*RIGHTS, *INTERACTIVE_RIGHTS, namespace=namespace)["rules"]
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "kubeconfig", namespace, rules)
    monkeypatch.setenv("KUBECONFIG", str(limited))
    monkeypatch.setenv("USER", "ann")
    found = Place(admin, namespace, product_image, tmp_path / "config")
    found.configure()
    done = CliRunner().invoke(mlops, ["kernels", "install"], prog_name="jupyter mlops")
    assert done.exit_code == 0, done.output
    yield found
    k.BatchV1Api(admin).delete_collection_namespaced_job(namespace, propagation_policy="Background")
    wait_for("the pods to end", lambda: not found.pods())


@contextmanager
def kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager = KernelManager(kernel_name=KERNEL)
    manager.start_kernel()
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=PATIENCE)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def printed(client: BlockingKernelClient, code: str) -> str:
    """What a cell prints, or its error."""
    found: list[str] = []

    def take(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] == "stream":
            found.append(content["text"])
        elif message["msg_type"] == "error":
            found.append(content["ename"])

    client.execute_interactive(code, output_hook=take, timeout=PATIENCE)
    return "".join(found)


def wait_until_busy(client: BlockingKernelClient, message_id: str) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        message = client.get_iopub_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == message_id and message["msg_type"] == "execute_input":
            return
    raise AssertionError("it was not executed")


def text_of(client: BlockingKernelClient, message_id: str, *, wait: float = 2) -> str:
    """What has come so far as the output of a cell."""
    found = ""
    while True:
        try:
            message = client.get_iopub_msg(timeout=wait)
        except queue.Empty:
            return found
        if message["msg_type"] == "stream" and message["parent_header"].get("msg_id") == message_id:
            found += message["content"]["text"]


def test_a_kernel_executes_is_interrupted_and_restarted_in_its_pod_and_leaves_nothing(place: Place) -> None:
    with kernel() as (manager, client):
        assert printed(client, "import socket; print(socket.gethostname())").strip() == place.pods()[0].metadata.name
        printed(client, "left_over = 1")

        waiting = client.execute("import time; time.sleep(600)")
        wait_until_busy(client, waiting)
        manager.interrupt_kernel()
        reply = client.get_shell_msg(timeout=PATIENCE)
        while reply["parent_header"]["msg_id"] != waiting:
            reply = client.get_shell_msg(timeout=PATIENCE)
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert printed(client, "print(left_over)") == "1\n"

        pod = place.pods()[0].metadata.uid
        manager.restart_kernel()
        client.wait_for_ready(timeout=PATIENCE)
        assert printed(client, "print('left_over' in globals())") == "False\n"
        assert [each.metadata.uid for each in place.pods()] == [pod]

        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=PATIENCE)
        assert printed(client, "print(1 + 1)") == "2\n"
        assert [each.metadata.uid for each in place.pods()] == [pod]
        assert manager.is_alive()

        from kubernetes import client as k

        shown = json.dumps(k.ApiClient().sanitize_for_serialization([
            k.BatchV1Api(place.admin).list_namespaced_job(place.namespace).items, place.pods()
        ]))  # fmt: skip
        assert manager.session.key.decode() not in shown
        client.stop_channels()
        manager.shutdown_kernel()
        assert not manager.is_alive()
    place.wait_until_nothing_is_left()


def test_much_data_comes_out_whole(place: Place) -> None:
    with kernel() as (_, client):
        assert len(printed(client, "print('x' * 20_000_000)")) == 20_000_001
        size = 5_000_000
        assert printed(client, f"text = {'y' * size!r}; print(len(text))") == f"{size}\n"


def test_a_kernel_whose_pod_is_deleted_is_dead_and_the_log_says_why(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    from kubernetes import client as k

    logging.getLogger("traitlets").propagate = True
    with kernel() as (manager, client):
        waiting = client.execute("import time; time.sleep(600)")
        wait_until_busy(client, waiting)
        wait_for("the supervisor to hear of it", lambda: manager.provisioner._pod._link.parent)
        name = place.pods()[0].metadata.name
        k.CoreV1Api(place.admin).delete_namespaced_pod(name, place.namespace, grace_period_seconds=0)
        shown: list[str] = []

        def is_dead() -> bool:
            alive = manager.is_alive()
            # A client that does not look at its socket does not subscribe again where it connected again.
            shown.append(text_of(client, waiting, wait=0.2))
            return not alive

        wait_for("the kernel to be dead", is_dead)
        assert "The kernel's pod was deleted." in caplog.text
        assert "".join(shown) + text_of(client, waiting) == "The kernel's pod was deleted.\n"

        # The same manager can have it again: a new pod, behind the ports that its clients know.
        manager.restart_kernel(now=True)
        client.wait_for_ready(timeout=PATIENCE)
        assert printed(client, "print(2)") == "2\n"
    place.wait_until_nothing_is_left()


def test_a_kernel_that_uses_too_much_memory_is_dead_and_the_log_says_why(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    with kernel() as (manager, client):
        client.execute("blocks = []\nwhile True: blocks.append(bytearray(50_000_000))")
        wait_for("the kernel to be dead", lambda: not manager.is_alive())
    assert "memory" in caplog.text
    assert "killed" in caplog.text or "was ended" in caplog.text


def test_papermill_ends_with_a_lost_pod_and_the_notebook_says_why(
    place: Place, make_notebook: Callable[..., Path]
) -> None:
    from kubernetes import client as k

    mark = str(600 + time.time_ns() % 10**6 / 10**6)
    notebook = make_notebook(f"import subprocess; subprocess.run(['sleep', '{mark}'])", kernel=KERNEL)
    running = execute(notebook)
    wait_for("the cell", lambda: f"sleep {mark}" in processes(), lambda: (running.poll(), place.objects()))
    k.CoreV1Api(place.admin).delete_namespaced_pod(place.pods()[0].metadata.name, place.namespace)
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert "Kernel died" in errors
    assert "The kernel's pod was deleted." in errors
    outputs = json.loads(notebook.with_suffix(".out.ipynb").read_text())["cells"][0]["outputs"]
    assert "The kernel's pod was deleted." in json.dumps(outputs)
    place.wait_until_nothing_is_left()


def processes() -> str:
    """What runs on this machine, pods included."""
    return subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout


def execute(notebook: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "papermill", str(notebook), str(notebook.with_suffix(".out.ipynb")), "-k", KERNEL],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_stock_papermill_executes_a_notebook_in_a_pod(place: Place, make_notebook: Callable[..., Path]) -> None:
    notebook = make_notebook(("factor = 1", "parameters"), "import socket; print(socket.gethostname(), 2 * factor)")
    done = subprocess.run(
        [sys.executable, "-m", "papermill", str(notebook), str(notebook.with_suffix(".out.ipynb")), "-k", KERNEL,
         "-p", "factor", "21"],
        capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    out = notebook.with_suffix(".out.ipynb").read_text()
    assert "kernel-cluster-" in out
    assert " 42" in out
    place.wait_until_nothing_is_left()


def test_a_client_that_is_killed_leaves_a_pod_that_ends_by_itself_but_not_while_it_computes(place: Place) -> None:
    place.configure(kernel_idle_timeout=30.0)
    code = (
        "import time\nfrom jupyter_client.manager import KernelManager\n"
        f"manager = KernelManager(kernel_name={KERNEL!r})\nmanager.start_kernel()\n"
        "client = manager.client()\nclient.start_channels()\nclient.wait_for_ready(200)\n"
        "client.execute('import time; time.sleep(45)')\ntime.sleep(3)\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "up"
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed = time.monotonic()
    assert [pod.status.phase for pod in place.pods()] == ["Running"]
    wait_for("the pod to end", lambda: all(pod.status.phase == "Succeeded" for pod in place.pods()))
    # 45 s of computing, less the 3 s before the kill; then 30 s of silence.
    assert time.monotonic() - killed > 60
    listed = CliRunner(env={"COLUMNS": "250"}).invoke(mlops, ["kernels", "list", "--json"], prog_name="jupyter mlops")
    assert listed.exit_code == 0, listed.output
    assert [(each["state"], each["profile"]) for each in json.loads(listed.output)["kernels"]] == [
        ("succeeded", "cluster")
    ]


def test_an_image_that_is_not_there_ends_the_start_at_once_with_a_sentence(place: Place) -> None:
    with empty_registry() as address:
        place.configure(profile={"image": f"{address}/no/such:1"}, kernel_start_timeout=600.0)
        manager = KernelManager(kernel_name=KERNEL)
        began = time.monotonic()
        with pytest.raises(KubernetesError, match=f"{address}/no/such:1"):
            manager.start_kernel()
    assert time.monotonic() - began < 300
    place.wait_until_nothing_is_left()


def test_a_place_that_does_not_come_is_told_after_the_configured_time(place: Place) -> None:
    place.configure(profile={"cpus": 5000}, kernel_start_timeout=8.0)
    manager = KernelManager(kernel_name=KERNEL)
    with pytest.raises(KubernetesError, match=r"The kernel (did not start within 8 s|asks for 5000)"):
        manager.start_kernel()
    place.wait_until_nothing_is_left()


def test_without_the_right_it_is_told_which_one_to_ask_for(
    place: Place, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = role_manifest(namespace=place.namespace)["rules"]
    limited = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "limited", place.namespace, rules)
    monkeypatch.setenv("KUBECONFIG", str(limited))
    manager = KernelManager(kernel_name=KERNEL)
    with pytest.raises(KubernetesError, match="pods/portforward") as refused:
        manager.start_kernel()
    assert "- get" in refused.value.hint
    assert "- create" in refused.value.hint
    place.wait_until_nothing_is_left()


def test_a_jupyter_server_starts_executes_and_restarts_after_a_loss(place: Place, tmp_path: Path) -> None:
    from kubernetes import client as k

    with jupyter_server(tmp_path) as (call, connect):
        assert KERNEL in call("GET", "/api/kernelspecs")["kernelspecs"]
        found = call("POST", "/api/kernels", {"name": KERNEL})
        sock = connect(found["id"])
        assert reply_of(sock, "print(6 * 7)") == "42\n"
        pod = place.pods()[0].metadata
        call("POST", f"/api/kernels/{found['id']}/restart")
        assert reply_of(sock, "print(2)") == "2\n"
        assert place.pods()[0].metadata.uid == pod.uid

        k.CoreV1Api(place.admin).delete_namespaced_pod(pod.name, place.namespace, grace_period_seconds=0)
        wait_for("a new pod", lambda: [
            each for each in place.pods() if each.metadata.uid != pod.uid and each.status.phase == "Running"
        ])  # fmt: skip
        wait_for("the kernel", lambda: call("GET", f"/api/kernels/{found['id']}")["execution_state"] != "restarting")
        assert reply_of(sock, "print(3)") == "3\n"
        sock.close()
        call("DELETE", f"/api/kernels/{found['id']}")
        place.wait_until_nothing_is_left()
    log = (tmp_path / "server.log").read_text()
    assert "The kernel's pod was deleted." in log


@contextmanager
def jupyter_server(tmp_path: Path) -> Iterator[tuple[Callable[..., Any], Callable[[str], Any]]]:
    """A real Jupyter server: its REST calls, and a websocket to a kernel."""
    import socket

    import urllib3
    from websocket import create_connection

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    token = "only-for-these-tests"
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={tmp_path}",
    ]  # fmt: skip
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ))
    pool = urllib3.PoolManager()
    base = f"http://127.0.0.1:{port}"

    def call(method: str, path: str, body: Any = None) -> Any:
        answer = pool.request(
            method, base + path, body=json.dumps(body or {}), headers={"Authorization": f"token {token}"},
            timeout=PATIENCE, retries=False,
        )  # fmt: skip
        assert answer.status < 300, answer.data
        return json.loads(answer.data) if answer.data else None

    def is_up() -> bool:
        try:
            call("GET", "/api/status")
        except (urllib3.exceptions.HTTPError, AssertionError):
            return False
        return True

    try:
        wait_for("the Jupyter server", is_up, (tmp_path / "server.log").read_text)
        yield (
            call,
            lambda kernel_id: create_connection(
                f"ws://127.0.0.1:{port}/api/kernels/{kernel_id}/channels?token={token}", timeout=PATIENCE
            ),
        )
    finally:
        process.terminate()
        process.wait(PATIENCE)


def reply_of(sock: Any, code: str) -> str:
    """What a cell prints, through the server's websocket."""
    import uuid

    header = {
        "msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": uuid.uuid4().hex, "username": "ann",
        "version": "5.3", "date": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    until = time.monotonic() + PATIENCE
    found: list[str] = []
    sock.send(json.dumps({
        "header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell", "buffers": []
    }))  # fmt: skip
    while time.monotonic() < until:
        message = json.loads(sock.recv())
        if message["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        if message["msg_type"] == "stream":
            found.append(message["content"]["text"])
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return "".join(found)
    raise queue.Empty
