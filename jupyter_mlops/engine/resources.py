"""Looks at what a run uses while it runs: its kernel's memory and CPU with all children, GPUs, and Dask.

Linux tells everything; elsewhere what psutil can see. A look that fails is left out, never an error of the run.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from ..events import DaskUse, GPUUse, ResourceEvent

_MEMORY_LOOK = 0.5
"""Seconds between two looks at memory alone: growth is fast, and a limit is there to be kept."""
_NO_LIMIT = 2**60
"""Control groups of version 1 say "no limit" with a number near 2**63."""


class ResourceMonitor:
    """A thread that looks at a process tree.

    Args:
        pid: The root (the kernel).
        run_dir: Where `get_client` leaves `dask.json`.
        emit: Called with each `ResourceEvent`, from this thread.
        interval: Seconds between events.
        memory_limit: Bytes, or None.
        over_limit: Called once with the bytes in use when they are over the limit at two looks in a row.
        gpus: Those that the run was given, as `CUDA_VISIBLE_DEVICES` names them; None: every one.

    Attributes:
        last_memory: Bytes in use at the last look, or None.
        group_limit: Bytes that the system lets the process's control group have, at the last look, or None.
    """

    def __init__(
        self,
        pid: int,
        run_dir: Path,
        *,
        emit: Callable[[ResourceEvent], None],
        interval: float,
        memory_limit: int | None,
        over_limit: Callable[[int], None],
        gpus: Sequence[str] | None = None,
    ) -> None:
        self._pid = pid
        self._run_dir = run_dir
        self._emit = emit
        self._interval = interval
        self._memory_limit = memory_limit
        self._over_limit = over_limit
        self._gpus = gpus
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mlops-resources", daemon=True)
        self.last_memory: int | None = None
        self.group_limit: int | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until the last look is done."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def _watch(self) -> None:
        gpus = _GPUs(self._gpus)
        cpu_before, time_before = tree_use(self._pid)[1], time.monotonic()
        due = time_before + min(1.0, self._interval)
        over = 0
        while not self._stop.wait(min(_MEMORY_LOOK, self._interval)):
            memory, cpu = tree_use(self._pid)
            now = time.monotonic()
            if memory:
                self.last_memory = memory
                self.group_limit = group_memory_limit(self._pid)
            over = over + 1 if self._memory_limit is not None and memory > self._memory_limit else 0
            if over == 2:
                self._over_limit(memory)
            if now < due:
                continue
            due = now + self._interval
            percent = max(0.0, 100 * (cpu - cpu_before) / max(now - time_before, 1e-3))
            cpu_before, time_before = cpu, now
            self._emit(
                ResourceEvent(
                    cpu_percent=round(percent, 1),
                    memory=memory,
                    memory_limit=self._memory_limit,
                    gpus=gpus.use(),
                    dask=self._dask(),
                )
            )
        gpus.close()

    def _dask(self) -> DaskUse | None:
        try:
            info = json.loads((self._run_dir / "dask.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        from ..cluster.client import dask_use

        return dask_use(info)


def tree_use(pid: int) -> tuple[int, float]:
    """Resident bytes and CPU seconds of a process and all its descendants; zeros when it is gone."""
    memory, cpu = 0, 0.0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0, 0.0
    for process in family:
        with contextlib.suppress(psutil.Error), process.oneshot():
            memory += process.memory_info().rss
            times = process.cpu_times()
            cpu += times.user + times.system
    return memory, cpu


def group_memory_limit(pid: int | None = None) -> int | None:
    """Bytes that the control groups of a process let it have, as in a container; None: no limit, or none can be seen.

    Args:
        pid: The process; None: this one.
    """
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid or 'self'}/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                root, name = Path("/sys/fs/cgroup"), "memory.max"
            elif "memory" in controllers.split(","):
                root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
            else:
                continue
            # Every group above counts; seen from inside a container the path may be one of outside.
            parts = [] if ".." in path else [part for part in path.split("/") if part]
            for depth in range(len(parts) + 1):
                with contextlib.suppress(OSError, ValueError):
                    found.append(int(root.joinpath(*parts[:depth], name).read_text(encoding="ascii")))
    least = min(found, default=_NO_LIMIT)
    return least if least < _NO_LIMIT else None


def memory_of_machine() -> int:
    """Bytes of memory that this process can have at most: the machine's, or what its container was given."""
    total = int(psutil.virtual_memory().total)
    return min(total, group_memory_limit() or total)


class _GPUs:
    """The run's GPUs through NVML, where its Python binding is installed."""

    def __init__(self, devices: Sequence[str] | None) -> None:
        self._nvml = None
        self._devices = devices
        if devices is not None and not devices:
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
        except Exception:  # noqa: BLE001 - no binding, no driver, no rights: there is no GPU to show
            self._nvml = None

    def use(self) -> tuple[GPUUse, ...]:
        if self._nvml is None:
            return ()
        found = []
        with contextlib.suppress(Exception):
            devices = self._devices
            if devices is None:
                devices = [str(index) for index in range(self._nvml.nvmlDeviceGetCount())]
            for position, device in enumerate(devices):
                index = int(device) if device.isdigit() else position
                if device.isdigit():
                    handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                else:
                    handle = self._nvml.nvmlDeviceGetHandleByUUID(device.encode())
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle)
                name = self._nvml.nvmlDeviceGetName(handle)
                utilization = 0.0
                with contextlib.suppress(Exception):  # MIG instances do not tell
                    utilization = float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
                found.append(
                    GPUUse(
                        index=index,
                        name=name.decode() if isinstance(name, bytes) else str(name),
                        utilization=utilization,
                        memory_used=int(memory.used),
                        memory_total=int(memory.total),
                    )
                )
        return tuple(found)

    def close(self) -> None:
        if self._nvml is not None:
            with contextlib.suppress(Exception):
                self._nvml.nvmlShutdown()


def count_oom_kills() -> int:
    """How often the system's out-of-memory killer has struck here (control group or machine); 0 if unknown."""
    total = 0
    for path in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    total += int(value)
    return total
