"""Runs on this machine, each in a process of its own that outlives whoever started it.

Knows the run's directory and its processes; knows no front, no store and no MLflow.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config import MLOps
from ..errors import MLOpsError, NotFoundError, ProfileError
from ..events import Event, read_events
from ..profile import Profile
from ..spec import RunSpec
from ..states import RUN_ID_VARIABLE
from ..worker import PROCESS_FILE, WAITING_VARIABLE, birth_of

_BIRTH = 60.0
"""Seconds that a run may be without a process file before it counts as never started."""
_SILENCE = 900.0
"""Seconds without a heartbeat after which a run on another machine counts as gone."""


class LocalRunner:
    """The runner `local`."""

    def __init__(self, config: MLOps) -> None:
        self._config = config

    def submit(self, spec: RunSpec) -> None:
        """Start the worker of the run in a session of its own; closing a terminal or a kernel does not reach it.

        Raises:
            MLOpsError: no process can be started.
        """
        from ..worker import write_process_file

        run_dir = self.files(spec.run_id)
        try:
            os.close(os.open(run_dir / ".submitted", os.O_CREAT | os.O_EXCL))
            with (run_dir / "worker.log").open("ab") as log:
                worker = self._hand_over(run_dir) or _start([str(run_dir)], log=log, cwd=run_dir)
        except FileExistsError:
            return
        except OSError as error:
            raise MLOpsError(
                f"The run's process could not be started: {error.strerror or error}.",
                hint="Too many processes, no memory, or no space: end or free something, then retry.",
            ) from error
        try:
            write_process_file(run_dir, worker, only_if_missing=True)
        except OSError as error:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGTERM)
            raise MLOpsError(f"The run directory cannot be written: {error}.", code="disk_full") from error

    def check(self, spec: RunSpec) -> None:
        """Refuse a profile that this machine cannot give.

        Raises:
            ProfileError: it asks for more cores, memory or GPUs than this process may use.
        """
        from ..engine.resources import memory_of_machine

        profile = spec.profile
        cores, memory = Profile(name="all").cpu_count(), memory_of_machine()
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
            from ..cluster.local import visible_gpus

            found = len(visible_gpus())
            if profile.gpus > found:
                raise ProfileError(
                    f"The run asks for {profile.gpus} GPUs, this machine has {found}.",
                    hint="Use a profile of a cluster with GPUs (`jupyter mlops profiles`), or --gpus 0.",
                )

    def events(self, run_id: str, *, follow: bool, stop: Callable[[], bool]) -> Iterator[Event]:
        """From the run's own file; ends also when the worker has died without a word.

        Raises:
            NotFoundError: they are to be followed, and the run's files are not on this machine.
        """
        run_dir = self.files(run_id)
        if follow and not run_dir.is_dir():
            raise _elsewhere(run_id, run_dir)
        looked = time.monotonic()

        def ended() -> bool:
            nonlocal looked
            if time.monotonic() - looked > 2:
                looked = time.monotonic()
                with suppress(OSError):  # a full disk: the next look may find room for the record
                    self.reconcile(run_id)
                if not run_dir.is_dir():
                    return True
            return stop()

        return read_events(run_dir, follow=follow, stop=ended)

    def cancel(self, run_id: str, *, by: str) -> None:
        """Leave word who asked, then tell the worker; without a signal that reaches it, it finds the word.

        Raises:
            MLOpsError: the run is another user's ("forbidden"), or the disk is full ("disk_full").
            NotFoundError: its files are not on this machine.
        """
        from ..engine.execute import CANCEL_FILE
        from ..engine.publish import recorded_outcome

        run_dir = self.files(run_id)
        if recorded_outcome(run_dir) is not None:
            return
        temporary = run_dir / f".{CANCEL_FILE}.{os.getpid()}"
        try:
            temporary.write_text(json.dumps({"by": by}), encoding="utf-8")
            temporary.replace(run_dir / CANCEL_FILE)
        except FileNotFoundError as error:
            raise _elsewhere(run_id, run_dir) from error
        except PermissionError as error:
            raise _forbidden(run_id) from error
        except OSError as error:
            self._signal(run_id)
            raise MLOpsError(
                f"Who cancelled the run {run_id} could not be noted: {error.strerror or error}.", code="disk_full"
            ) from error
        self._signal(run_id)
        self.reconcile(run_id)

    def reconcile(self, run_id: str) -> None:
        """Record the end of a run whose worker is gone without one (killed, or the machine went down).

        What the run left running is ended too.

        Raises:
            OSError: the record cannot be written.
        """
        from ..engine.publish import recorded_outcome
        from ..worker import end_processes, record_death

        run_dir = self.files(run_id)
        if not run_dir.is_dir():
            return
        how = self._death(run_dir)
        if how is None or recorded_outcome(run_dir) is not None:
            return
        end_processes(run_id, waiting=(_read_process_file(run_dir) or {}).get("waiting"))
        if record_death(run_dir, how):
            with suppress(OSError):  # `jupyter mlops sync` sends it later
                _start([str(run_dir), "--publish"], log=subprocess.DEVNULL)

    def standing(self, run_ids: Sequence[str]) -> Iterator[tuple[str, list[Event]]]:
        """What each of them has told; those that died without a word get their record first."""
        for run_id in run_ids:
            with suppress(OSError):
                self.reconcile(run_id)
            yield run_id, list(read_events(self.files(run_id)))

    def files(self, run_id: str) -> Path:
        """The run's directory; it may not exist."""
        return self._config.run_dir(run_id)

    def _hand_over(self, run_dir: Path) -> int | None:
        """The process of an engine that has waited and takes this run, or None."""
        if not self._config.warm_seconds() or RUN_ID_VARIABLE in os.environ:
            return None
        from ..warm.waiting import hand_over

        return hand_over(self._config.data_path, run_dir)

    def _signal(self, run_id: str) -> None:
        known = _read_process_file(self.files(run_id))
        if known is None or _is_foreign(known) or not _lives(known):
            return
        try:
            os.kill(int(known["pid"]), signal.SIGTERM)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            raise _forbidden(run_id) from error

    @staticmethod
    def _death(run_dir: Path) -> str | None:
        """How the run's processes ended, in words; None while one of them lives, or may."""
        try:
            known = _read_process_file(run_dir)
        except OSError:  # a network file system that does not answer says nothing of the run
            return None
        if known is None:
            young = time.time() - run_dir.stat().st_mtime < _BIRTH
            return None if young else "it was never started, or its traces are lost"
        if _is_foreign(known):
            silent = _age(run_dir / PROCESS_FILE, run_dir) > _SILENCE
            what = f"nothing has been heard of it on {known['host']} for {_SILENCE / 60:.0f} minutes"
            return what if silent else None
        engine = known.get("engine")
        # An engine that has lost its supervisor ends the run in order, and makes the record.
        if _lives(known) or (isinstance(engine, dict) and _lives(engine)):
            return None
        return "killed, or the machine was restarted"


