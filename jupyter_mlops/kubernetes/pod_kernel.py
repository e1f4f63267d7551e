"""The first process of a kernel's pod: starts the image's ipykernel, again when asked to, and ends when nobody is left.

The kernel and this listen on the pod's 127.0.0.1 only; clients come through the API server (`forward`). A client that
knows the token of the Secret speaks in lines of JSON: it says `start`, `signal` and `ping`, and hears `hello`, `ready`,
`ended`, `executing` and `leaving`. A restart is a new kernel process in the same pod: the GPU is not given away.

When no client has been heard for a time and the kernel executes nothing, the pod ends: whoever started it is gone, and
a GPU must not wait for them. Knows no Kubernetes.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from ..worker import become_subreaper
from . import contract

_TICK = 0.2
_KERNEL_ENDS = 5.0
"""Seconds between SIGTERM and SIGKILL for a kernel."""
_SLOW_CLIENT = 10
"""Seconds."""
_KEPT_LINES, _KEPT_CHARACTERS = 30, 1500
"""Of what a kernel printed to its standard error before it died."""
_LONGEST_LINE = 2**20


class Kernel:
    """One kernel process.

    Args:
        generation: Which one it is, by the client's count.
        secret: `key` and `signature_scheme`.
        env: More variables.
    """

    def __init__(self, generation: int, secret: Mapping[str, str], env: Mapping[str, str]) -> None:
        from ..engine.resources import count_oom_kills

        self.generation = generation
        self.code: int | None = None
        self._kills_before = count_oom_kills()
        self._printed: deque[str] = deque(maxlen=_KEPT_LINES)
        file = Path(contract.TEMPORARY_DIR) / "kernel-connection.json"
        connection = {
            "transport": "tcp", "ip": "127.0.0.1", "kernel_name": "python3", "key": secret["key"],
            "signature_scheme": secret["signature_scheme"], **contract.KERNEL_PORTS,
        }  # fmt: skip
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            json.dump(connection, opened)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipykernel_launcher", "-f", str(file)],
            env={**os.environ, **env}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self._reader = threading.Thread(target=self._copy, args=(self.process.stderr,), daemon=True)
        self._reader.start()

    def is_ready(self) -> bool:
        """Whether it listens on all of its ports."""
        for port in contract.KERNEL_PORTS.values():
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                return False
        return True

    def end(self) -> None:
        """Have it end, with its children; returns when it has."""
        if self.code is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_KERNEL_ENDS)
        self.end_at_once()

    def end_at_once(self) -> None:
        """Kill it and whatever it left behind; returns when it is gone."""
        import psutil

        if self.process.poll() is None:
            self.process.kill()
        # Whatever has lost its parent is a child of this process.
        for left in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                left.kill()
        self.code = self.process.wait()

    def ended(self) -> dict[str, Any]:
        """How it ended, for a client."""
        from ..engine.resources import count_oom_kills

        self._reader.join(1)
        return {
            "event": "ended",
            "generation": self.generation,
            "code": self.code,
            "memory": count_oom_kills() > self._kills_before,
            "printed": "".join(self._printed)[-_KEPT_CHARACTERS:],
        }

    def _copy(self, source: IO[bytes]) -> None:
        for raw in source:
            line = raw.decode("utf-8", "replace")
            if "running over TCP without encryption" in line:
                continue  # ipykernel cannot know that its ports are the pod's own and the way to them is encrypted
            self._printed.append(line)
            with contextlib.suppress(OSError):
                sys.stderr.write(line)


class Supervisor:
    """Serves clients and looks after the kernel.

    Args:
        secret: `token`, `key` and `signature_scheme`.
        idle: Seconds without a client after which it ends.
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, secret: Mapping[str, str], idle: float, port: int = contract.SUPERVISOR_PORT) -> None:
        self._secret = secret
        self._idle = idle
        self._lock = threading.RLock()
        self._clients: set[socket.socket] = set()
        self._kernel: Kernel | None = None
        self._ended: dict[str, Any] | None = None
        self._ready = False
        self._executing: dict[str, Any] | None = None
        self._heard = time.monotonic()
        self._leaving = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))

    def leave(self, *_: object) -> None:
        """Have `run` return soon; a handler of signals."""
        self._leaving.set()

    def run(self) -> int:
        """Serve until told to leave, or until nobody has been heard of for too long; the exit status."""
        become_subreaper()  # also where the image or the pod has another first process
        threading.Thread(target=self._accept, daemon=True).start()
        while not self._leaving.wait(_TICK):
            self._look()
            if self._executing is not None:
                self._heard = time.monotonic()
            if time.monotonic() - self._heard > self._idle:
                sys.stderr.write(f"No client for {self._idle:.0f} s and nothing is executed: the kernel's pod ends.\n")
                break
        self._tell({"event": "leaving"})
        with self._lock:
            if self._kernel is not None:
                self._kernel.end()
        # Told to leave, it has not succeeded: only so do Kubernetes' objects tell it from an end for want of clients.
        return contract.EXIT_INTERRUPTED if self._leaving.is_set() else 0

    def _look(self) -> None:
        with self._lock:
            kernel = self._kernel
            if kernel is None or kernel.code is not None:
                return
            if kernel.process.poll() is not None:
                kernel.end_at_once()
                self._executing = None
                self._ended = kernel.ended()
                self._tell(self._ended)
            elif not self._ready and kernel.is_ready():
                self._ready = True
                self._tell({"event": "ready", "generation": kernel.generation})
        _reap(kernel.process.pid)

    def _start(self, generation: int, env: Mapping[str, str]) -> None:
        with self._lock:
            if self._kernel is not None:
                if self._kernel.generation >= generation:
                    return  # asked twice, because the connection broke in between
                self._kernel.end()
            self._ready, self._executing, self._ended = False, None, None
            self._kernel = Kernel(generation, self._secret, env)
            threading.Thread(target=self._listen, args=(self._kernel,), daemon=True).start()

    def _listen(self, kernel: Kernel) -> None:
        """Know what is executed, from what the kernel publishes."""
        import zmq
        from jupyter_client.session import Session

        session = Session(key=self._secret["key"].encode(), signature_scheme=self._secret["signature_scheme"])
        with zmq.Context() as context, context.socket(zmq.SUB) as sock:
            sock.rcvhwm = 0  # an "idle" that is lost would keep the pod for ever
            sock.subscribe(b"")
            sock.connect(f"tcp://127.0.0.1:{contract.KERNEL_PORTS['iopub_port']}")
            while kernel.code is None and kernel is self._kernel:
                if not sock.poll(500):
                    continue
                topics, parts = session.feed_identities(sock.recv_multipart())
                if not topics or not topics[0].endswith(b"status"):
                    continue
                with contextlib.suppress(ValueError):
                    self._took(kernel, session.deserialize(parts))

    def _took(self, kernel: Kernel, message: Mapping[str, Any]) -> None:
        parent = message.get("parent_header") or {}
        if message["msg_type"] != "status" or parent.get("msg_type") != "execute_request":
            return
        busy = message["content"].get("execution_state") == "busy"
        with self._lock:
            if kernel is not self._kernel or kernel.code is not None:
                return
            self._executing = {"parent": json.loads(json.dumps(parent, default=str))} if busy else None
            self._heard = time.monotonic()
            self._tell({"event": "executing", **(self._executing or {"parent": None})})

    def _accept(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", _SLOW_CLIENT, 0))
        # Not `settimeout`, which would be for reading as well, and for the thread that reads at this moment.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SLOW_CLIENT, 0))
        with client, contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            lines = client.makefile("rb")
            hello = json.loads(lines.readline(_LONGEST_LINE))
            if not hmac.compare_digest(str(hello["token"]).encode(), self._secret["token"].encode()):
                return
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 0))
            with self._lock:
                self._clients.add(client)
                self._send(client, self._state())
            try:
                while line := lines.readline(_LONGEST_LINE):
                    self._heard = time.monotonic()
                    self._do(client, json.loads(line))
            finally:
                with self._lock:
                    self._clients.discard(client)

    def _state(self) -> dict[str, Any]:
        kernel = self._kernel
        return {
            "event": "hello", "version": contract.VERSION, "generation": kernel.generation if kernel else 0,
            "ready": self._ready, "ended": self._ended, "parent": (self._executing or {}).get("parent"),
        }  # fmt: skip

    def _do(self, client: socket.socket, asked: Mapping[str, Any]) -> None:
        if asked["do"] == "ping":
            self._send(client, {"event": "pong"})
        elif asked["do"] == "start":
            env = {str(key): str(value) for key, value in (asked.get("env") or {}).items()}
            self._start(int(asked["generation"]), env)
        elif asked["do"] == "signal":
            self._signal(int(asked["generation"]), int(asked["number"]))

    def _signal(self, generation: int, number: int) -> None:
        with self._lock:
            kernel = self._kernel
            if kernel is None or kernel.generation != generation or kernel.process.poll() is not None:
                return
            if number == signal.SIGKILL:
                kernel.end_at_once()
                self._ready, self._executing, self._ended = False, None, kernel.ended()
                self._tell(self._ended)
                return
        with contextlib.suppress(OSError):
            os.killpg(kernel.process.pid, number)

    def _tell(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            for client in list(self._clients):
                self._send(client, event)

    def _send(self, client: socket.socket, event: Mapping[str, Any]) -> None:
        with self._lock:
            try:
                client.sendall(json.dumps(event).encode() + b"\n")
            except OSError:
                self._clients.discard(client)
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)


def _reap(kernel: int) -> None:
    """Bury the dead that the first process of a container inherits, but for the kernel, whose exit status is asked."""
    with contextlib.suppress(ChildProcessError):
        while (dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if dead.si_pid == kernel:
                return
            os.waitpid(dead.si_pid, 0)


def main() -> int:
    """Run the kernel's pod."""
    secret = json.loads((Path(contract.KERNEL_DIR) / contract.KERNEL_FILE).read_text(encoding="utf-8"))
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    supervisor = Supervisor(secret, float(os.environ[contract.IDLE_VARIABLE]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, supervisor.leave)
    return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
