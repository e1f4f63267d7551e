"""A kernel that was started before it is known what it will run, so that a run need not wait for it.

It has what a kernel's process is born with, and nothing of a run: a run sets its variables and directory from inside,
and takes it only if what cannot be set later is what it wants.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .stop import end_tree, kernel_process

if TYPE_CHECKING:
    import psutil

KERNEL = "python3"
SEED = 0
"""The hash of str is seeded when a Python starts; this is the seed of a run that names none."""
MESSAGES_WAITING = 32
_READY = 120.0


@dataclass
class WarmKernel:
    """A kernel that answers and has executed nothing.

    Attributes:
        manager: Jupyter's manager of it.
        process: Its process, or None where it has none on this machine.
    """

    manager: Any
    process: psutil.Process | None

    def fits(self, kernel_name: str, seed: int) -> bool:
        """Whether a run with this kernel and seed can use it."""
        alive = self.process is not None and self.process.is_running()
        return alive and kernel_name == KERNEL and seed == SEED

    def end(self) -> None:
        """End it, unused."""
        if self.process is not None:
            end_tree(self.process)


def start_kernel(kernel_name: str, directory: Path, variables: Mapping[str, str]) -> Any:
    """Start a kernel and return its manager, without waiting until it answers.

    Args:
        kernel_name: Of its kernelspec.
        directory: Where it works.
        variables: Its whole environment.
    """
    # The asynchronous one: with the other, nbclient would neither see that the kernel has died nor keep a cell's
    # time limit, because waiting for output would hold up everything else.
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    manager = AsyncKernelManager(kernel_name=kernel_name)
    # Output waits in the kernel and not here: a thousand figures, which is the default, may be a lot of memory.
    manager.context.rcvhwm = MESSAGES_WAITING
    run_sync(manager.start_kernel)(cwd=str(directory), env=dict(variables), stderr=None)
    return manager


def start_warm_kernel(directory: Path) -> WarmKernel | None:
    """Start a kernel and wait until it answers; None: there is no such kernel here, or it does not come up.

    Args:
        directory: Where it waits.
    """
    try:
        manager = start_kernel(KERNEL, directory, {**os.environ, "PYTHONHASHSEED": str(SEED)})
    except Exception:  # noqa: BLE001 - then the run tells why, when it starts its own
        return None
    found = WarmKernel(manager, kernel_process(manager))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=_READY)
    except Exception:  # noqa: BLE001 - the same
        found.end()
        return None
    finally:
        with suppress(Exception):
            client.stop_channels()
    return found
