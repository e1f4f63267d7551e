"""Brings a node up, takes it down, says how it is: the whole story, read top to bottom."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from . import binaries, cgroups, image, network, pki, processes, requirements
from .cache import ClusterError, locked, say
from .components import Part, dns_rights, parts, write_configuration
from .health import api
from .places import CACHE, KUBERNETES_VERSION, NODE_NAME, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from .places import Place

_PATIENCE = 180.0
_LOOK_SECONDS = 0.05
_AMPLE_MEMORY_KB = 8 << 20
"""The product's image takes two of these eight GiB."""


class MissingError(ClusterError):
    """This machine lacks something that a node needs."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("no test cluster on this machine: " + "; ".join(reasons))


def up(place: Place) -> bool:
    """Bring the node up unless it is up and whole.

    Returns:
        Whether it was brought up by this call.

    Raises:
        MissingError: If this machine cannot have a node.
        ClusterError: If something fails; with the end of that part's log.
    """
    reasons = requirements.missing()
    if reasons:
        raise MissingError(reasons)
    with _lock(place):
        if not why_not_whole(place):
            return False
        _take_down(place)
        known = _parts(place)
        pause = image.pause()
        start = time.monotonic()
        try:
            _bring_up(place, known, pause)
        except BaseException:
            # What is left is kept for reading, except processes and what they hold.
            processes.end_node(place)
            cgroups.remove(place)
            raise
        say(f"Kubernetes {KUBERNETES_VERSION} '{place.name}' is up after {time.monotonic() - start:.1f} s")
    return True


def down(place: Place) -> None:
    """Take the node away with everything that belongs to it, whatever state it is in."""
    with _lock(place):
        _take_down(place)


def why_not_whole(place: Place) -> str:
    """What is wrong with the node, with the end of a log if that tells; empty when nothing is."""
    if processes.node_process(place) is None:
        return "it is not there"
    try:
        dead = _dead_part(place)
    except (OSError, ValueError):
        return "its first process does not answer"
    return dead or ("" if place.ready_mark.exists() else "it was not brought up to the end")


def process(place: Place) -> int:
    """A process in the node's network.

    Raises:
        ClusterError: If the node is not there.
    """
    found = processes.node_process(place)
    if found is None:
        raise ClusterError(f"the cluster '{place.name}' is not up: python -m tests.cluster up")
    return found


def start_part(place: Place, name: str) -> None:
    """Start a part that was stopped, and wait until it is well."""
    part = _parts(place)[name]
    with network.entered(process(place)):
        processes.start(place, name, part.argv)
        _wait_healthy(place, part)


def _parts(place: Place) -> dict[str, Part]:
    return parts(place, binaries.kubernetes(), binaries.coredns())


def _bring_up(place: Place, known: dict[str, Part], pause: image.Image) -> None:
    place.directory.mkdir(parents=True, mode=0o700)
    pki.issue_all(place)
    write_configuration(place)
    cgroups.create(place)
    with network.entered(processes.start_node(place, *_in_memory(place))):
        network.set_up()
        for name in ("etcd", "containerd"):
            processes.start(place, name, known[name].argv)
        _wait_healthy(place, known["etcd"])
        processes.start(place, "kube-apiserver", known["kube-apiserver"].argv)
        _wait_healthy(place, known["containerd"])
        image.load(place, pause.archive)
        _wait_healthy(place, known["kube-apiserver"])
        for path, body in dns_rights():
            api(place, "POST", path, body)
        for part in known.values():
            processes.start(place, part.name, part.argv)
        for part in known.values():
            _wait_healthy(place, part)
        _wait(place, "the node to be Ready", lambda: _node_is_ready(place))
        _wait(place, "the default service account", lambda: _has_default_account(place))
    place.ready_mark.touch()


def _in_memory(place: Place) -> list[Path]:
    """Images are many thousand files, and only the disk makes unpacking and removing them slow."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return [place.containerd_root] if found and int(found[1]) >= _AMPLE_MEMORY_KB else []


def _take_down(place: Place) -> None:
    processes.end_node(place)
    cgroups.remove(place)
    if place.directory.exists():
        shutil.rmtree(place.directory)
    with suppress(OSError):
        RUNNING.rmdir()  # unless another node is in it


def _wait_healthy(place: Place, part: Part) -> None:
    _wait(place, f"{part.name} to be well", part.healthy, part.name)


def _wait(place: Place, goal: str, reached: Callable[[], bool], name: str = "kubelet") -> None:
    until = time.monotonic() + _PATIENCE
    while not reached():
        if dead := _dead_part(place):
            raise ClusterError(dead)
        if time.monotonic() > until:
            raise ClusterError(f"waited {_PATIENCE:.0f} s for {goal}; {processes.tail(place, name)}")
        time.sleep(_LOOK_SECONDS)


def _dead_part(place: Place) -> str:
    for name, status in processes.states(place).items():
        if status is not None:
            return f"{name} ended with exit status {status}; {processes.tail(place, name)}"
    return ""


def _node_is_ready(place: Place) -> bool:
    with suppress(OSError):
        conditions = api(place, "GET", f"/api/v1/nodes/{NODE_NAME}")["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return False


def _has_default_account(place: Place) -> bool:
    with suppress(OSError):
        return bool(api(place, "GET", "/api/v1/namespaces/default/serviceaccounts/default"))
    return False


def _lock(place: Place) -> AbstractContextManager[None]:
    return locked(CACHE / f"node-{place.name}.lock")
