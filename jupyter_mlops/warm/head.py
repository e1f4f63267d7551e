"""The head of a cluster: `python -m jupyter_mlops.warm.head DIRECTORY`, or the same in a pod (`pod_head`).

One process with the Dask scheduler and the acceptor of runs. It ends by itself: after its lifetime, after the time
without a task or a run, or when it is told to; with it ends everything that it started. Nobody has to look after it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cluster_spec import ClusterSpec
from ..startup import start_quickly
from ..worker import birth_of
from . import calls
from .known import HEAD_FILE, write_private
from .spare import CLUSTER_VARIABLE

_NOT_THEIRS = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "JPY_SESSION_NAME",
               "JUPYTER_MLOPS_RUN_ID", "JUPYTER_MLOPS_RUN_DIR", "JUPYTER_MLOPS_SOURCE", "JPY_PARENT_PID",
               "JUPYTER_MLOPS_MLFLOW_RUN_ID")  # fmt: skip
"""What the process that started the cluster may have of its own run or kernel."""
_OVERTIME = 90.0
"""Seconds that the end in order may take; then the process ends as it is, and what it started with it."""
_TICK = 0.25
_CLOSING = 20.0


@dataclass(frozen=True)
class Site:
    """Where a head is: what differs between this machine and a pod.

    Attributes:
        certificates: Directory of the cluster's certificate.
        start: Starts the scheduler, with or without workers: a `distributed.LocalCluster`.
        scale: Changes the number of workers of that cluster.
        address: Of the scheduler, as it is found from the engines; None: as it tells itself.
        published: Called with the head's own facts once it answers.
        before_end: Called before the scheduler ends.
    """

    certificates: Path
    start: Callable[[Any], Any]
    scale: Callable[[Any, int], Awaitable[None]]
    address: str | None = None
    published: Callable[[dict[str, Any]], None] = lambda _facts: None
    before_end: Callable[[], None] = lambda: None


class Head:
    """A head from its start to its end.

    Args:
        spec: The cluster.
        site: Where it is.
    """

    def __init__(self, spec: ClusterSpec, site: Site) -> None:
        self._spec = spec
        self._site = site
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._why = ""
        self._idle_since: float | None = None
        self._cluster: Any = None

    def run(self) -> None:
        """Serve until the end."""
        from ..config import load_config
        from .acceptor import Acceptor

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: self.end("the head was told to end"))
        config = load_config()
        self._cluster = cluster = self._site.start(calls.security_of(self._site.certificates))
        scheduler, http = cluster.scheduler, f"http://127.0.0.1:{cluster.scheduler.http_server.port}"
        address = self._site.address or scheduler.address
        acceptor = Acceptor(
            config,
            engine_variables(os.environ, self._spec, self._site.certificates, address, http),
            state=self.state,
            scale=lambda workers: self._site.scale(cluster, workers),
        )
        acceptor.attach(scheduler)
        self._site.published({"address": address, "http": http})
        while not self._stopped.wait(_TICK):
            self._look(acceptor)
        threading.Timer(_OVERTIME, os._exit, [1]).start()
        _say(f"The cluster {self._spec.name} ends: {self._why}.")
        acceptor.close(f"the end of the cluster {self._spec.name} ({self._why})")
        self._site.before_end()
        with suppress(Exception):  # what is left of it ends with this process
            cluster.close(timeout=_CLOSING)

    def end(self, why: str) -> None:
        """Have it end; the first reason counts. May be called from any thread and from a signal handler."""
        self._why = self._why or why
        self._stopped.set()

    def state(self) -> dict[str, Any]:
        """What the head tells of itself."""
        scheduler = self._cluster.scheduler
        idle = 0.0 if self._idle_since is None else time.monotonic() - self._idle_since
        return {
            "cluster_id": self._spec.cluster_id,
            "workers": len(scheduler.workers),
            "threads": sum(worker.nthreads for worker in scheduler.workers.values()),
            "idle_left": max(0.0, self._spec.idle_timeout - idle),
            "lifetime_left": max(0.0, self._spec.lifetime - (time.monotonic() - self._began)),
            "dashboard": _has_pages(),
        }

    def _look(self, acceptor: Any) -> None:
        now = time.monotonic()
        if now - self._began > self._spec.lifetime:
            self.end(f"its lifetime of {_seconds(self._spec.lifetime)} is over")
        if self._cluster.scheduler.status.name in ("closing", "closed"):  # `client.shutdown()`
            self.end("its Dask scheduler was shut down")
            return
        if acceptor.active() or self._cluster.sync(_is_busy, self._cluster.scheduler):
            acceptor.last_use = now
            self._idle_since = None
            return
        self._idle_since = acceptor.last_use
        if now - acceptor.last_use > self._spec.idle_timeout:
            self.end(f"nothing ran on it for {_seconds(self._spec.idle_timeout)}")


def main(arguments: list[str] | None = None) -> int:
    """Run the head of a cluster on this machine, and remove its directory at the end.

    Args:
        arguments: The cluster's directory.
    """
    start_quickly()
    directory = Path((sys.argv[1:] if arguments is None else arguments)[0])
    spec = ClusterSpec.read(directory)
    data = directory / "data"
    data.mkdir(mode=0o700, exist_ok=True)
    os.environ["JUPYTER_MLOPS_DATA_DIR"] = str(data)
    for name in _NOT_THEIRS:
        os.environ.pop(name, None)
    threading.Timer(spec.lifetime + _OVERTIME, os._exit, [1]).start()

    def published(facts: dict[str, Any]) -> None:
        process = {"pid": os.getpid(), "born": birth_of(os.getpid()), "host": socket.gethostname()}
        write_private(directory / HEAD_FILE, json.dumps({**process, **facts}).encode())

    status = 0
    try:

        def start(security: Any) -> Any:
            return _start_here(spec, security)

        Head(spec, Site(directory, start, _scale_here, published=published)).run()
    except Exception as error:  # noqa: BLE001 - who started it reads the last line
        _say(getattr(error, "message", f"{type(error).__name__}: {error}"))
        status = 1
    _end_children()
    if status == 0:
        shutil.rmtree(directory, ignore_errors=True)
    sys.stderr.flush()
    os._exit(status)


def engine_variables(
    environment: Mapping[str, str], spec: ClusterSpec, certificates: Path, address: str, http: str
) -> dict[str, str]:
    """The environment of the engines: in it a notebook's `get_client()` finds the cluster.

    Args:
        environment: The head's.
        spec: The cluster.
        certificates: Directory of its certificate.
        address: Of the scheduler.
        http: Address of its HTTP server, from beside it.
    """
    from ..cluster.client import HTTP_VARIABLE, WORKERS_VARIABLE

    return {
        **environment,
        **calls.client_variables(certificates, address),
        WORKERS_VARIABLE: "1",  # how many there are changes; a run does not wait for more than the first
        HTTP_VARIABLE: http,
        CLUSTER_VARIABLE: spec.name,
    }


def _start_here(spec: ClusterSpec, security: Any) -> Any:
    from dask.system import CPU_COUNT

    from ..cluster.local import can_import, plan_cluster, start_cluster, visible_gpus

    gpus = [] if spec.profile.gpus == 0 else visible_gpus()
    plan = plan_cluster(spec.profile, gpus, can_import("dask_cuda"), CPU_COUNT, has_rmm=can_import("rmm"))
    return start_cluster(plan, security=security)


async def _scale_here(cluster: Any, workers: int) -> None:
    """Runs in the scheduler's own event loop."""
    leaving = list(cluster.worker_spec)[workers:]
    if leaving:
        # The cluster's own `scale` names them where the scheduler wants addresses (distributed 2026.8): nobody retires
        # then, and what only they hold is lost.
        await cluster.scheduler.retire_workers(names=leaving, close_workers=False, remove=False)
        for name in leaving:
            cluster.worker_spec.pop(name, None)
    cluster.scale(workers)


async def _is_busy(scheduler: Any) -> bool:
    return scheduler.check_idle() is None


def _has_pages() -> bool:
    from ..cluster.local import can_import

    return can_import("bokeh")


def _end_children() -> None:
    import psutil

    from ..engine.stop import end_tree

    for child in psutil.Process().children():
        end_tree(child)


def _seconds(count: float) -> str:
    return f"{count:g} s" if count < 120 else f"{count / 60:g} min"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
