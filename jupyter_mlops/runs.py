"""What can be done with runs. The command line, the magics, the widgets and REST call these functions, nothing below.

A run is prepared (everything is checked, nothing is created), submitted, followed, and read back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

from .audit import Auditor
from .config import MLOps, load_config
from .errors import (
    ClusterError,
    ConfigError,
    KubernetesError,
    MLOpsError,
    NotFoundError,
    ParameterError,
    StoreError,
    TrackingError,
    UsageError,
)
from .events import CellEvent, Event, RunEvent
from .identity import current_user
from .profile import Profile
from .redact import Redactor
from .runner import ElasticRunner, Runner, get_runner
from .spec import FailureCode, RunSpec, RunState, new_run_id

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from .compare import ComparedRun
    from .snapshot import Snapshot
    from .store.audit import AuditEntry
    from .store.database import Store
    from .store.models import RunRecord

_AWAY = (KubernetesError, TrackingError, ConfigError, ClusterError)
"""What keeps one from seeing how a run stands; what is known of it stays."""
_REFRESHED = 2000
"""A list looks after at most so many runs that have not ended."""
_TURN = 1.0
"""Seconds between two looks at runs whose ends are waited for."""
_REST = 4.0
"""So many times as long as a look took is no other one made."""
_TICK = 0.2


@dataclass(frozen=True)
class PreparedRun:
    """A run that was checked and not yet created.

    Attributes:
        spec: What is going to run.
        snapshot: What ships.
        notices: Sentences that the person should read first.
    """

    spec: RunSpec
    snapshot: Snapshot
    notices: tuple[str, ...] = ()


@dataclass
class Runs:
    """The runs of one configuration; the store is opened when it is first needed.

    Attributes:
        config: The settings.
        front: Where its functions are called from, for the audit log.
    """

    config: MLOps = field(default_factory=load_config)
    front: str = "python"
    _store: Store | None = None

    @property
    def store(self) -> Store:
        """The store of the configuration."""
        if self._store is None:
            from .store.database import Store

            self._store = Store(self.config.store_uri())
        return self._store

    @property
    def audit(self) -> Auditor:
        """Makes the entries of the audit log."""
        return Auditor(self.config, self.front)

    def prepare(
        self,
        notebook: Path,
        *,
        profile: Profile | None = None,
        assignments: Mapping[str, str] | None = None,
        parameters: Mapping[str, Any] | None = None,
        name: str | None = None,
        experiment: str | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        kernel_name: str | None = None,
        autolog: bool = False,
        seed: int = 0,
        run_timeout: float | None = None,
        cell_timeout: float | None = None,
        tags: Mapping[str, str] | None = None,
        run_key: str | None = None,
        extra_files: Mapping[str, bytes] | None = None,
        content: NotebookNode | None = None,
        cluster: str | None = None,
    ) -> PreparedRun:
        """Check everything that can be checked, and create nothing.

        Args:
            notebook: The notebook's file; with `content`, the place that it stands for.
            profile: The resources; default: the configuration's default profile.
            assignments: Parameters as text, typed by their declaration ("-p name=value").
            parameters: Parameters as values; those of `assignments` win.
            name: The run's name; default: the notebook's.
            experiment: MLflow experiment; default: the one that the notebook sets, else the notebook's name.
            include: Globs of files to ship.
            exclude: Globs of found files not to ship.
            kernel_name: The kernel instead of the notebook's own.
            autolog: Call `mlflow.autolog()` before the first cell.
            seed: Seed of the random generators.
            run_timeout: Seconds for the run.
            cell_timeout: Seconds for each cell.
            tags: More MLflow tags.
            run_key: What makes a repeated submission the same run.
            extra_files: Files to put beside the notebook, by relative path.
            content: A notebook that is in no file.
            cluster: Name of the warm cluster to run on; `profile` is then that of `Clusters.profile_of`.

        Raises:
            UsageError: the notebook, a parameter, the profile or the files.
        """
        from .notebook.document import kernel_interpreter, read_notebook, resolve_kernel, strip_outputs
        from .notebook.parameters import accepts_any_name, bind_parameters, parameterize, read_parameters
        from .snapshot import build_snapshot
        from .tracking.source import experiment_in_source, tracking_hazards

        notebook = notebook.expanduser().absolute()
        nb = content if content is not None else read_notebook(notebook)
        profile = profile or self.config.profile()
        kernel = resolve_kernel(nb, kernel_name)
        bound = bind_parameters(
            read_parameters(nb),
            text=assignments or {},
            values=parameters or {},
            secret_pattern=self.config.secret_pattern,
            any_name=accepts_any_name(nb),
        )
        redactor = Redactor.from_environment(self.config.secret_pattern)
        for what, value in (
            *((f"The parameter '{key}'", value) for key, value in bound.items()),
            *((f"The tag '{key}'", value) for key, value in (tags or {}).items()),
            ("The run's name", name),
            ("The name of the experiment", experiment),
        ):
            _refuse_secret(what, value, redactor)
        runner = get_runner(profile.runner, self.config)
        stripped = strip_outputs(nb)
        parameterize(stripped, bound, kernel)  # refuses what the kernel's language cannot carry
        snapshot = build_snapshot(
            notebook,
            stripped,
            config=self.config,
            include=include,
            exclude=exclude,
            seed=seed,
            extra_files=extra_files,
            kernel_python=kernel_interpreter(kernel),
        )
        spec = RunSpec(
            run_id=new_run_id(),
            run_key=run_key,
            name=name or notebook.stem,
            notebook=snapshot.notebook,
            source=_shown(notebook),
            snapshot_id=snapshot.id,
            parameters=bound,
            profile=profile,
            experiment=experiment or experiment_in_source(nb) or notebook.stem,
            tracking_uri=self.config.mlflow_uri_shown(),
            kernel_name=kernel_name,
            autolog=autolog,
            seed=seed,
            run_timeout=run_timeout,
            cell_timeout=cell_timeout,
            tags=dict(tags or {}),
            owner=current_user(),
            cluster=cluster,
        )
        runner.check(spec)
        return PreparedRun(spec, snapshot, (*snapshot.warnings, *tracking_hazards(nb)))

    def submit(self, prepared: PreparedRun, *, within: bool = False) -> RunRecord:
        """Create the run and start it; from here on it has a record that will tell how it ended.

        Args:
            prepared: From `prepare`.
            within: The caller waits for it: it may be a part of the run that this process belongs to.

        Returns:
            The record: an earlier one if the `run_key` is taken.

        Raises:
            MLOpsError: it could not be created.
        """
        from .snapshot import SnapshotStore

        if not within:
            _refuse_inside()
        SnapshotStore(self.config.data_path).save(prepared.snapshot)
        return self._start(prepared.spec, "run.submit")

    def submit_spec(self, spec: RunSpec) -> RunRecord:
        """Start a run of a snapshot that was saved before, as a slot of a job does.

        Called again with the same `run_key`, by whatever process, it starts what was accepted and not started.

        Raises:
            MLOpsError: it could not be created.
        """
        get_runner(spec.profile.runner, self.config).check(spec)
        record = self._start(spec, "run.submit")
        if record.run_id != spec.run_id and record.state is RunState.PENDING:
            get_runner(record.runner, self.config).submit(self.spec(record.run_id))
        return record

    def retry(self, name: str, *, profile: Profile | None = None) -> RunRecord:
        """Run the same snapshot with the same parameters again.

        Args:
            name: The run to repeat.
            profile: Other resources, or None for the same.

        Raises:
            NotFoundError: no such run, or its files are gone.
        """
        _refuse_inside()
        spec = self.spec(name)
        changes = {
            "run_id": new_run_id(),
            "run_key": None,
            "create_time": datetime.now(timezone.utc),
            "retry_of": spec.run_id,
            "owner": current_user(),
            "profile": profile or spec.profile,
            "cluster": None if profile else spec.cluster,
            "tracking_uri": self.config.mlflow_uri_shown(),
        }
        again = spec.model_copy(update=changes)
        get_runner(again.profile.runner, self.config).check(again)
        return self._start(again, "run.retry")

    def _start(self, spec: RunSpec, action: str) -> RunRecord:
        from .store.database import AWAY as STORE_AWAY

        run_dir = self.config.run_dir(spec.run_id)
        try:
            run_dir.mkdir(parents=True, mode=0o700)
            temporary = run_dir / ".spec.json"
            temporary.write_text(spec.to_json(), encoding="utf-8")
            temporary.replace(run_dir / "spec.json")
        except OSError as error:
            rmtree(run_dir, ignore_errors=True)
            raise MLOpsError(
                f"The run directory {run_dir} cannot be written: {error.strerror or error}.",
                hint="Free some space, or set JUPYTER_MLOPS_DATA_DIR.",
                code="disk_full",
            ) from error
        try:
            record = self.store.add_run(spec, entry=self._entry(action, spec))
        except StoreError as error:
            # A server that went away may have taken the run; what was never started is then recorded by its files.
            if error.code != STORE_AWAY:
                rmtree(run_dir, ignore_errors=True)
            raise
        if record.run_id != spec.run_id:
            rmtree(run_dir, ignore_errors=True)
            return record
        try:
            get_runner(spec.profile.runner, self.config).submit(spec)
        except MLOpsError as error:
            self.store.update_run(
                spec.run_id,
                state=RunState.FAILED,
                code=FailureCode.INTERNAL,
                message=error.message,
                end_time=datetime.now(timezone.utc),
            )
            raise
        return record

    def get(self, name: str) -> RunRecord:
        """The run of that id, unique prefix or `@last`, as it stands now.

        Raises:
            NotFoundError: there is none.
        """
        return self._refreshed(self.store.run(name))

    def find(self, **filters: Any) -> list[RunRecord]:
        """Runs, newest first, as they stand now; the filters are those of `Store.runs`."""
        # A run that ended while nobody looked is still in its old state in the store, and may be the one asked for.
        unended = [state for state in RunState if not state.is_terminal]
        self._look_after(self.store.runs(**{**filters, "states": unended, "limit": _REFRESHED}))
        return self.store.runs(**filters)

    def spec(self, name: str) -> RunSpec:
        """What the run was made from.

        Raises:
            NotFoundError: no such run, or its files are gone.
        """
        record = self.store.run(name)
        try:
            return RunSpec.read(self.files(record))
        except (OSError, ValueError) as error:
            raise NotFoundError(
                f"The files of the run {record.run_id} are gone from {self.files(record)}.",
                hint="MLflow has its artifacts: jupyter mlops open --what mlflow",
            ) from error

    def files(self, record: RunRecord) -> Path:
        """The directory with the run's files."""
        return self._runner(record).files(record.run_id)

    def events(
        self, record: RunRecord, *, follow: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Event]:
        """The run's events from the first on; with `follow` until its end or `stop()`."""
        return self._runner(record).events(record.run_id, follow=follow, stop=stop)

    def wait(self, name: str, *, stop: Callable[[], bool] = lambda: False) -> RunRecord:
        """Wait until the run has ended, or `stop()`."""
        record = self.store.run(name)
        for _ in self.events(record, follow=True, stop=stop):
            pass
        return self._refreshed(record)

    def ends(self, names: Iterable[str], *, stop: Callable[[], bool] = lambda: False) -> Iterator[RunRecord]:
        """The runs one after the other as each ends, looked at together: nothing is asked or read for each of them.

        Args:
            names: Ids, unique prefixes or `@last`.
            stop: Asked several times a second.

        Raises:
            NotFoundError: there is no such run.
        """
        waited = {record.run_id: record for record in map(self.store.run, names)}
        while waited:
            began = time.monotonic()
            waited.update(self._look_after([record for record in waited.values() if not record.state.is_terminal]))
            for run_id in [run_id for run_id, record in waited.items() if record.state.is_terminal]:
                del waited[run_id]
                yield self.store.run(run_id)
            until = began + max(_TURN, _REST * (time.monotonic() - began))
            while waited and time.monotonic() < until:
                if stop():
                    return
                time.sleep(_TICK)

    def cancel(self, name: str) -> RunRecord:
        """Ask a run to end.

        Raises:
            UsageError: it has ended already.
        """
        record = self.get(name)
        if record.state.is_terminal:
            raise UsageError(f"The run {record.run_id} has ended already ({record.state.value}).", code="ended")
        self._runner(record).cancel(record.run_id, by=current_user())
        # Afterwards: a run that burns GPUs ends also when the log cannot be written, and the person learns of that.
        self.audit.record(self.store, "run.cancel", f"run {record.run_id}", name=record.name, owner=record.owner)
        return record

    def scale(self, name: str, workers: int) -> int:
        """Raise or lower the number of Dask workers of a run while it runs.

        Args:
            name: The run.
            workers: How many it is to have.

        Returns:
            The number that it comes to.

        Raises:
            UsageError: it has ended, or where it runs its workers are fixed.
        """
        record = self.get(name)
        if record.state.is_terminal:
            raise UsageError(f"The run {record.run_id} has ended already ({record.state.value}).", code="ended")
        runner = self._runner(record)
        if not isinstance(runner, ElasticRunner):
            raise UsageError(
                f"The workers of the run {record.run_id} are fixed: it runs on '{record.runner}'.",
                hint="Runs of several pods on Kubernetes can be scaled, and clusters (jupyter mlops cluster list).",
            )
        return runner.scale(self.spec(record.run_id), workers)

    def expected_durations(self, record: RunRecord) -> dict[str, float]:
        """Seconds per cell, by the digest of its source, in the last run of this notebook that succeeded."""
        earlier = self.find(states=[RunState.SUCCEEDED], source=record.source, limit=1)
        if not earlier:
            return {}
        return {
            event.digest: event.duration
            for event in self.events(earlier[0])
            if isinstance(event, CellEvent) and event.duration is not None
        }

    def compared(self, names: Iterable[str]) -> list[ComparedRun]:
        """Runs with their parameters and metrics, for `compare.compare_runs`.

        Raises:
            NotFoundError: no such run.
            TrackingError: MLflow is away.
        """
        from .compare import ComparedRun
        from .tracking.metrics import run_data

        found = []
        for name in names:
            record = self.get(name)
            parameters = {key: str(value) for key, value in record.parameters.items()}
            metrics: dict[str, float] = {}
            history: dict[str, list[tuple[int, float]]] = {}
            if record.mlflow_run_id is not None:
                data = run_data(self.config.mlflow_uri_of(record.tracking_uri), record.mlflow_run_id)
                parameters = {**parameters, **data.params}
                metrics = dict(data.metrics)
                history = {key: [(point.step, point.value) for point in points] for key, points in data.history.items()}
            found.append(
                ComparedRun(
                    run_id=record.run_id,
                    name=record.name,
                    state=record.state.value,
                    params=parameters,
                    metrics=metrics,
                    history=history,
                    duration=record.duration,
                )
            )
        return found

    def _entry(self, action: str, spec: RunSpec) -> AuditEntry:
        known = {"run_key": spec.run_key, "retry_of": spec.retry_of}
        return self.audit.entry(
            action, f"run {spec.run_id}", name=spec.name, notebook=spec.source, snapshot=spec.snapshot_id,
            profile=spec.profile.name, secrets=list(spec.profile.env_from_secrets),
            **{key: value for key, value in known.items() if value is not None},
        )  # fmt: skip

    def _runner(self, record: RunRecord) -> Runner:
        return get_runner(record.runner, self.config)

    def _refreshed(self, record: RunRecord) -> RunRecord:
        if not record.state.is_terminal:
            runner = self._runner(record)
            with suppress(*_AWAY):
                with suppress(OSError):
                    runner.reconcile(record.run_id)
                self._write_down(record, runner.events(record.run_id, follow=False, stop=lambda: True))
        return self.store.run(record.run_id)

    def _look_after(self, records: Sequence[RunRecord]) -> dict[str, RunRecord]:
        """Write into the records what has become of their runs; gives them as they are now, if that can be seen."""
        found = {}
        for name in dict.fromkeys(record.runner for record in records):
            those = {record.run_id: record for record in records if record.runner == name}
            with suppress(*_AWAY):  # a list is worth showing without the last word of some
                for run_id, events in get_runner(name, self.config).standing(list(those)):
                    found[run_id] = self._write_down(those[run_id], events)
        return found

    def _write_down(self, record: RunRecord, events: Iterable[Event]) -> RunRecord:
        """Write into the record what the events tell."""
        told = recorded(events)
        changes = {key: value for key, value in told.items() if getattr(record, key) != value}
        if changes:
            self.store.update_run(record.run_id, **changes)
        return record.model_copy(update=changes)


