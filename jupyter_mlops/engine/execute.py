"""The whole story of one run, read top to bottom: prepare, start the kernel, tell MLflow, execute, end, publish."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cluster.client import STATE_FILE
from ..config import MLOps, load_config
from ..errors import MLOpsError
from ..events import MIRROR_VARIABLE, Event, EventWriter, MetricEvent, NoticeEvent, RunEvent
from ..profile import Profile
from ..redact import Redactor
from ..spec import FailureCode, RunSpec, RunState
from ..states import RUN_ID_VARIABLE
from .outcome import EngineStop, Outcome, over_memory_limit
from .publish import EXECUTED_NOTEBOOK, publish_run, queue_publication
from .resources import ResourceMonitor, count_oom_kills
from .stop import Stopper, end_tree, kernel_process
from .warm_kernel import WarmKernel, start_kernel

if TYPE_CHECKING:
    import psutil

    from ..snapshot import Snapshot
    from ..tracking.mlflow_run import BegunRun
    from .papermill_engine import MLOpsClient

_METRIC_INTERVAL = 2.0
"""Seconds between two looks at the metrics in MLflow."""
CANCEL_FILE = "cancel.json"
_RETRY = "`jupyter mlops retry {}` runs the same snapshot again."
_FULL = (errno.ENOSPC, errno.EDQUOT)


class RunLog:
    """The run's events, safe to use from every thread; what cannot be written ends the run and raises nowhere.

    Args:
        run_dir: The run's directory.
        redactor: Masks secrets in messages.
        cannot_write: Called when an event could not be written, or on a full disk anything else of the run.
    """

    def __init__(self, run_dir: Path, redactor: Redactor, cannot_write: Callable[[OSError], None]) -> None:
        self._writer = EventWriter(run_dir)
        self._redactor = redactor
        self._cannot_write = cannot_write
        self._lock = threading.Lock()
        self._known: dict[str, Any] = {}
        self._told = False

    def emit(self, event: Event) -> None:
        """Write one event, secrets masked."""
        text = {
            key: self._redactor.text(value)
            for key in ("message", "text", "line", "phase")
            if isinstance(value := getattr(event, key, None), str)
        }
        with self._lock:
            try:
                self._writer.write(event.model_copy(update=text) if text else event)
            except OSError as error:
                self._cannot_write(error)

    def cannot_write(self, error: OSError) -> None:
        """An output or the notebook could not be written: on a full disk the run ends, else the person is told."""
        if error.errno in _FULL:
            self._cannot_write(error)
        elif not self._told:
            self._told = True
            self.emit(NoticeEvent(level="warning", message=f"Something of the run could not be written: {error}"))

    def phase(self, phase: str, *, state: RunState = RunState.PENDING, **facts: Any) -> None:
        """Tell what the run is doing now, and what it has learned about itself so far."""
        self._known.update(facts)
        self.emit(RunEvent(state=state, phase=phase, **self._known))

    def known(self, fact: str) -> Any:
        """What the run has learned about itself, or None."""
        return self._known.get(fact)

    def end(self, outcome: Outcome) -> None:
        """Tell how the run ended; nothing follows."""
        self.emit(
            RunEvent(
                state=outcome.state,
                code=outcome.code,
                message=outcome.message,
                hint=outcome.hint,
                cell_index=outcome.cell_index,
                line=outcome.line,
                **self._known,
            )
        )


def execute_run(run_dir: Path, *, parent_pid: int | None = None, warm: WarmKernel | None = None) -> Outcome:
    """Execute the run of this directory, to its end and its record.

    Args:
        run_dir: Holds `spec.json`; everything that the run writes goes there.
        parent_pid: The supervisor; the run ends when that process is gone. None: there is none.
        warm: A kernel that waits for a run; it is used or ended. None: there is none.

    Returns:
        How it ended; the same is the last event.
    """
    spec = RunSpec.read(run_dir)
    config = load_config()
    redactor = Redactor.from_environment(config.secret_pattern)
    stopper = Stopper(config.interrupt_grace)
    reserve = _DiskReserve(run_dir)

    def cannot_write(error: OSError) -> None:
        # The reserve stays until the kernel is gone: what fills the disk would take it at once.
        if stopper.reason is None:
            stopper.request(_os_outcome(error, run_dir), at_once=True)

    log = RunLog(run_dir, redactor, cannot_write)
    _listen_to_signals(run_dir, stopper)
    _watch_time(spec, stopper)
    _watch_outside(run_dir, parent_pid, stopper)
    log.phase("preparing", total_cells=None)
    run = _Execution(spec, run_dir, config, redactor, stopper, log, warm)
    try:
        outcome = run.execute()
    except EngineStop as stop:
        outcome = stop.outcome
    except OSError as error:
        outcome = stopper.reason or _os_outcome(error, run_dir)
    except MLOpsError as error:
        code = FailureCode(error.code) if error.code in set(FailureCode) else FailureCode.INTERNAL
        outcome = stopper.reason or Outcome(RunState.FAILED, code, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - whatever it is, the run needs a record
        outcome = stopper.reason or _internal(error, run_dir)
    if run.warm is not None:  # it ended before it came to its kernel
        run.warm.end()
    if outcome.code is FailureCode.DISK_FULL:
        reserve.release()
    log.phase("saving the results", state=RunState.RUNNING)
    try:
        publish_run(run_dir, config, spec=spec, outcome=outcome, redactor=redactor)
    except MLOpsError as error:
        queue_publication(run_dir)
        log.emit(
            NoticeEvent(
                level="warning",
                message=f"{error.message} The record is kept here; `jupyter mlops sync` sends it later.",
            )
        )
    except Exception as error:  # noqa: BLE001 - the outcome of the run stands whatever happens to its publication
        queue_publication(run_dir)
        log.emit(NoticeEvent(level="warning", message=f"The record could not be sent to MLflow: {error}"))
    log.end(outcome)
    reserve.release()
    return outcome


class _Execution:
    """One run on its way; the steps of `execute_run` that share their parts."""

    def __init__(
        self, spec: RunSpec, run_dir: Path, config: MLOps, redactor: Redactor, stopper: Stopper, log: RunLog,
        warm: WarmKernel | None,
    ) -> None:  # fmt: skip
        self.spec = spec
        self.run_dir = run_dir
        self.config = config
        self.redactor = redactor
        self.stopper = stopper
        self.log = log
        self.warm = warm
        self.inside: dict[str, str] = {}
        self.directory: Path | None = None
        self.monitor: ResourceMonitor | None = None
        self.uri = config.mlflow_uri_of(spec.tracking_uri)
        self.gpus = _gpus(spec.profile)

    def execute(self) -> Outcome:
        from ..notebook.document import notebook_language, read_notebook, resolve_kernel
        from ..snapshot import SnapshotStore

        store = SnapshotStore(self.config.data_path)
        snapshot = store.load(self.spec.snapshot_id)
        notebook = store.materialize(snapshot.id, self.run_dir / "work")
        nb = read_notebook(notebook)
        kernel_name = resolve_kernel(nb, self.spec.kernel_name)
        from_inside = notebook_language(nb) == "python"
        with ThreadPoolExecutor(1, thread_name_prefix="mlops-mlflow") as pool:
            # MLflow's own import takes longer than a kernel's start: both at once.
            begun = pool.submit(self._begin, snapshot, nb)
            self._raise_if_stopped()
            self.log.phase("starting the kernel")
            manager = self._warm_kernel(kernel_name, notebook.parent) if from_inside else None
            if manager is None:
                environment = {} if from_inside else self._kernel_environment(begun.result())
                manager = self._start_kernel(kernel_name, notebook.parent, {**self._own_variables(), **environment})
            kernel = kernel_process(manager)
            self.stopper.watch_kernel(kernel)
            try:
                return self._execute_cells(nb, kernel_name, manager, begun if from_inside else None, snapshot)
            finally:
                _end_kernel(manager, kernel, self.stopper)
                if self.monitor is not None:
                    self.monitor.stop()
                with suppress(OSError):  # a kernel that was killed leaves word of a Dask cluster that is gone
                    (self.run_dir / STATE_FILE).unlink()

    def _raise_if_stopped(self) -> None:
        if self.stopper.reason is not None:
            raise EngineStop(self.stopper.reason)

    def _begin(self, snapshot: Snapshot, nb: Any) -> BegunRun:
        from ..notebook.parameters import read_parameters
        from ..tracking.mlflow_run import begin_run

        defaults = {p.name: p.default for p in read_parameters(nb) if p.has_default and not p.default_source}
        return begin_run(
            self.spec,
            snapshot,
            uri=self.uri,
            wait=self.config.mlflow_wait,
            redactor=self.redactor,
            defaults=defaults,
        )

    def _kernel_environment(self, begun: BegunRun) -> dict[str, str]:
        from ..tracking.mlflow_run import kernel_environment

        self.log.phase("starting the kernel", mlflow_run_id=begun.mlflow_run_id, mlflow_url=begun.url)
        return kernel_environment(begun, self.spec, uri=self.uri)

    def _own_variables(self) -> dict[str, str]:
        """What the kernel and everything that it starts carry from their first moment.

        `RUN_ID_VARIABLE` is also how leftovers of a run are found when all of its own processes were killed.
        """
        variables = {
            RUN_ID_VARIABLE: self.spec.run_id,
            "JUPYTER_MLOPS_RUN_DIR": str(self.run_dir),
            "JUPYTER_MLOPS_SOURCE": self.spec.source,
        }
        if self.gpus is not None:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return variables

    def _warm_kernel(self, kernel_name: str, directory: Path) -> Any:
        """The manager of the kernel that waits, if it is what this run needs; the rest it gets from inside."""
        warm, self.warm = self.warm, None
        if warm is None:
            return None
        if not warm.fits(kernel_name, self.spec.seed):
            warm.end()
            return None
        self.inside, self.directory = self._own_variables(), directory
        return warm.manager

    def _start_kernel(self, kernel_name: str, directory: Path, environment: dict[str, str]) -> Any:
        variables = {**os.environ, **environment, "PYTHONHASHSEED": str(self.spec.seed)}
        # A debugger's or an outer run's variables are not this kernel's.
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "JPY_SESSION_NAME",
                     MIRROR_VARIABLE):  # fmt: skip
            if name not in environment:
                variables.pop(name, None)
        try:
            return start_kernel(kernel_name, directory, variables)
        except Exception as error:
            raise EngineStop(
                Outcome(
                    RunState.FAILED, FailureCode.KERNEL_START,
                    f"The kernel '{kernel_name}' could not be started: {error}",
                    f"Try it by hand: jupyter console --kernel {kernel_name}",
                )
            ) from error  # fmt: skip

    def _execute_cells(
        self, nb: Any, kernel_name: str, manager: Any, begun: Future[BegunRun] | None, snapshot: Snapshot
    ) -> Outcome:
        import papermill

        from ..notebook.parameters import parameterize, read_parameters
        from ..tracking.html import warm_up
        from .kernel_setup import inject_client, setup_source
        from .papermill_engine import Listening, failed_cell

        declared = {parameter.name: parameter.default for parameter in read_parameters(nb)}
        if self.spec.parameters:
            nb = parameterize(nb, self.spec.parameters, kernel_name)
        inject_client(nb, self.spec.parameters, declared)
        sources = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "code")
        kills_before = count_oom_kills()

        def setup() -> str:
            assert begun is not None
            self.log.phase("waiting for MLflow")
            return setup_source(
                environment={**self.inside, **self._kernel_environment(begun.result())},
                directory=self.directory,
                seed=self.spec.seed,
                autolog=self.spec.autolog,
                sources=sources,
            )

        followers: list[_MetricFollower | Any] = []

        def first_cell_begins() -> None:
            mlflow_run_id = self.log.known("mlflow_run_id")
            cells = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in nb.cells)
            self.log.phase("", state=RunState.RUNNING, total_cells=cells)
            if mlflow_run_id:
                followers.append(_MetricFollower(self.uri, mlflow_run_id, self.log))
                if self.config.system_metrics:
                    followers.append(_system_metrics(self.uri, mlflow_run_id))
                for follower in followers:
                    follower.start()
            # Its imports take a second, and the run would wait for them at its end.
            threading.Thread(target=warm_up, name="mlops-html", daemon=True).start()

        listening = Listening(
            emit=self.log.emit,
            outputs_dir=self.run_dir / "outputs",
            redactor=self.redactor,
            cell_limit=self.config.output_limit,
            total_limit=self.config.notebook_output_limit,
            profile=self.spec.profile,
            stopper=self.stopper,
            setup=setup if begun is not None else None,
            oom_kills=lambda: count_oom_kills() - kills_before,
            last_memory=lambda: self.monitor.last_memory if self.monitor else None,
            memory_limit=self._memory_limit,
            cannot_write=self.log.cannot_write,
            kernel_ready=self._watch_resources,
            first_cell=first_cell_begins,
        )
        try:
            papermill.execute_notebook(
                nb,
                # Not papermill's to write: it would put cells of its own before an error, so that positions no longer
                # hold, and a full disk or a kill in mid-write would leave half a notebook.
                None,
                engine_name="mlops",
                kernel_name=kernel_name,
                progress_bar=False,
                cwd=None,
                save_to=self.run_dir / EXECUTED_NOTEBOOK,
                listening=listening,
                kernel_manager=manager,
                execution_timeout=self.spec.cell_timeout,
            )
        except papermill.PapermillExecutionError:
            pass  # the notebook tells more than the exception
        finally:
            for follower in followers:
                follower.stop()
        executed = listening.notebook if listening.notebook is not None else nb
        failure = failed_cell(executed)
        if self.stopper.reason is not None:
            return self.stopper.reason
        return failure or Outcome(RunState.SUCCEEDED, message="")

    def _watch_resources(self, client: MLOpsClient) -> None:
        kernel = kernel_process(client.km)
        if kernel is None:
            return

        def over_limit(used: int) -> None:
            limit = self.spec.profile.memory or 0
            index = client.nb_man.current
            self.stopper.request(
                over_memory_limit(used=used, limit=limit, cell_index=index, number=client.nb_man.number(index)),
                at_once=True,
            )

        self.monitor = ResourceMonitor(
            kernel.pid,
            self.run_dir,
            emit=self.log.emit,
            interval=self.config.resource_interval,
            memory_limit=self.spec.profile.memory,
            over_limit=over_limit,
            gpus=self.gpus,
        )
        self.monitor.start()

    def _memory_limit(self) -> int | None:
        limits = (self.spec.profile.memory, self.monitor.group_limit if self.monitor else None)
        return min((limit for limit in limits if limit is not None), default=None)


def _gpus(profile: Profile) -> list[str] | None:
    """The GPUs that the run may see, as `CUDA_VISIBLE_DEVICES` names them; None: as this process sees them."""
    if not profile.gpus:
        return None if profile.gpus is None else []
    from ..cluster.local import visible_gpus

    return visible_gpus()[: profile.gpus]


class _MetricFollower(threading.Thread):
    """Turns what user code logs to MLflow into events."""

    def __init__(self, uri: str, mlflow_run_id: str, log: RunLog) -> None:
        super().__init__(name="mlops-metrics", daemon=True)
        self._uri, self._mlflow_run_id, self._log = uri, mlflow_run_id, log
        self._ended = threading.Event()

    def run(self) -> None:
        """Look until stopped, and once more then."""
        from ..tracking.metrics import MetricPoller

        poller = MetricPoller(self._uri, self._mlflow_run_id)
        told = False
        while True:
            last = self._ended.wait(_METRIC_INTERVAL)
            event: MetricEvent
            for event in poller.poll():
                self._log.emit(event)
            if poller.problem and not told:
                told = True
                self._log.emit(NoticeEvent(level="warning", message=poller.problem))
            if last:
                return

    def stop(self) -> None:
        """End after one more look; an MLflow that does not answer is not waited for long."""
        self._ended.set()
        self.join(timeout=10)


def _system_metrics(uri: str, mlflow_run_id: str) -> Any:
    from ..tracking.system_metrics import SystemMetrics

    return SystemMetrics(uri, mlflow_run_id)


def _end_kernel(manager: Any, kernel: psutil.Process | None, stopper: Stopper) -> None:
    """Shut the kernel down if the client has not, and end what it leaves behind."""
    from jupyter_core.utils import run_sync

    async def shut_down() -> None:
        if await manager.is_alive():
            await manager.shutdown_kernel(now=True)

    with suppress(Exception):  # it may be gone in any state; end_tree below is certain
        run_sync(shut_down)()
    stopper.kernel_done()
    if kernel is not None:
        end_tree(kernel)


class _DiskReserve:
    """A little room that is given back when the disk is full, so that the last event can still be written."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / ".reserve"
        with suppress(OSError):
            self._path.write_bytes(os.urandom(256 * 1024))

    def release(self) -> None:
        with suppress(OSError):
            self._path.unlink()


