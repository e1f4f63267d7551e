"""What a run tells while it runs: typed events, one JSON object a line in `events.jsonl` of the run's directory.

The engine and its supervisor write them; every view (widget, terminal, REST) and the store are made from them by
replaying the file, so a view that comes late or comes back sees the same as one that was there from the start.
Knows nothing of who writes or reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from .states import EVENTS_FILE as EVENTS_FILE  # noqa: PLC0414 - part of what this room offers
from .states import FailureCode, RunState

MIRROR_VARIABLE = "JUPYTER_MLOPS_EVENTS_FD"
"""Number of an open file that gets every event as well (a pod's standard output, which is read from outside); a process
that writes events must be handed that file."""


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")  # a newer writer may say more

    time: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))


class RunEvent(_Event):
    """The run as a whole changed its state, or learned something about itself.

    Attributes:
        state: How the run stands now.
        phase: What it is doing in words, while pending or running ("starting the kernel").
        code: Why it ended, when it ended other than well.
        message: One sentence for the person.
        hint: The next step.
        cell_index: The cell at fault, counted from 0 in the executed notebook; None: none is.
        line: The source line at fault, as text.
        mlflow_run_id: The MLflow run, once there is one.
        mlflow_url: Where a browser shows it, or None for a store without a server.
        total_cells: Code cells to execute, once known.
    """

    type: Literal["run"] = "run"
    state: RunState
    phase: str = ""
    code: FailureCode | None = None
    message: str = ""
    hint: str = ""
    cell_index: int | None = None
    line: str | None = None
    mlflow_run_id: str | None = None
    mlflow_url: str | None = None
    total_cells: int | None = None


class CellEvent(_Event):
    """A code cell started or ended.

    Attributes:
        index: Position among all cells of the executed notebook, from 0.
        number: Position among its code cells, from 1.
        state: running, succeeded or failed.
        title: The cell's first telling line, cut to one line of at most 80 characters.
        digest: Of the source, so that times can be compared between runs.
        duration: Seconds, once ended.
    """

    type: Literal["cell"] = "cell"
    index: int
    number: int
    state: Literal["running", "succeeded", "failed"]
    title: str = ""
    digest: str = ""
    duration: float | None = None


class MetricEvent(_Event):
    """A metric that user code logged to MLflow, as last seen."""

    type: Literal["metric"] = "metric"
    key: str
    value: float
    step: int = 0


class LogEvent(_Event):
    """Text that a cell or the worker printed; bounded, the whole is in `outputs/`."""

    type: Literal["log"] = "log"
    stream: Literal["stdout", "stderr", "worker"] = "stdout"
    text: str
    cell_index: int | None = None


class GPUUse(BaseModel):
    """One GPU as NVML sees it; memory in bytes, utilization in percent."""

    model_config = ConfigDict(frozen=True)

    index: int
    name: str
    utilization: float
    memory_used: int
    memory_total: int


class DaskUse(BaseModel):
    """The run's Dask cluster as its scheduler sees it; memory in bytes."""

    model_config = ConfigDict(frozen=True)

    workers: int
    threads: int
    tasks: int
    processing: int
    in_memory: int
    erred: int
    memory: int = 0
    dashboard: str | None = None


class ResourceEvent(_Event):
    """What the run uses now: its kernel and all of that kernel's children.

    Attributes:
        cpu_percent: 100 is one core.
        memory: Resident bytes.
        memory_limit: Bytes it may use, or None.
        gpus: One entry a visible GPU.
        dask: None while the notebook has no Dask cluster.
    """

    type: Literal["resource"] = "resource"
    cpu_percent: float
    memory: int
    memory_limit: int | None = None
    gpus: tuple[GPUUse, ...] = ()
    dask: DaskUse | None = None


class NoticeEvent(_Event):
    """Something the person should know that changes no state (output was cut, MLflow is slow)."""

    type: Literal["notice"] = "notice"
    level: Literal["info", "warning"] = "info"
    message: str


Event = Annotated[
    RunEvent | CellEvent | MetricEvent | LogEvent | ResourceEvent | NoticeEvent, Field(discriminator="type")
]
_adapter: TypeAdapter[Event] = TypeAdapter(Event)


def parse_event(line: str | bytes) -> Event:
    """One event from its line.

    Raises:
        ValueError: the line is no event (torn by a kill, or of an unknown type).
    """
    return _adapter.validate_python(json.loads(line))


def event_line(event: Event) -> bytes:
    """The event as its file holds it, with the line's end."""
    # The standard library's JSON: metrics may be nan or inf, which pydantic's would turn into null.
    data = event.model_dump()
    data["time"] = event.time.isoformat()
    return json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


class EventWriter:
    """Appends events to a run's file, and to the open file of `MIRROR_VARIABLE` if there is one.

    Each event is one `write` to a file opened for appending, so that a kill can tear at most the last line and two
    processes that write by turns do not mix theirs.
    """

    def __init__(self, run_dir: Path) -> None:
        self._torn = False
        mirror = os.environ.get(MIRROR_VARIABLE, "")
        self._mirror = int(mirror) if mirror.isdecimal() else None
        self._fd = os.open(run_dir / EVENTS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        # A predecessor that was killed in mid-write leaves a line without an end: close it first.
        size = os.fstat(self._fd).st_size
        if size:
            with (run_dir / EVENTS_FILE).open("rb") as file:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    os.write(self._fd, b"\n")

    def write(self, event: Event) -> None:
        """Append one event.

        Raises:
            OSError: the disk is full or the file is gone.
        """
        line = event_line(event)
        if self._torn:
            line = b"\n" + line
        # A disk that becomes full takes the first part of a line and refuses the rest.
        written = os.write(self._fd, line)
        self._torn = self._torn or written < len(line)
        while written < len(line):
            written += os.write(self._fd, line[written:])
        self._torn = False
        if self._mirror is not None:
            rest = line.lstrip(b"\n")
            with contextlib.suppress(OSError):  # a view that is gone is no reason to end the run
                while rest:
                    rest = rest[os.write(self._mirror, rest) :]

    def close(self) -> None:
        """Close the file; writing afterwards is an error."""
        os.close(self._fd)


def read_events(
    run_dir: Path,
    *,
    follow: bool = False,
    stop: Callable[[], bool] = lambda: False,
    poll_interval: float = 0.1,
) -> Iterator[Event]:
    """The events of a run, in order, from its first.

    Args:
        run_dir: The run's directory.
        follow: Wait for more until the run has ended (a `RunEvent` with a terminal state) or `stop()`.
        stop: Asked whenever the end of the file is reached.
        poll_interval: Seconds between looks at the file while following.

    Yields:
        Events; lines that are none (torn by a kill) are passed over.
    """
    path = run_dir / EVENTS_FILE
    pending = b""
    ended = False
    position = 0
    while True:
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                chunk = file.read()
            position += len(chunk)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                try:
                    event = parse_event(line)
                except ValueError:
                    continue
                yield event
                ended = ended or (isinstance(event, RunEvent) and event.state.is_terminal)
            if lines:
                continue
        if not follow or ended or stop():
            return
        time.sleep(poll_interval)
