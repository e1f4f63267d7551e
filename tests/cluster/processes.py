"""Starts a node's namespaces, gives orders to its process 1, finds and ends it. Knows no part by name.

A node is found by looking at the machine's processes, not by a file: a file can be missing or stale after a crash.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import ClusterError
from .places import CACHE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .places import Place

_PROGRAM = Path(__file__).with_name("node.py")
_PATIENCE = 60.0
_TAIL = 25


def start_node(place: Place, *in_memory: Path) -> int:
    """Start a node without parts.

    Args:
        place: The node; its directory is there.
        in_memory: Directories of the node whose contents are not to go to the disk.

    Returns:
        The number of its process 1 as this machine counts.

    Raises:
        ClusterError: If it does not come up.
    """
    place.logs.mkdir(parents=True, exist_ok=True)
    with (place.logs / "node.log").open("ab") as log:
        child = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--mount-proc", "--net", "--ipc", "--uts",
             "--fork", "--kill-child", str(Path(sys.executable).absolute()), "-E", "-s", str(_PROGRAM), str(CACHE),
             *map(str, in_memory), str(place.directory)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/",
            env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LANG": "C.UTF-8"},
        )  # fmt: skip
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with suppress(OSError):
            states(place)
            found = node_process(place)
            if found is not None:
                child.returncode = 0  # it stays when we end: no warning about a child that was not waited for
                return found
        if child.poll() is not None:
            break
        time.sleep(0.02)
    raise ClusterError(f"the node's first process did not start\n{tail(place, 'node')}")


def node_process(place: Place) -> int | None:
    """The number of the node's process 1 as this machine counts, or None when there is none."""
    for pid in _processes(place):
        with suppress(OSError):
            status = Path("/proc", str(pid), "status").read_text()
            seen_as = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
            if len(seen_as) > 1 and seen_as[-1] == "1":
                return pid
    return None


def end_node(place: Place) -> None:
    """End the node with all of its processes and wait until the last one is gone.

    Raises:
        ClusterError: If something does not end.
    """
    # A second look: the first may have come between the end of one process and the start of the other.
    while found := [*_processes(place)]:
        for pid in found:
            # A handle names this process and no later one of that number. It is readable when the process has ended; for
            # process 1 of a namespace that is after all others in it.
            with suppress(ProcessLookupError), os.fdopen(os.pidfd_open(pid)) as handle:
                signal.pidfd_send_signal(handle.fileno(), signal.SIGKILL)
                if not select.select([handle], [], [], _PATIENCE)[0]:
                    raise ClusterError(f"process {pid} of the node does not end")


def start(place: Place, name: str, argv: list[str]) -> None:
    """Start a part unless it runs."""
    _order(place, order="start", name=name, argv=argv)


def stop(place: Place, name: str) -> None:
    """End a part as a crash does, and wait for its end."""
    _order(place, order="stop", name=name)


def send(place: Place, name: str, sign: signal.Signals) -> None:
    """Send a signal to a part."""
    _order(place, order="signal", name=name, signal=int(sign))


def states(place: Place) -> dict[str, int | None]:
    """The exit status of each part that was started; None while it runs.

    Raises:
        OSError: If the node does not answer.
    """
    return _order(place, order="states")


def tail(place: Place, name: str) -> str:
    """The end of a part's log, with its path."""
    path = place.logs / f"{name}.log"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"({path} was not written)"
    return "\n".join([f"the end of {path}:", *(f"  {line[:400]}" for line in lines[-_TAIL:])])


def _order(place: Place, **order: object) -> dict[str, int | None]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_PATIENCE)
        connection.connect(str(place.control_socket))
        connection.sendall(json.dumps(order).encode() + b"\n")
        with connection.makefile("rb") as reply:
            answer = json.loads(reply.readline())
    if "error" in answer:
        raise ClusterError(f"the node refused the order {order}: {answer['error']}")
    found: dict[str, int | None] = answer["states"]
    return found


def _processes(place: Place) -> Iterator[int]:
    """Process 1 of the node and the `unshare` that waits for it, by exactly their arguments."""
    wanted = str(place.directory).encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            argv = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
            if argv[-1] == wanted and any(one.endswith(b"/cluster/node.py") for one in argv):
                yield int(entry.name)
