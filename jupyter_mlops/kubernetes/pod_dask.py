"""The Dask processes of a run with several pods: started from `dask_options`, started again when they die.

Knows processes and the pod's variables; imports no Dask.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from importlib.util import find_spec

from ..cluster.client import WORKERS_VARIABLE
from ..profile import Profile
from . import contract, dask_options

_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_LONG = 60.0
"""Seconds after which a process that died had lived long enough to be started again at once."""


def pod_profile(environment: Mapping[str, str]) -> Profile:
    """The profile that the pod was told."""
    return Profile.model_validate_json(environment[contract.PROFILE_VARIABLE])


def dask_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a Dask process: the pod's own, and only warnings in its log."""
    return {"DASK_LOGGING__DISTRIBUTED": "warning", **environment}


class DaskProcesses:
    """The scheduler and the workers of the head.

    Args:
        environment: The pod's variables.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._stopping = threading.Event()
        self._running: list[subprocess.Popen[bytes]] = []
        self.running = False

    def start(self, *, scheduler: bool = True) -> dict[str, str]:
        """Start them, and keep them alive; with one pod there is nothing to start.

        Args:
            scheduler: Also the scheduler; else it is there already.

        Returns:
            The variables with which the notebook finds them.

        Raises:
            ProfileError: a worker would get too little memory to live.
        """
        if contract.SERVICE_VARIABLE not in self._environment:
            return {}
        profile, here = pod_profile(self._environment), dask_options.place(self._environment)
        has_rmm = find_spec("rmm") is not None
        commands = (
            dask_options.scheduler_command(profile, here),
            dask_options.worker_command(profile, here, has_rmm=has_rmm),
        )
        self.running = True
        for command in commands if scheduler else commands[1:]:
            threading.Thread(target=self._keep, args=(command,), name="mlops-dask", daemon=True).start()
        count = dask_options.workers_in_pod(profile, here) * profile.pods
        return {**dask_options.client_environment(profile, here), WORKERS_VARIABLE: str(count)}

    def stop(self) -> None:
        """Start nothing again; what runs is ended."""
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    def _keep(self, command: list[str]) -> None:
        pause = _PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=dask_environment(self._environment))
            self._running.append(process)
            status = process.wait()
            self._running.remove(process)
            if self._stopping.wait(pause):
                return
            sys.stderr.write(f"{' '.join(command[:5])} ended (exit status {status}) and is started again\n")
            pause = _PAUSE if time.monotonic() - began > _LONG else min(2 * pause, _LONGEST_PAUSE)


def end_of_run_file() -> str:
    """Where a worker pod finds that the run is over; the head has it written by the pod's own Dask workers."""
    return os.path.join(contract.TEMPORARY_DIR, "jupyter-mlops-run-is-over")  # noqa: PTH118 - it is pickled as text
