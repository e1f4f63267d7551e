"""Takes runs in, in the head of a cluster: calls on the connection of its Dask scheduler (`calls` names them).

Whoever has the cluster's certificate may call; what a call brings is checked all the same, as it comes from elsewhere.
A run has its directory below the head's data directory, and one process of its own that was made ready before.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import MLOps
from ..errors import ClusterError, MLOpsError, UsageError
from ..events import EVENTS_FILE, EventWriter, RunEvent
from ..spec import RunSpec, RunState
from . import calls
from .spare import READY

RESULTS = ("executed.ipynb", "executed.html", "results.pkl", "worker.log", "unpublished")
OUTPUTS = "outputs"
_UPLOAD = re.compile(r"[0-9a-f]{12,64}")
_NEXT = 3.0
"""Seconds after a run began until the next engine is made ready: its first cell shall have the machine."""
_WARMING = 120.0
"""Seconds that an engine may take until it is ready, and until when no other is begun."""
_LOOK = 0.05
_UPLOAD_IDLE = 600.0
"""Seconds without a further block after which an upload counts as broken off."""
_ENDING = 60.0


@dataclass
class _Spare:
    """An engine that waits for a run, or has one."""

    process: subprocess.Popen[bytes]
    ready: threading.Event = field(default_factory=threading.Event)

    def assign(self, run_dir: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(str(run_dir)).encode() + b"\n")
        self.process.stdin.flush()


class Acceptor:
    """The runs of one cluster.

    Args:
        config: Of the head; its data directory is the head's own.
        variables: The environment of the engines.
        state: What the head tells of itself, on `calls.STATE`.
        scale: Changes the number of Dask workers, on `calls.SCALE`.
    """

    def __init__(
        self,
        config: MLOps,
        variables: Mapping[str, str],
        *,
        state: Callable[[], dict[str, Any]],
        scale: Callable[[int], Awaitable[None]],
    ) -> None:
        self._config = config
        self._data = config.data_path
        self._variables = dict(variables)
        self._state, self._scale = state, scale
        self._runs: dict[str, _Spare] = {}
        self._spare: _Spare | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.last_use = time.monotonic()

    def attach(self, scheduler: Any) -> None:
        """Answer calls from now on, and have the first engine made ready."""
        scheduler.handlers.update({
            calls.STATE: self.state, calls.SCALE: self.scale, calls.SUBMIT: self.submit, calls.PUT: self.put,
            calls.EVENTS: self.events, calls.CANCEL: self.cancel, calls.FILES: self.files, calls.READ: self.read,
        })  # fmt: skip
        self._make_spare()

    def active(self) -> list[str]:
        """The runs whose process lives."""
        return [run_id for run_id, spare in list(self._runs.items()) if spare.process.poll() is None]

    def state(self) -> dict[str, Any]:
        """What is known of the cluster now."""
        spare = self._spare
        return {**self._state(), "runs": self.active(), "ready": spare is not None and spare.ready.is_set()}

    async def scale(self, workers: int) -> bool:
        """Have so many Dask workers."""
        self.last_use = time.monotonic()
        await self._scale(workers)
        return True

    async def submit(self, spec: str) -> str:
        """Start a run; doing so twice changes nothing.

        Returns:
            `accepted`, or `snapshot`: the one that it names must be sent before.
        """
        from ..snapshot import SnapshotStore

        try:
            run = RunSpec.from_json(spec)
        except ValueError as error:
            raise UsageError(
                f"The head's jupyter-mlops cannot read this run: {str(error).splitlines()[0]}",
                hint="The cluster and who submits to it need the same jupyter-mlops.",
            ) from None
        self.last_use = time.monotonic()
        if run.run_id in self._runs:
            return "accepted"
        try:
            SnapshotStore(self._data).load(run.snapshot_id)
        except MLOpsError:
            return "snapshot"
        run_dir = self._config.run_dir(run.run_id)
        run_dir.mkdir(parents=True, mode=0o700, exist_ok=True)  # one that could not be handed over is sent again
        (run_dir / "spec.json").write_text(spec, encoding="utf-8")
        spare = self._hand_over(run.run_id, run_dir)
        threading.Thread(target=self._make_next, args=(spare,), name="mlops-next", daemon=True).start()
        return "accepted"

    async def put(self, upload: str, offset: int, data: bytes, last: bool) -> bool:
        """A block of the zip of a snapshot.

        Args:
            upload: Names this upload; any hexadecimal number.
            offset: Where the block belongs.
            data: The block.
            last: Whether it is the last one; then the snapshot is checked and kept.
        """
        from ..kubernetes.transport import take_zip
        from ..snapshot import SnapshotStore

        if _UPLOAD.fullmatch(upload) is None:
            raise UsageError(f"{upload!r} names no upload.")
        path = self._data / f".upload-{upload}.zip"
        if not offset:
            self._sweep_uploads()
        with path.open("ab") as file:
            if file.tell() != offset:
                raise UsageError("A block of the snapshot is missing.", code="damaged")
            file.write(data)
        if last:
            try:
                await asyncio.to_thread(take_zip, path, SnapshotStore(self._data))
            finally:
                path.unlink()
        return True

    def _sweep_uploads(self) -> None:
        """Remove what was begun and broken off."""
        for path in self._data.glob(".upload-*.zip"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _UPLOAD_IDLE:
                    path.unlink()

    async def events(self, run_id: str, offset: int, wait: float) -> dict[str, Any]:
        """What a run has told from a byte of its events on, as soon as there is something.

        Returns:
            `data`: whole lines, perhaps none; `ended`: nothing will follow; or `unknown`: there is no such run here.
        """
        spare = self._runs.get(run_id)
        if spare is None:
            return {"unknown": True}
        until = time.monotonic() + min(wait, calls.LONGEST_WAIT)
        while True:
            over = spare.process.poll() is not None  # before the file is read: then nothing can follow
            data = _lines_from(self._config.run_dir(run_id) / EVENTS_FILE, offset)
            if data or over or time.monotonic() > until:
                return {"data": data, "ended": over and not data}
            await asyncio.sleep(_LOOK)

    async def cancel(self, run_id: str, by: str) -> bool:
        """Have a run ended; gives whether there is one."""
        from ..engine.execute import CANCEL_FILE

        spare = self._runs.get(run_id)
        if spare is None or spare.process.poll() is not None:
            return False
        run_dir = self._config.run_dir(run_id)
        temporary = run_dir / f".{CANCEL_FILE}"
        temporary.write_text(json.dumps({"by": by}), encoding="utf-8")
        temporary.replace(run_dir / CANCEL_FILE)
        return True

    async def files(self, run_id: str) -> list[tuple[str, int]]:
        """Paths and sizes of what a run has left."""
        if run_id not in self._runs:
            return []
        run_dir = self._config.run_dir(run_id)
        outputs = (path for path in (run_dir / OUTPUTS).rglob("*"))
        found = [run_dir / name for name in RESULTS] + sorted(outputs)
        return [
            (path.relative_to(run_dir).as_posix(), path.stat().st_size)
            for path in found
            if path.is_file() and not path.is_symlink()
        ]

    async def read(self, run_id: str, path: str, offset: int) -> bytes:
        """A block of a file that `files` has named."""
        if path not in dict(await self.files(run_id)):
            raise UsageError(f"The run {run_id} has no file {path!r}.")
        with (self._config.run_dir(run_id) / path).open("rb") as file:
            file.seek(offset)
            return file.read(calls.BLOCK)

    def close(self, by: str) -> None:
        """Cancel every run, wait until each has its record, and end the engine that waits."""
        with self._lock:
            self._closed = True
            spare = self._spare
        if spare is not None:
            _dismiss(spare)
        deadline = time.monotonic() + _ENDING
        for run_id in self.active():
            asyncio.run(self.cancel(run_id, by))
        for each in [*self._runs.values(), *([spare] if spare else [])]:
            with suppress(subprocess.TimeoutExpired):
                each.process.wait(max(0.1, deadline - time.monotonic()))

    def _hand_over(self, run_id: str, run_dir: Path) -> _Spare:
        with self._lock:
            if self._closed:
                raise ClusterError("The cluster is about to end and takes no more runs.", code="cluster_gone")
            spare, self._spare = self._spare, None
            if spare is None or not spare.ready.is_set():
                _say(run_dir, "waiting until the cluster has an engine ready")
            try:
                if spare is None:
                    raise BrokenPipeError
                spare.assign(run_dir)
            except OSError:  # there is none, or it has died
                spare = self._start()
                spare.assign(run_dir)
            self._runs[run_id] = spare
        return spare

    def _make_next(self, before: _Spare) -> None:
        before.ready.wait(_WARMING)
        time.sleep(_NEXT)
        self._make_spare()

    def _make_spare(self) -> None:
        with self._lock:
            if not self._closed and (self._spare is None or self._spare.process.poll() is not None):
                self._spare = self._start()

    def _start(self) -> _Spare:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_mlops.warm.spare"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=self._data, env=self._variables,
        )  # fmt: skip
        spare = _Spare(process)
        threading.Thread(target=_listen, args=(spare,), name="mlops-spare", daemon=True).start()
        return spare


def _listen(spare: _Spare) -> None:
    """Wait for its one word."""
    assert spare.process.stdout is not None
    if spare.process.stdout.readline() == READY:
        spare.ready.set()
    spare.process.stdout.close()
    spare.process.wait()


def _say(run_dir: Path, phase: str) -> None:
    """The first event of a run that has to wait; the engine's own follow it."""
    writer = EventWriter(run_dir)
    try:
        writer.write(RunEvent(state=RunState.PENDING, phase=phase))
    finally:
        writer.close()


def _dismiss(spare: _Spare) -> None:
    assert spare.process.stdin is not None
    with suppress(OSError):
        spare.process.stdin.close()


def _lines_from(path: Path, offset: int) -> bytes:
    """Whole lines of a file from a position on, at most a block of them."""
    try:
        with path.open("rb") as file:
            if offset < 0 or os.fstat(file.fileno()).st_size <= offset:
                return b""
            file.seek(offset)
            block = file.read(calls.BLOCK)
    except OSError:
        return b""
    return block[: block.rfind(b"\n") + 1]
