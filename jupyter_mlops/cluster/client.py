"""`get_client`: the one Dask client of this process, and what its scheduler tells about itself (`dask_use`).

The cluster ends with the process, however that ends: at a normal exit it is closed, and after a `kill -9` each worker
notices that its parent's pipe broke. May not know runners and engines; the engine reads `dask.json`.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import ClusterError
from ..events import DaskUse

if TYPE_CHECKING:
    from distributed import Client

    from ..profile import Profile
    from .local import ClusterPlan

RUN_DIR_VARIABLE = "JUPYTER_MLOPS_RUN_DIR"
ADDRESS_VARIABLE = "DASK_SCHEDULER_ADDRESS"
WORKERS_VARIABLE = "JUPYTER_MLOPS_DASK_WORKERS"
"""How many workers the run's cluster will have. Set, it says that the cluster is there already, started outside of this
process, and found through Dask's own variables: its address, and the certificate that it asks for."""
HTTP_VARIABLE = "JUPYTER_MLOPS_DASK_HTTP"
"""Where the HTTP server of that scheduler is, if not at `_SCHEDULER_HTTP`."""
STATE_FILE = "dask.json"
_ANSWER_LIMIT = 4 * 2**20
_CLOSE_TIMEOUT = 10.0
_SCHEDULER_TIMEOUT = 120.0
_WORKERS_TIMEOUT = 120.0
"""Seconds to wait for the workers of a cluster that others start; the run then begins with those that are there."""
_SCHEDULER_HTTP = "http://127.0.0.1:8787"
"""The scheduler of such a cluster runs beside the notebook."""
_GUARD_HINT = 'Put the code under `if __name__ == "__main__":`; Dask\'s workers import the script when they start.'


@dataclass
class _Held:
    pid: int
    plan: ClusterPlan | None
    cluster: Any
    client: Any
    state_file: Path | None
    name: str = ""
    """Of the cluster, if it was started apart from this process."""
    give_up: Callable[[], None] = lambda: None
    """Closes the way to it."""

    def alive(self) -> bool:
        theirs = self.cluster is None or self.cluster.status.name == "running"
        return bool(self.client.status == "running" and theirs)


_lock = threading.RLock()
_held: _Held | None = None


def get_client(profile: Profile | None = None) -> Client:
    """A ready Dask client on a cluster of this machine, or of all pods of the run; the same one while it lives.

    Inside a Dask task it is the client of the cluster that the task runs on.

    Args:
        profile: Resources of the cluster. Default: inside a run the run's own, else the configuration's
            `default_profile`.

    Returns:
        A synchronous `distributed.Client`, which Dask uses by default from then on. The cluster ends with the process,
        or with `close_client`.

    Raises:
        ClusterError: the cluster did not start, more GPUs are asked for than are visible, or the script that calls
            has no `if __name__ == "__main__":`.
        ProfileError: the configuration has no such profile.
    """
    global _held  # noqa: PLW0603 - one cluster a process is the point
    nested = _client_of_worker()
    if nested is not None:
        return nested
    with _lock:
        if _held is not None and _held.pid == os.getpid():
            if _held.name and not _held.alive():
                name = _held.name
                close_client()
                raise ClusterError(
                    f"The cluster '{name}' is gone: it was stopped, was idle for too long, or its time is over.",
                    hint="Start another (jupyter mlops cluster start), or call get_client() again for a local one.",
                )
            if _held.alive():
                if profile is not None and (_held.plan is None or _plan(profile) != _held.plan):
                    warnings.warn(
                        "The Dask cluster of this process keeps the resources it was started with; call "
                        "jupyter_mlops.cluster.client.close_client() before asking for others.",
                        stacklevel=2,
                    )
                return _held.client
            close_client()
        if WORKERS_VARIABLE in os.environ:
            _held = _connect(os.environ[ADDRESS_VARIABLE], int(os.environ[WORKERS_VARIABLE]))
            return _held.client
        _refuse_reimport()
        plan = _plan(profile or _default_profile())
        if plan.warning:
            warnings.warn(plan.warning, stacklevel=2)
        _held = _start(plan)
        return _held.client


def hold_client(client: Client, name: str, give_up: Callable[[], None]) -> None:
    """Have `get_client` give this client from now on, while its cluster lives.

    Args:
        client: A client of a cluster that was started apart from this process, and goes on after it.
        name: Of the cluster.
        give_up: Closes the way to it, when the client has been closed.
    """
    global _held  # noqa: PLW0603 - one cluster a process is the point
    with _lock:
        close_client()
        _held = _Held(os.getpid(), None, None, client, None, name, give_up)
    atexit.register(close_client)