def _start(arguments: list[str], *, log: Any, cwd: Path | None = None) -> int:
    """Start a worker that needs nobody; returns its process id."""
    worker = subprocess.Popen(
        [sys.executable, "-m", "jupyter_mlops.worker", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=cwd,
        # A run that is a part of another one has processes of its own.
        env={name: value for name, value in os.environ.items() if name != WAITING_VARIABLE},
        start_new_session=True,
    )
    # A long-lived parent (a Jupyter server) would keep the ended worker as a zombie.
    threading.Thread(target=worker.wait, name="mlops-wait", daemon=True).start()
    return worker.pid


def _read_process_file(run_dir: Path) -> dict[str, Any] | None:
    """What it says; None when it is missing or damaged, as a power cut may leave it."""
    try:
        known = json.loads((run_dir / PROCESS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def _is_foreign(known: dict[str, Any]) -> bool:
    # A data directory on a shared file system holds runs of other machines.
    return known.get("host") not in (None, socket.gethostname())


def _lives(known: dict[str, Any]) -> bool:
    pid, born = known.get("pid"), known.get("born")
    return isinstance(pid, int) and born is not None and birth_of(pid) == born


def _age(path: Path, beside: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system; 0 when that cannot be told."""
    probe = beside / f".now.{os.getpid()}"
    try:
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _elsewhere(run_id: str, run_dir: Path) -> NotFoundError:
    return NotFoundError(
        f"The files of the run {run_id} are not here: there is no {run_dir}.",
        hint="Ask on the machine, and with the JUPYTER_MLOPS_DATA_DIR, with which it was started.",
    )


def _forbidden(run_id: str) -> MLOpsError:
    return MLOpsError(f"The run {run_id} belongs to another user of this machine.", code="forbidden")
