"""Process 1 of a node's namespaces: hides what the parts would write elsewhere, starts them, reaps, and ends with them.

Run by `processes.py` through `unshare`, with directories as arguments. When this process ends, in whatever way, the kernel
ends every process of its namespace, and with the last of them go their mounts and network: this is why nothing can be left
behind. Uses the standard library only, and knows neither Kubernetes nor the network.
"""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# Where Kubernetes, containerd and the network plugins write without asking.
_HIDDEN = ("/run", "/var/lib", "/var/log")
# The kubelet sets these for the whole machine; here it sets copies.
_SYSCTLS = ("vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
            "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes")  # fmt: skip
_ENDING_SECONDS = 15.0
_LOOK_SECONDS = 0.2


class Node(socketserver.UnixStreamServer):
    """Takes one order a connection, a line of JSON, and answers with another."""

    request_queue_size = 64

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        super().__init__(str(directory / "node.sock"), Order)

    def service_actions(self) -> None:
        """Between orders: reap, and end when the directory was taken away."""
        self.reap()
        if not (self.directory / "node.sock").exists():
            os._exit(1)

    def reap(self) -> None:
        """Collect every process that ended: ours, and the orphans that process 1 inherits."""
        by_pid = {process.pid: process for process in self.processes.values()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in by_pid:
                by_pid[pid].returncode = os.waitstatus_to_exitcode(status)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Carry out one order."""
        what, name = order["order"], order.get("name", "")
        if what == "start":
            self.start(name, order["argv"])
        elif what == "signal":
            self.processes[name].send_signal(order["signal"])
        elif what == "stop":
            self.stop(name)
        elif what != "states":
            raise ValueError(f"unknown order {what!r}")
        self.reap()
        return {name: process.returncode for name, process in self.processes.items()}

    def start(self, name: str, argv: list[str]) -> None:
        """Start a part unless it runs; what it prints is appended to its log."""
        running = self.processes.get(name)
        if running is not None and running.returncode is None:
            return
        with (self.directory / "logs" / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
            )

    def stop(self, name: str) -> None:
        """End a part as a crash does, and wait for its end."""
        process = self.processes[name]
        if process.returncode is None:
            process.kill()
        until = time.monotonic() + _ENDING_SECONDS
        while process.returncode is None and time.monotonic() < until:
            self.reap()
            time.sleep(0.01)


class Order(socketserver.StreamRequestHandler):
    """One connection."""

    timeout = 30

    def handle(self) -> None:
        """Answer with the exit status of each part that was started, null while it runs, or with what went wrong."""
        assert isinstance(self.server, Node)
        try:
            answer: dict[str, Any] = {"states": self.server.obey(json.loads(self.rfile.readline()))}
        except Exception as error:  # process 1 must not end because an order was wrong
            answer = {"error": f"{type(error).__name__}: {error}"}
        with suppress(BrokenPipeError):
            self.wfile.write(json.dumps(answer).encode() + b"\n")


def hide(directory: Path, kept: list[Path], in_memory: list[Path]) -> None:
    """In this mount namespace alone, put the node's own directories where its parts write without asking.

    Args:
        directory: The node's directory; receives what they write.
        kept: Directories that stay reachable under their names although they may lie in a hidden one.
        in_memory: Directories whose contents are not to go to the disk.
    """
    mounts: dict[Path, Path] = {}
    for name in _HIDDEN:
        mounts[Path(name)] = directory / "hidden" / name.strip("/").replace("/", "-")
        mounts[Path(name)].mkdir(parents=True, exist_ok=True)
    for name in _SYSCTLS:
        real = Path("/proc/sys", name)
        if real.exists():
            mounts[real] = directory / "hidden" / name.replace("/", "-")
            mounts[real].write_text(real.read_text())
    mounts |= {one: one for one in kept if any(one.is_relative_to(name) for name in _HIDDEN)}
    # Everything is opened before anything is hidden, and mounted by its handle: its name may be hidden by then.
    handles = {target: os.open(source, os.O_PATH) for target, source in mounts.items()}
    for target, handle in handles.items():
        if target in kept:
            target.mkdir(parents=True, exist_ok=True)
        _mount("--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{handle}", str(target))
        os.close(handle)
    for path in in_memory:
        _mount("-t", "tmpfs", "-o", "mode=700", "tmpfs", str(path))
    # What a pod mounts with propagation must reach the other parts.
    _mount("--make-rshared", "/")


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main() -> None:
    """Become the node; returns when told to end. The arguments: the cache, what goes to memory, the node's directory."""
    cache, *in_memory, directory = map(Path, sys.argv[1:])
    hide(directory, [directory, cache], in_memory)
    with Node(directory) as node:
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda *_: os._exit(0))
        node.serve_forever(poll_interval=_LOOK_SECONDS)


if __name__ == "__main__":
    main()