def quiet_client(name: str) -> None:
    """Close this process's client if it is one of a cluster that is about to end, which it would look for noisily.

    `get_client` tells then that the cluster is gone.

    Args:
        name: Of the cluster.
    """
    with _lock:
        if _held is not None and _held.pid == os.getpid() and _held.name == name:
            with contextlib.suppress(Exception):
                _held.client.close(timeout=_CLOSE_TIMEOUT)


def close_client() -> None:
    """End this process's client and cluster, if there are any."""
    global _held
    with _lock:
        held, _held = _held, None
        if held is None or held.pid != os.getpid():  # a forked child holds only a copy of its parent's
            return
        # What is closed or broken already raises in many ways, and nothing is left to do about any of them.
        with contextlib.suppress(Exception):
            held.client.close(timeout=_CLOSE_TIMEOUT)
        held.give_up()
        if held.cluster is not None:
            with contextlib.suppress(Exception):
                held.cluster.close(timeout=_CLOSE_TIMEOUT)
        if held.state_file is not None:
            with contextlib.suppress(OSError, ValueError):
                if json.loads(held.state_file.read_text(encoding="utf-8"))["pid"] == held.pid:
                    held.state_file.unlink()


def dask_use(info: Mapping[str, Any]) -> DaskUse | None:
    """How the Dask cluster stands, as its scheduler's HTTP server tells; None when it does not answer.

    Never raises: `dask.json` lies where user code can write, so anything may stand in it.

    Args:
        info: The content of `dask.json`.
    """
    try:
        base = _loopback(info.get("http") or info.get("dashboard"))
        if base is None:
            return None
        counts = _get_json(f"{base}/json/counts.json")
        memory = counts["bytes"]
        with contextlib.suppress(Exception):  # the counts alone are worth showing
            workers = _get_json(f"{base}/json/identity.json")["workers"].values()
            memory = sum(int(worker["metrics"]["memory"]) for worker in workers)
        dashboard = info.get("dashboard")
        return DaskUse(
            workers=counts["workers"],
            threads=counts["cores"],
            tasks=counts["tasks"],
            processing=counts["processing"],
            in_memory=counts["memory"],
            erred=counts["erred"],
            memory=memory,
            dashboard=dashboard if isinstance(dashboard, str) else None,
        )
    except Exception:  # noqa: BLE001 - a look that fails is left out, it is never an error of the run
        return None


def _loopback(url: object) -> str | None:
    if not isinstance(url, str):
        return None
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname != "127.0.0.1" or parts.port is None:
        return None  # user code must not be able to send the supervisor to any other address
    return f"http://127.0.0.1:{parts.port}"


def _get_json(url: str) -> Any:
    from urllib.request import HTTPRedirectHandler, ProxyHandler, build_opener

    class _Stay(HTTPRedirectHandler):
        def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
            return None

    with build_opener(ProxyHandler({}), _Stay).open(url, timeout=1.0) as answer:
        return json.loads(answer.read(_ANSWER_LIMIT))


def _client_of_worker() -> Client | None:
    if "distributed" not in sys.modules:
        return None
    from distributed import get_client as client_of_task
    from distributed import get_worker

    try:
        get_worker()
    except (ValueError, AttributeError):
        return None
    return client_of_task()


def _default_profile() -> Profile:
    run_dir = os.environ.get(RUN_DIR_VARIABLE)
    if run_dir:
        from ..spec import RunSpec

        try:
            return RunSpec.read(Path(run_dir)).profile
        except (OSError, ValueError) as error:
            raise ClusterError(
                f"The specification of the run in {run_dir} cannot be read: {error}.",
                hint=f"Outside of a run, unset {RUN_DIR_VARIABLE}.",
            ) from None
    from ..config import load_config

    return load_config().profile()


def _plan(profile: Profile) -> ClusterPlan:
    from dask.system import CPU_COUNT

    from .local import can_import, plan_cluster, visible_gpus

    gpus = [] if profile.gpus == 0 else visible_gpus()
    return plan_cluster(profile, gpus, can_import("dask_cuda"), CPU_COUNT, has_rmm=can_import("rmm"))


def _start(plan: ClusterPlan) -> _Held:
    from distributed import Client

    from .local import start_cluster

    cluster = start_cluster(plan)
    try:
        client = Client(cluster, asynchronous=False, set_as_default=True)
        run_dir = os.environ.get(RUN_DIR_VARIABLE)
        state_file = _write_state(Path(run_dir), _cluster_state(cluster)) if run_dir else None
    except Exception as error:
        with contextlib.suppress(Exception):
            cluster.close(timeout=_CLOSE_TIMEOUT)
        raise ClusterError(f"The Dask cluster started and was lost again: {type(error).__name__}: {error}") from error
    atexit.unregister(close_client)
    # After Dask's own exit functions were registered, so that ours comes before them.
    atexit.register(close_client)
    return _Held(os.getpid(), plan, cluster, client, state_file)


def _connect(address: str, workers: int) -> _Held:
    """A client of the cluster that this run's pods are; what it needs to be let in, Dask's own variables say."""
    from distributed import Client
    from distributed.security import Security

    try:
        client = Client(
            address, security=Security(), timeout=_SCHEDULER_TIMEOUT, asynchronous=False, set_as_default=True
        )  # fmt: skip
    except Exception as error:
        raise ClusterError(
            f"The Dask scheduler of the run at {address} does not answer: {type(error).__name__}: {error}",
            hint="The log of the run tells what its pods print.",
        ) from error
    with contextlib.suppress(Exception):
        client.wait_for_workers(workers, timeout=_WORKERS_TIMEOUT)
    there = len(client.nthreads())
    if there < workers:
        warnings.warn(
            f"{there} of the {workers} Dask workers are there after {_WORKERS_TIMEOUT:.0f} s; the run goes on with "
            "them, and uses the others as soon as they come.",
            stacklevel=3,
        )
    run_dir = os.environ.get(RUN_DIR_VARIABLE)
    http = os.environ.get(HTTP_VARIABLE, _SCHEDULER_HTTP)
    state = {"address": address, "dashboard": None, "http": http, "pid": os.getpid()}
    state_file = _write_state(Path(run_dir), state) if run_dir else None
    atexit.register(close_client)
    return _Held(os.getpid(), None, None, client, state_file)


def _cluster_state(cluster: Any) -> dict[str, Any]:
    from .local import can_import

    port = cluster.scheduler.http_server.port
    # The link goes through a JupyterHub's proxy where Dask is configured so; the monitor asks the port itself.
    return {
        "address": cluster.scheduler_address,
        "dashboard": cluster.dashboard_link if can_import("bokeh") else None,
        "http": f"http://127.0.0.1:{port}",
        "pid": os.getpid(),
    }


def _write_state(run_dir: Path, state: Mapping[str, Any]) -> Path | None:
    path = run_dir / STATE_FILE
    temporary = run_dir / f".{STATE_FILE}.{os.getpid()}"
    try:
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:  # the cluster works without being watched
        warnings.warn(f"The state of Dask cannot be shown: {path} cannot be written ({error}).", stacklevel=4)
        return None
    return path


def _refuse_reimport() -> None:
    """Refuse where each worker would execute the calling script once more from its top.

    Workers are spawned, and a spawned Python imports the parent's main script; a script that starts its cluster at
    the top level would so start one in each worker, and would repeat all its work before it.
    """
    frame: FrameType | None = sys._getframe(1)
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = frame.f_globals.get("__name__")
            if name == "__mp_main__":
                raise ClusterError("A Dask worker imported the script that starts the cluster.", hint=_GUARD_HINT)
            if name == "__main__" and file and main is not None and frame.f_globals is main.__dict__:
                _refuse_unguarded(Path(file), frame.f_lineno)
        frame = frame.f_back


def _refuse_unguarded(file: Path, line: int) -> None:
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and (spec.name == "__main__" or spec.name.endswith(".__main__")):
        return  # multiprocessing does not import these again
    try:
        source = file.read_bytes()
    except OSError:
        return  # then the workers cannot read it either
    if not is_guarded(source, line):
        raise ClusterError(
            f"The script {file.name} starts a Dask cluster in line {line} without a guard.", hint=_GUARD_HINT
        )


def is_guarded(source: str | bytes, line: int) -> bool:
    """Whether a line of a script stands under ``if __name__ == "__main__":``; True for a script that cannot be parsed.

    Args:
        source: Of the whole script.
        line: From 1.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return True
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and any(
            part.lineno <= line <= (part.end_lineno or part.lineno) for part in node.body
        ):
            names = {part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)}
            texts = {part.value for part in ast.walk(node.test) if isinstance(part, ast.Constant)}
            if "__name__" in names and "__main__" in texts:
                return True
    return False


def _forget_in_child() -> None:
    global _lock, _held
    _lock, _held = threading.RLock(), None  # another thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