def _listen_to_signals(run_dir: Path, stopper: Stopper) -> None:
    def stop(_signal: int, _frame: Any) -> None:
        stopper.request(cancel_outcome(run_dir))

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)


def cancel_outcome(run_dir: Path) -> Outcome:
    """The outcome of a run that was told to stop, with who asked where that is known.

    It is no end where the run is to begin again in another place (`interrupted` in the file): then it stays pending.
    Where what it ran on is gone (`lost`), nobody has cancelled it: it failed.
    """
    import json

    try:
        told = json.loads((run_dir / CANCEL_FILE).read_text(encoding="utf-8"))
        by, interrupted, lost = told.get("by"), told.get("interrupted"), told.get("lost")
    except (OSError, ValueError, AttributeError):
        by = interrupted = lost = None
    if interrupted:
        return Outcome(RunState.PENDING, FailureCode.EVICTED, str(interrupted), "")
    if lost:
        return Outcome(RunState.FAILED, FailureCode.WORKER_DIED, str(lost), _RETRY.format(run_dir.name))
    who = f" by {by}" if by else " from outside"
    return Outcome(RunState.CANCELLED, FailureCode.CANCELLED, f"The run was cancelled{who}.", "")


def _watch_time(spec: RunSpec, stopper: Stopper) -> None:
    if spec.run_timeout is None:
        return
    outcome = Outcome(
        RunState.FAILED, FailureCode.RUN_TIMEOUT, f"The run was stopped: it ran longer than {spec.run_timeout:g} s.",
        "Raise --timeout, or make the notebook do less.",
    )  # fmt: skip
    timer = threading.Timer(spec.run_timeout, stopper.request, [outcome])
    timer.daemon = True
    timer.start()


