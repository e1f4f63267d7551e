"""Nothing of a node is left on the machine, however it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from . import access, image, lifecycle, network, processes, requirements
from .cache import ClusterError
from .places import CACHE, OTHER_CLUSTER_VARIABLE, Place
from .pods import pod_spec, run_pod, wait_for, wait_for_phase

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
# Where Kubernetes, containerd and the network plugins write when nobody stops them.
FOREIGN = ("/run/containerd", "/run/netns", "/run/xtables.lock", "/run/flannel", "/var/lib/kubelet", "/var/lib/cni",
           "/var/lib/containerd", "/var/lib/etcd", "/var/log/pods", "/var/log/containers", "/etc/cni",
           "/usr/libexec/kubernetes")  # fmt: skip
SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
           "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes", "net/ipv4/ip_forward",
           "net/netfilter/nf_conntrack_max")  # fmt: skip


@pytest.fixture(scope="session")
def able() -> None:
    """Whether a node can be made here; in somebody's own cluster there is none to take down."""
    if os.environ.get(OTHER_CLUSTER_VARIABLE):
        pytest.skip(f"{OTHER_CLUSTER_VARIABLE} names another cluster")
    if reasons := requirements.missing():
        message = str(lifecycle.MissingError(reasons))
        pytest.fail(message, pytrace=False) if os.environ.get("CI") else pytest.skip(message)


@pytest.fixture
def second(able: None) -> Iterator[Place]:
    """A node beside the one of the other tests, with which it shares nothing."""
    second = Place("teardown")
    lifecycle.down(second)
    yield second
    lifecycle.down(second)


def test_down_leaves_nothing_of_a_node_with_pods_on_it(second: Place) -> None:
    before = Traces.of_the_machine(second)
    _command(second, "up")
    held = _start_a_pod(second)
    assert len(held.processes) > 10, "etcd, containerd, six parts, two shims and containers, or it proves nothing"
    assert held.network != before.network
    assert "is down" in _command(second, "down")
    _assert_gone(second, held, before)
    assert "is down" in _command(second, "down"), "once more does nothing and says the same"
    _assert_gone(second, held, before)


@pytest.mark.parametrize("part", ["etcd", "kube-apiserver", "kubelet"])
def test_down_leaves_nothing_of_a_bring_up_that_was_killed(second: Place, part: str) -> None:
    before = Traces.of_the_machine(second)
    bring_up = subprocess.Popen(_argv(second, "up"), cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL)
    wait_for(f"{part} to be started", (second.logs / f"{part}.log").exists)
    bring_up.kill()
    bring_up.wait()
    held = Traces.of_the_node(second)
    assert held.processes
    assert "not up" in _command(second, "status", status=1)
    _command(second, "down")
    _assert_gone(second, held, before)


def test_a_node_whose_first_process_is_killed_is_gone_and_comes_up_again(second: Place) -> None:
    before = Traces.of_the_machine(second)
    _command(second, "up")
    held = _start_a_pod(second)
    os.kill(lifecycle.process(second), signal.SIGKILL)
    wait_for("the node's processes to end", lambda: not processes.node_process(second) and not held.alive())
    assert "not up" in _command(second, "status", status=1)
    assert "is up after" in _command(second, "up")
    again = Traces.of_the_node(second)
    _command(second, "down")
    _assert_gone(second, held, before)
    _assert_gone(second, again, before)


def test_a_part_that_dies_is_named_with_the_end_of_its_log(second: Place) -> None:
    second.directory.mkdir(parents=True)
    processes.start_node(second)
    processes.start(second, "etcd", ["sh", "-c", "echo cannot read the disk; exit 3"])
    with pytest.raises(ClusterError, match=r"(?s)etcd ended with exit status 3; .*etcd.log:\n  cannot read"):
        lifecycle._wait(second, "nothing", lambda: False)


@dataclass
class Traces:
    """What a node is to the machine, or what the machine is without it."""

    processes: dict[int, float] = field(default_factory=dict)
    """Number and start time, which together name a process for ever."""

    namespaces: set[str] = field(default_factory=set)
    mounts: list[str] = field(default_factory=list)
    network: set[str] = field(default_factory=set)
    cgroups: list[Path] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_the_node(cls, place: Place) -> Traces:
        """Every process of the node and of its pods, and every namespace that one of them is in and we are not."""
        traces = cls()
        for root in processes._processes(place):
            for process in [psutil.Process(root), *psutil.Process(root).children(recursive=True)]:
                traces.processes[process.pid] = process.create_time()
                traces.namespaces |= _namespaces(process.pid)
        traces.namespaces -= _namespaces(os.getpid())
        pid = processes.node_process(place)
        if pid is not None:
            with network.entered(pid):
                traces.network = _links()
        return traces

    @classmethod
    def of_the_machine(cls, place: Place) -> Traces:
        """What must be as before."""
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return cls(
            mounts=[
                line for line in mounts if str(place.directory) in line or "/run/netns" in line or "kubelet" in line
            ],
            network=_links(),
            cgroups=[*Path("/sys/fs/cgroup").glob(f"**/*{place.cgroup}*")],
            files={name: _listing(Path(name)) for name in FOREIGN},
            sysctls={name: path.read_text() for name in SYSCTLS if (path := Path("/proc/sys", name)).exists()},
        )

    def alive(self) -> list[int]:
        """Which of the processes are still there."""
        return [pid for pid, start in self.processes.items() if _start_time(pid) == start]


def _assert_gone(place: Place, held: Traces, before: Traces) -> None:
    assert held.alive() == []
    everybody = set().union(*(_namespaces(pid) for pid in psutil.pids() if _start_time(pid)))
    assert held.namespaces
    assert held.namespaces & everybody == set()
    assert Traces.of_the_machine(place) == before
    assert before.cgroups == []
    assert not place.directory.exists()


def _start_a_pod(place: Place) -> Traces:
    """A pod with a volume in memory, so that there are mounts, a network and control groups to leave behind."""
    with network.entered(lifecycle.process(place)), access.client(place.admin_kubeconfig) as api:
        namespace = access.create_namespace(api)
        spec = pod_spec(image.pause().tag, "/pause", volumes=[{"name": "memory", "emptyDir": {"medium": "Memory"}}])
        spec["containers"][0]["volumeMounts"] = [{"name": "memory", "mountPath": "/memory"}]
        run_pod(api, namespace, "stays", spec)
        wait_for_phase(api, namespace, "stays", "Running")
    return Traces.of_the_node(place)


def _listing(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir()) if path.is_dir() else [str(path.exists())]


def _links() -> set[str]:
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line.partition(":")[0].strip() for line in lines} | {f"named {name}" for name in names}


def _namespaces(pid: int) -> set[str]:
    found = set()
    for kind in ("net", "mnt", "pid", "ipc", "uts"):
        try:
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
        except OSError:
            continue
    return found


def _start_time(pid: int) -> float | None:
    """When a process started; None when it has ended."""
    try:
        process = psutil.Process(pid)
        # What has ended and was not yet collected by the machine's process 1 holds nothing.
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None


def _argv(place: Place, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.cluster", "--name", place.name, *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(CACHE.parents[1])}


def _command(place: Place, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        _argv(place, *arguments), cwd=ROOT, env=_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout
