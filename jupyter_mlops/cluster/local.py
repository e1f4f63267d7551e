"""A Dask cluster on this machine: what to start is decided by a pure function, then started.

May not know runs and where their files are. Everything it starts listens on 127.0.0.1 alone and asks for a
certificate where it can: who reaches a Dask scheduler can run code as its owner, and on a JupyterHub other people
reach 127.0.0.1 too.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError

if TYPE_CHECKING:
    from ..profile import Profile

MIB = 2**20
LEAST_WORKER_MEMORY = 256 * MIB
"""An idle worker that has imported pandas uses half of it; with less Dask would restart it for ever."""
_MOST_KEPT_BACK = 8 * 2**30
_RMM_POOL = 0.5
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ClusterPlan:
    """What to start.

    Attributes:
        kind: "cpu": `distributed.LocalCluster`; "cuda": `dask_cuda.LocalCUDACluster`.
        workers: Worker processes; on GPUs one a GPU.
        threads: Threads of each worker.
        memory_limit: Bytes of main memory for each worker, or "auto": Dask's share of the machine.
        gpus: What `CUDA_VISIBLE_DEVICES` names: numbers or UUIDs, of GPUs or MIG instances.
        rmm_pool_size: GPU memory that each worker takes at once for RMM, as a share or in bytes, or None.
        device_memory_limit: Share of GPU memory from which a worker spills to main memory; None: Dask-CUDA's own.
        omp_threads: Threads of OpenMP, MKL and OpenBLAS in each thread of a worker.
        warning: What the person should know, or an empty string.
    """

    kind: str
    workers: int
    threads: int
    memory_limit: int | str = "auto"
    gpus: tuple[str, ...] = ()
    rmm_pool_size: float | None = None
    device_memory_limit: float | None = None
    omp_threads: int = 1
    warning: str = ""


def plan_cluster(
    profile: Profile, gpus: Sequence[str], has_dask_cuda: bool, cpus: int, *, has_rmm: bool = False
) -> ClusterPlan:
    """What to start for a profile on this machine.

    On GPUs it is one worker a GPU, whatever `profile.workers` says: two processes on one GPU only fight for its memory.

    Args:
        profile: The resources asked for.
        gpus: The GPUs that this process may use, as `visible_gpus` names them.
        has_dask_cuda: Whether `dask_cuda` can be imported.
        cpus: Cores that this process may use.
        has_rmm: Whether `rmm` can be imported.

    Raises:
        ClusterError: more GPUs are asked for than are visible, or a worker would get too little memory to live.
    """
    cores = max(1, min(cpus, int(profile.cpus)) if profile.cpus is not None else cpus)
    wanted = len(gpus) if profile.gpus is None else profile.gpus
    if wanted > len(gpus):
        raise ClusterError(
            f"The profile '{profile.name}' asks for {wanted} GPU{'s' * (wanted != 1)}, and {len(gpus)} "
            f"{'is' if len(gpus) == 1 else 'are'} visible here.",
            hint=f"Ask for at most {len(gpus)} (--gpus {len(gpus)}), or look at CUDA_VISIBLE_DEVICES and nvidia-smi."
            if gpus
            else "Ask for none (--gpus 0), or look at CUDA_VISIBLE_DEVICES and nvidia-smi.",
        )
    warning = ""
    if wanted and has_dask_cuda:
        pool = _RMM_POOL if profile.rmm_pool is None else profile.rmm_pool
        return ClusterPlan(
            kind="cuda",
            workers=wanted,
            threads=1,
            memory_limit=_worker_memory(profile, wanted),
            gpus=tuple(gpus[:wanted]),
            rmm_pool_size=pool or None if has_rmm else None,
            device_memory_limit=profile.device_memory_limit,
            omp_threads=max(1, cores // wanted),
        )
    if wanted:
        warning = (
            f"{len(gpus)} GPU{'s are' if len(gpus) != 1 else ' is'} visible, but dask-cuda is not installed: the Dask "
            "workers run on the CPU. Install it: pip install 'jupyter-mlops[gpu]'"
        )
    workers = profile.workers or max(1, cores // 2)
    if profile.workers is None and profile.memory is not None:
        workers = max(1, min(workers, _shared_memory(profile.memory) // LEAST_WORKER_MEMORY))
    return ClusterPlan(
        kind="cpu",
        workers=workers,
        threads=max(1, cores // workers),
        memory_limit=_worker_memory(profile, workers),
        warning=warning,
    )


def _shared_memory(memory: int) -> int:
    # The notebook and the Dask scheduler live from the same amount.
    return memory - min(memory // 4, _MOST_KEPT_BACK)


def _worker_memory(profile: Profile, workers: int) -> int | str:
    if profile.memory is None:
        return "auto"
    each = _shared_memory(profile.memory) // workers
    if each < LEAST_WORKER_MEMORY:
        raise ClusterError(
            f"The profile '{profile.name}' leaves {each // MIB} MiB of memory to each of {workers} Dask "
            f"worker{'s' * (workers != 1)}, and one needs {LEAST_WORKER_MEMORY // MIB} MiB.",
            hint="Ask for more memory (--memory) or fewer workers (--workers).",
        )
    return each


def visible_gpus() -> list[str]:
    """The GPUs that CUDA would show to this process, in its order; empty without any.

    `CUDA_VISIBLE_DEVICES` is read as CUDA reads it: numbers, UUIDs of GPUs or of MIG instances, and everything after
    the first that does not exist is not visible. Without a driver's library (NVML) to ask, there are none.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - no binding, no driver, no rights: CUDA sees none either
        return []
    try:
        count = int(pynvml.nvmlDeviceGetCount())
        setting = os.environ.get("CUDA_VISIBLE_DEVICES")
        if setting is None:
            return [str(index) for index in range(count)]

        def exists(device: str) -> bool:
            if not device.startswith(("GPU-", "MIG-")):
                return False
            try:
                pynvml.nvmlDeviceGetHandleByUUID(device.encode())
            except Exception:  # noqa: BLE001 - NVML has no such device
                return False
            return True

        return parse_visible_devices(setting, count, exists)
    except Exception:  # noqa: BLE001 - a driver that breaks off in the middle
        return []
    finally:
        with contextlib.suppress(Exception):  # it goes with the process
            pynvml.nvmlShutdown()


def parse_visible_devices(setting: str, count: int, exists: Any) -> list[str]:
    """The devices that a value of `CUDA_VISIBLE_DEVICES` names.

    Args:
        setting: The value, such as ``0,2`` or ``MIG-<uuid>``.
        count: GPUs of the machine.
        exists: Tells whether there is a device of that UUID.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables": "If one of the indices is invalid, only the
    devices whose index precedes the invalid index are visible".
    """
    found: list[str] = []
    for part in setting.split(","):
        device = part.strip()
        known = int(device) < count if device.isascii() and device.isdigit() else exists(device)
        if not known or device in found:
            break
        found.append(device)
    return found


def can_import(name: str) -> bool:
    """Whether a module is installed; does not import it."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def start_cluster(plan: ClusterPlan, *, security: Any = None) -> Any:
    """Start what was planned, on 127.0.0.1 alone, and wait until its workers are there.

    Args:
        plan: What to start.
        security: Dask's `Security` with the certificate that is asked for; None: one that only this process has.

    Returns:
        A `distributed.LocalCluster` or its subclass `dask_cuda.LocalCUDACluster`.

    Raises:
        ClusterError: it did not start.
    """
    import dask
    from distributed import LocalCluster

    options: dict[str, Any] = {
        "n_workers": plan.workers,
        "threads_per_worker": plan.threads,
        "memory_limit": plan.memory_limit,
        "host": _LOOPBACK,
        "dashboard_address": f"{_LOOPBACK}:0",
        # Without an address the workers' own pages would listen on every interface.
        "worker_dashboard_address": f"{_LOOPBACK}:0",
        "silence_logs": logging.ERROR,
        "security": security or can_import("cryptography") or None,
        "asynchronous": False,
    }
    numeric = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), plan.omp_threads)
    environment = {**dask.config.get("distributed.nanny.pre-spawn-environ"), **numeric}
    try:
        with dask.config.set({"distributed.nanny.pre-spawn-environ": environment}):
            if plan.kind == "cpu":
                return LocalCluster(processes=True, **options)
            from dask_cuda import LocalCUDACluster

            memory = {"rmm_pool_size": plan.rmm_pool_size, "device_memory_limit": plan.device_memory_limit}
            memory = {key: value for key, value in memory.items() if value is not None}
            return LocalCUDACluster(CUDA_VISIBLE_DEVICES=list(plan.gpus), **options, **memory)
    except Exception as error:  # whatever Dask, dask-cuda, the driver or the system raise
        cause = _innermost(error)
        raise ClusterError(
            f"The Dask cluster ({plan.workers} worker{'s' * (plan.workers != 1)}) did not start: "
            f"{type(cause).__name__}: {cause}",
            hint="Ask for fewer workers or more memory, or for --gpus 0 if it was a GPU." if plan.kind == "cuda"
            else "Ask for fewer workers or more memory.",
        ) from error  # fmt: skip


def _innermost(error: BaseException) -> BaseException:
    # Dask wraps what went wrong in a worker into "Cluster failed to start" and "Nanny failed to start".
    seen = {id(error)}
    while (inner := error.__cause__ or error.__context__) is not None and id(inner) not in seen:
        seen.add(id(inner))
        error = inner
    return error
