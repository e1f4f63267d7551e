"""Processes of the job scheduler that can be had quickly: everything is imported once, and each is a fork.

    python -m tests.integration.scheduler_nursery STORE_URL DIRECTORY

Each line on standard input starts one; its process id is printed. Their runs are files in DIRECTORY: a run is a file
that is made once under its key, as a run is a row that is made once under its key, and that has succeeded when it is
old enough.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

from jupyter_mlops.audit import Auditor
from jupyter_mlops.config import MLOps
from jupyter_mlops.jobs.model import JobVersion, Slot, SlotState
from jupyter_mlops.scheduler.launcher import Standing
from jupyter_mlops.scheduler.loop import JobScheduler, Pace
from jupyter_mlops.store.database import Store

LEASE = 3.0


class FileRuns:
    """A launcher whose runs are files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._random = random.Random(os.getpid())

    def advance(self, version: JobVersion, slot: Slot) -> Standing:
        path = self._directory / hashlib.sha256(slot.run_key.encode()).hexdigest()[:16]
        if slot.run_id is None:
            with (self._directory / "calls").open("a") as calls:
                calls.write(f"{os.getpid()} {slot.run_key}\n")
            time.sleep(self._random.uniform(0, 0.4))  # so that kills meet what is half done
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL))
                with (self._directory / "runs").open("a") as runs:
                    runs.write(f"{slot.run_key}\n")
            except FileExistsError:
                pass
            time.sleep(self._random.uniform(0, 0.4))
            return Standing(SlotState.RUNNING, path.name)
        done = time.time() - path.stat().st_mtime > 0.3
        return Standing(SlotState.SUCCEEDED if done else SlotState.RUNNING, path.name)

    def cancel(self, version: JobVersion, slot: Slot) -> Standing:
        raise AssertionError("nobody cancels here")


def main(url: str, directory: Path) -> None:
    """Start one for each line."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            scheduler = JobScheduler(
                Store(url), FileRuns(directory), auditor=Auditor(MLOps(), "scheduler"),
                pace=Pace(workers=4, lease=LEASE, interval=0.1),
            )  # fmt: skip
            scheduler.run(threading.Event())
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
