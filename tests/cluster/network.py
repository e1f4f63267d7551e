"""The node's network: its addresses and routes, and how a test enters it. No packet of it leaves the machine."""

from __future__ import annotations

import ctypes
import os
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import ClusterError
from .places import GATEWAY, NODE_ADDRESS, NODE_PREFIX, SERVICE_RANGE

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLONE_NEWNET = 0x40000000


@contextmanager
def entered(pid: int) -> Iterator[None]:
    """Be in the network of a process, and come back.

    Only the calling thread enters, with the threads and processes that it starts meanwhile. Sockets stay in the network
    that they were made in.

    Args:
        pid: A process in that network.
    """
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        goal = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(goal)
        finally:
            os.close(goal)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)


def _enter(descriptor: int) -> None:
    # Python has os.setns since 3.12; this package runs on 3.10.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter the network: {os.strerror(number)}")


def set_up() -> None:
    """Give the network that we are in the node's address and its routes. Call it inside `entered`."""
    # Not every kernel has `dummy` devices. Of a pair of virtual cables both ends stay here: one is the node's address.
    for arguments in (
        ["link", "set", "lo", "up"],
        ["link", "add", "node0", "type", "veth", "peer", "name", "node0-end"],
        ["link", "set", "node0-end", "up"],
        ["address", "add", f"{NODE_ADDRESS}/{NODE_PREFIX}", "dev", "node0"],
        ["link", "set", "node0", "up"],
        # Nothing answers there: kube-proxy's rules, which come after the choice of a route, replace the address.
        ["route", "add", SERVICE_RANGE, "via", GATEWAY, "dev", "node0"],
        # What leads elsewhere fails at once and not after a time-out.
        ["route", "add", "unreachable", "default"],
    ):
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ClusterError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    # /proc/sys/net shows the network of the thread that looks.
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