def recorded(events: Iterable[Event]) -> dict[str, Any]:
    """The fields of a run's record that its events tell."""
    found: dict[str, Any] = {}
    for event in events:
        if not isinstance(event, RunEvent):
            continue
        found["state"] = event.state
        if event.mlflow_run_id:
            found["mlflow_run_id"] = event.mlflow_run_id
        if event.state is not RunState.PENDING:
            found.setdefault("start_time", event.time)
        if event.state.is_terminal:
            found.update(code=event.code, message=event.message.replace("\x00", ""), end_time=event.time)
    return found


def running_inside() -> str | None:
    """The id of the run that this process belongs to, or None: a run must not start itself again."""
    return os.environ.get("JUPYTER_MLOPS_RUN_ID")


def is_own_notebook(notebook: Path) -> bool:
    """Whether it is the notebook that is being executed by the run that this process belongs to.

    A run works on a copy, so the name decides.
    """
    return notebook.name == Path(os.environ.get("JUPYTER_MLOPS_SOURCE", "")).name


def _refuse_secret(what: str, value: Any, redactor: Redactor) -> None:
    if redactor.data({"": value}) != {"": value}:
        raise ParameterError(
            f"{what} holds the value of a variable that is a secret; it would be recorded for all to read.",
            hint="Read the variable in the notebook (os.environ), and pass its name if you must pass something.",
            code="secret",
        )


def _refuse_inside() -> None:
    # It would end with the run that started it; and two notebooks that start each other would never end.
    inside = running_inside()
    if inside is not None:
        raise UsageError(
            f"This process belongs to the run {inside}, and a run does not start another.",
            hint="Start it from outside: a terminal, or a notebook that is not being run.",
            code="inside_run",
        )


def _shown(notebook: Path) -> str:
    # Absolute: a list of runs is read from any directory.
    return notebook.as_posix().encode("utf-8", "replace").decode()
