"""Runs on this machine, each in a process of its own that outlives whoever started it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ..config import MLOps
from ..errors import MLOpsError, ProfileError
from ..events import Event, RunEvent, read_events
from ..spec import RunSpec

_BIRTH = 60.0
"""Seconds that a run may be without a process file before it counts as never started."""


class LocalRunner:
    """The runner `local`."""

    def __init__(self, config: MLOps) -> None:
        self._config = config

    def submit(self, spec: RunSpec) -> None:
        """Start the worker of the run in a session of its own; closing a terminal or a kernel does not reach it.

        Raises:
            MLOpsError: no process can be started.
        """
        from ..worker import PROCESS_FILE, write_process_file

        run_dir = self.files(spec.run_id)
        if (run_dir / PROCESS_FILE).exists():
            return
        with (run_dir / "worker.log").open("ab") as log:
            try:
                worker = subprocess.Popen(
                    [sys.executable, "-m", "jupyter_mlops.worker", str(run_dir)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=run_dir,
                    start_new_session=True,
                )
            except OSError as error:
                raise MLOpsError(f"The run's process could not be started: {error.strerror}.") from error
        # A long-lived parent (a Jupyter server) would keep the ended worker as a zombie.
        threading.Thread(target=worker.wait, name="mlops-wait", daemon=True).start()
        try:
            write_process_file(run_dir, worker.pid)
        except OSError as error:
            worker.terminate()
            raise MLOpsError(f"The run directory cannot be written: {error}.", code="disk_full") from error

    def check(self, spec: RunSpec) -> None:
        """Refuse a profile that this machine cannot give.

        Raises:
            ProfileError: it asks for more cores, memory or GPUs than there are.
        """
        import psutil

        profile = spec.profile
        cores, memory = os.cpu_count() or 1, psutil.virtual_memory().total
        if profile.cpus is not None and profile.cpus > cores:
            raise ProfileError(
                f"The run asks for {profile.cpus:g} CPU cores, this machine has {cores}.", hint="Ask with --cpus."
            )
        if profile.memory is not None and profile.memory > memory:
            raise ProfileError(
                f"The run asks for {profile.memory / 2**30:.1f} GiB of memory, this machine has "
                f"{memory / 2**30:.1f} GiB.",
                hint="Ask with --memory.",
            )
        if profile.gpus:
            from ..cluster.client import visible_gpus

            found = len(visible_gpus())
            if profile.gpus > found:
                raise ProfileError(
                    f"The run asks for {profile.gpus} GPUs, this machine has {found}.",
                    hint="Use a profile of a cluster with GPUs (`jupyter mlops profiles`), or --gpus 0.",
                )

    def events(self, run_id: str, *, follow: bool, stop: Callable[[], bool]) -> Iterator[Event]:
        """From the run's own file; ends also when the worker has died without a word."""
        looked = time.monotonic()

        def ended() -> bool:
            nonlocal looked
            if time.monotonic() - looked > 2:
                looked = time.monotonic()
                self.reconcile(run_id)
            return stop()

        return read_events(self.files(run_id), follow=follow, stop=ended)

    def cancel(self, run_id: str, *, by: str) -> None:
        """Leave word who asked, then tell the worker."""
        from ..engine.execute import CANCEL_FILE

        run_dir = self.files(run_id)
        temporary = run_dir / f".{CANCEL_FILE}.{os.getpid()}"
        temporary.write_text(json.dumps({"by": by}), encoding="utf-8")
        temporary.replace(run_dir / CANCEL_FILE)
        process = self._process(run_id)
        if process is not None:
            try:
                os.kill(process, signal.SIGTERM)
            except ProcessLookupError:
                self.reconcile(run_id)
            except PermissionError as error:
                raise MLOpsError(
                    f"The run {run_id} belongs to another user of this machine.", code="forbidden"
                ) from error
        else:
            self.reconcile(run_id)

    def reconcile(self, run_id: str) -> None:
        """Record the end of a run whose worker is gone without one (killed, or the machine went down)."""
        from ..worker import PROCESS_FILE, write_death

        run_dir = self.files(run_id)
        if not run_dir.is_dir() or self._process(run_id) is not None or self._has_ended(run_dir):
            return
        process_file = run_dir / PROCESS_FILE
        if not process_file.exists() and time.time() - run_dir.stat().st_mtime < _BIRTH:
            return
        if process_file.exists() and self._foreign(process_file):
            return
        try:  # of several that notice, one writes
            os.close(os.open(run_dir / ".reconciled", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        from ..engine.publish import queue_publication

        write_death(run_dir, "killed, or the machine was restarted")
        queue_publication(run_dir)
        subprocess.Popen(
            [sys.executable, "-m", "jupyter_mlops.worker", str(run_dir), "--publish"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def files(self, run_id: str) -> Path:
        """The run's directory; it may not exist."""
        return self._config.run_dir(run_id)

    @staticmethod
    def _has_ended(run_dir: Path) -> bool:
        return any(isinstance(event, RunEvent) and event.state.is_terminal for event in read_events(run_dir))

    @staticmethod
    def _foreign(process_file: Path) -> bool:
        # A data directory on a shared file system holds runs of other machines: theirs to judge.
        try:
            return bool(json.loads(process_file.read_text(encoding="utf-8"))["host"] != socket.gethostname())
        except (OSError, ValueError, KeyError):
            return False

    def _process(self, run_id: str) -> int | None:
        """The worker's process id, if it lives."""
        import psutil

        from ..worker import PROCESS_FILE

        try:
            known = json.loads((self.files(run_id) / PROCESS_FILE).read_text(encoding="utf-8"))
            process = psutil.Process(int(known["pid"]))
            same = abs(process.create_time() - float(known["create_time"])) < 1
            return process.pid if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, KeyError, psutil.Error):
            return None