def _watch_outside(run_dir: Path, parent_pid: int | None, stopper: Stopper) -> None:
    """Notice within a second or two that the supervisor is gone, or that somebody left word to cancel.

    The word is enough without a signal: it reaches a run from another machine that shares the directory, and one whose
    processes do not listen yet.
    """
    orphaned = Outcome(
        RunState.FAILED, FailureCode.WORKER_DIED, "The supervisor of the run was killed; the run was ended in order.",
        _RETRY.format(run_dir.name),
    )  # fmt: skip

    def watch() -> None:
        while True:
            if (run_dir / CANCEL_FILE).exists():
                stopper.request(cancel_outcome(run_dir))
                return
            if parent_pid is not None and os.getppid() != parent_pid:
                stopper.request(orphaned)
                return
            time.sleep(1)

    threading.Thread(target=watch, name="mlops-outside", daemon=True).start()


def _disk_full(run_dir: Path) -> Outcome:
    return Outcome(
        RunState.FAILED, FailureCode.DISK_FULL, f"The disk is full: {run_dir} cannot be written.",
        "Free some space, then retry the run; what was saved before is whole.",
    )  # fmt: skip


def _os_outcome(error: OSError, run_dir: Path) -> Outcome:
    if error.errno in _FULL:
        return _disk_full(run_dir)
    return _internal(error, run_dir)


def _internal(error: BaseException, run_dir: Path) -> Outcome:
    import traceback

    traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
    return Outcome(
        RunState.FAILED, FailureCode.INTERNAL, f"The engine failed: {type(error).__name__}: {error}",
        f"The whole error is in {run_dir / 'worker.log'}; please report it.",
    )  # fmt: skip
