"""Runs on Kubernetes: one Job each, which needs nobody here once it is submitted.

The run's directory on this machine is what it is for a local run, in the end: until then it holds where the run is, and
everything else is asked there. Knows Kubernetes through `jupyter_mlops.kubernetes` and MLflow through its artifacts;
knows no front and no store.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import MLOps
from ..errors import ConfigError, KubernetesError, MLOpsError, NotFoundError, TrackingError, UsageError
from ..events import (
    EVENTS_FILE,
    CellEvent,
    Event,
    EventWriter,
    LogEvent,
    MetricEvent,
    NoticeEvent,
    ResourceEvent,
    RunEvent,
    event_line,
    read_events,
)
from ..kubernetes import manifest, names
from ..redact import Redactor
from ..spec import FailureCode, RunSpec, RunState

if TYPE_CHECKING:
    from ..kubernetes.api import Api
    from ..kubernetes.follow import Stream
    from ..kubernetes.reasons import Reason
    from ..tracking.mlflow_run import BegunRun

PLACE_FILE = "kubernetes.json"
FETCHED_FILE = ".fetched"
_SUCCESS_POLICY = (1, 31)
_GLANCE = 5.0
"""Seconds that a look at results may wait for MLflow, where nobody asked for them in particular."""
_MAKING = 120.0
"""Seconds after which a Job that was to be made must be there."""
_FOLLOWING = 1.0
"""Seconds that a call is repeated while a run is followed: the stream itself goes on trying, and says so."""


@dataclass(frozen=True)
class Place:
    """Where a run is.

    Attributes:
        context: Context of the kubeconfig, or None: the current one.
        host: The API server that it named then.
        namespace: The namespace.
        name: Of the Job.
        mlflow_run_id: The run in MLflow.
        uid: Of the Job; empty until it is there.
    """

    context: str | None
    host: str
    namespace: str
    name: str
    mlflow_run_id: str
    uid: str = ""

    @classmethod
    def read(cls, run_dir: Path) -> Place | None:
        """The place that is noted in a run's directory, or None."""
        try:
            return cls(**json.loads((run_dir / PLACE_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, run_dir: Path) -> None:
        """Note it.

        Raises:
            OSError: it cannot be written.
        """
        _write_atomically(run_dir / PLACE_FILE, json.dumps(asdict(self), indent=1).encode())


class KubernetesRunner:
    """The runner `kubernetes`."""

    def __init__(self, config: MLOps) -> None:
        self._config = config

    def check(self, spec: RunSpec) -> None:
        """Refuse what Kubernetes would not take: everything is asked, nothing is made.

        Raises:
            UsageError: the profile, or MLflow's address.
            ConfigError: the kubeconfig.
            KubernetesError: the API server does not answer, or does not let it in.
        """
        manifest.check(spec)
        api = self._api(spec.profile.context, spec.profile.namespace)
        try:
            api.create("jobs", manifest.job_manifest(spec, namespace=api.namespace), dry_run=True)
        except KubernetesError as error:
            # A webhook that cannot be asked without effect refuses the question, and perhaps not the run.
            if "dry run" not in error.message:
                raise

    def submit(self, spec: RunSpec) -> None:
        """Hand the run over: its files to MLflow, its Job to Kubernetes. What was handed over before is left alone.

        Raises:
            TrackingError: MLflow is away; nothing was made in Kubernetes.
            KubernetesError: Kubernetes did not take all of it; nothing of it is left there.
        """
        from ..kubernetes.transport import send_inputs
        from ..snapshot import SnapshotStore

        run_dir = self._run_dir(spec.run_id)
        api = self._api(spec.profile.context, spec.profile.namespace)
        begun = send_inputs(
            spec,
            SnapshotStore(self._config.data_path),
            run_dir,
            uri=self._config.mlflow_uri(),
            wait=self._config.mlflow_wait,
            redactor=self._redactor(),
        )
        place = Place(
            spec.profile.context, api.host, api.namespace, names.job_name(spec), begun.mlflow_run_id
        )  # fmt: skip
        try:
            place.write(run_dir)
            _announce(run_dir, begun)
            self._create(spec, api, place, run_dir)
        except OSError as error:
            raise MLOpsError(
                f"The run directory {run_dir} cannot be written: {error.strerror or error}.", code="disk_full"
            ) from error
        except KubernetesError as error:
            self._record(run_dir, [], RunEvent(
                state=RunState.FAILED, code=FailureCode.NOT_STARTED, message=error.message, hint=error.hint,
                mlflow_run_id=begun.mlflow_run_id, mlflow_url=begun.url,
            ))  # fmt: skip
            self._end_in_mlflow(place, RunState.FAILED, FailureCode.NOT_STARTED, error.message)
            raise

    def events(self, run_id: str, *, follow: bool, stop: Callable[[], bool]) -> Iterator[Event]:
        """From the file once the run has ended, else from Kubernetes.

        Raises:
            NotFoundError: they are to be followed, and nothing is known of the run on this machine.
            KubernetesError: Kubernetes does not show the run.
        """
        run_dir = self._run_dir(run_id)
        place = Place.read(run_dir)
        if place is None:
            if follow and not run_dir.is_dir():
                raise NotFoundError(
                    f"The files of the run {run_id} are not here: there is no {run_dir}.",
                    hint="Ask on the machine, and with the JUPYTER_MLOPS_DATA_DIR, with which it was started.",
                )
            yield from read_events(run_dir)
            return
        before = list(read_events(run_dir))
        if _final_of(before) is not None:
            yield from before
            return
        yield from before
        stream = self._stream(run_id, place, stop, following=follow)
        told = list(before)
        for event in stream.events() if follow else stream.known():
            told.append(event)
            if not _is_final(event):
                yield event
        final = stream.final
        if final is None and stream.ended is not None:
            recorded = self._recorded_events(place)
            if not any(map(_is_of_the_head, told)):  # its pods are gone, and it told MLflow everything
                told += recorded
                yield from (event for event in recorded if not _is_final(event))
            final = _final_of(recorded) or self._missing_end(run_dir, place, stream.ended, told)
        if final is None:
            return
        if follow:
            yield from self._results(run_dir, place)
        kept = self._record(run_dir, told, final)
        yield kept

    def cancel(self, run_id: str, *, by: str) -> None:
        """Have the Job deleted; its pods get the time to save what there is.

        Raises:
            KubernetesError: it cannot be deleted.
        """
        from ..engine.execute import CANCEL_FILE, cancel_outcome
        from ..kubernetes.transport import mark_cancelled

        run_dir = self._run_dir(run_id)
        place = Place.read(run_dir)
        if place is None or _final_of(read_events(run_dir)) is not None:
            return
        _write_atomically(run_dir / CANCEL_FILE, json.dumps({"by": by}).encode())
        away = False
        try:
            mark_cancelled(place.mlflow_run_id, by, uri=self._config.mlflow_uri(), wait=self._config.mlflow_wait)
        except TrackingError:
            away = True  # the head cannot learn of it either, and takes it for a disturbance
        self._api_of(place).delete("jobs", place.name, uid=place.uid or None)
        if away:
            outcome = cancel_outcome(run_dir)
            self._record(run_dir, [], RunEvent(
                state=outcome.state, code=outcome.code, message=outcome.message, mlflow_run_id=place.mlflow_run_id
            ))  # fmt: skip
            self._queue(run_dir)

    def reconcile(self, run_id: str) -> None:
        """Record the end of a run that has ended without anybody looking.

        Raises:
            KubernetesError: it cannot be seen.
        """
        run_dir = self._run_dir(run_id)
        place = Place.read(run_dir)
        if place is None or _final_of(read_events(run_dir)) is not None:
            return
        if self._stream(run_id, place, lambda: True, following=False).is_over():
            for _ in self.events(run_id, follow=False, stop=lambda: True):
                pass

    def standing(self, run_ids: Sequence[str]) -> Iterator[tuple[str, list[Event]]]:
        """What tells how these runs stand: of those of one namespace the objects are asked for together.

        Their logs are not read, but for those that have ended since: they get their record.
        """
        waiting: dict[tuple[str | None, str, str], list[tuple[str, Place]]] = {}
        for run_id in run_ids:
            place = Place.read(self._run_dir(run_id))
            before = list(read_events(self._run_dir(run_id)))
            if place is None or _final_of(before) is not None or self._is_being_made(run_id, place):
                yield run_id, before
            else:
                waiting.setdefault((place.context, place.host, place.namespace), []).append((run_id, place))
        for those in waiting.values():
            with suppress(KubernetesError, ConfigError):
                yield from self._standing_together(those)

    def _is_being_made(self, run_id: str, place: Place) -> bool:
        """Whether its submission may be in the middle: that there is no Job means nothing then."""
        if place.uid:
            return False
        with suppress(OSError):
            return time.time() - (self._run_dir(run_id) / PLACE_FILE).stat().st_mtime < _MAKING
        return False

    def _standing_together(self, those: Sequence[tuple[str, Place]]) -> Iterator[tuple[str, list[Event]]]:
        """Runs of one namespace.

        Raises:
            KubernetesError: it cannot be seen.
        """
        from ..kubernetes.mirror import mirror_of_all
        from ..kubernetes.watch import Watch

        api = self._api_of(those[0][1], patience=_FOLLOWING)
        mirror = mirror_of_all(api)
        mirror.refresh()
        for run_id, place in those:
            look = Watch(api, place.name, _selector(run_id), place.uid).glance(mirror)
            if not look.is_over:
                yield run_id, [*read_events(self._run_dir(run_id)), look.event]
                continue
            # The mirror may not have seen it yet: the source is asked, and what it says is recorded.
            try:
                yield run_id, list(self.events(run_id, follow=False, stop=lambda: True))
            except KubernetesError as error:
                if error.retryable:
                    raise

    def scale(self, spec: RunSpec, workers: int) -> int:
        """Have so many Dask workers, in whole pods; those that go hand their data to the others first.

        Raises:
            UsageError: the run is in one pod, or has to keep at least its first.
            KubernetesError: Kubernetes refuses.
        """
        from ..kubernetes.cluster_manifest import resize

        place = Place.read(self._run_dir(spec.run_id))
        if place is None or spec.profile.pods == 1:
            raise UsageError(
                f"The workers of the run {spec.run_id} are fixed: it runs in one pod.",
                hint="A profile with several 'pods' can be scaled, and a cluster (jupyter mlops cluster start) too.",
            )
        change, comes_to = resize(spec.profile, workers)
        self._api_of(place).patch("jobs", place.name, change)
        return comes_to

    def files(self, run_id: str) -> Path:
        """The run's directory; what an ended run has left in MLflow is taken here first."""
        run_dir = self._run_dir(run_id)
        place = Place.read(run_dir)
        if place is not None and not (run_dir / FETCHED_FILE).exists():
            with suppress(OSError):
                if _final_of(read_events(run_dir)) is not None:
                    self._fetch(run_dir, place, wait=_GLANCE)
        return run_dir

    def _create(self, spec: RunSpec, api: Api, place: Place, run_dir: Path) -> None:
        from ..kubernetes.certificates import issue_certificates

        several = spec.profile.pods > 1
        known: dict[str, Any] = {
            "namespace": api.namespace, "mlflow_run_id": place.mlflow_run_id,
            "success_policy": api.version() >= _SUCCESS_POLICY,
        }  # fmt: skip
        job = _made(api, "jobs", manifest.job_manifest(spec, **known, held=several))
        if (job["metadata"].get("labels") or {}).get(names.RUN_LABEL) != names.label_value(spec.run_id):
            raise KubernetesError(f"There is a Job {place.name} in {api.namespace} that is not this run.")
        uid = str(job["metadata"]["uid"])
        Place(**{**asdict(place), "uid": uid}).write(run_dir)
        if not several:
            return
        try:
            where: dict[str, Any] = {"namespace": api.namespace, "owner": job}
            if manifest.needs_certificates(spec):
                issued = issue_certificates(place.name, api.namespace)
                _made(api, "secrets", manifest.certificate_secret_manifest(
                    spec, ca=issued.ca, certificate=issued.certificate, key=issued.key, **where
                ), read=False)  # fmt: skip
            _made(api, "services", manifest.service_manifest(spec, **where), read=False)
            with _optional():
                _made(api, "networkpolicies", manifest.network_policy_manifest(spec, **where), read=False)
            change = manifest.release(manifest.job_manifest(spec, **known))
            if any(job["spec"].get(key) != value for key, value in change["spec"].items()):
                api.patch("jobs", place.name, change)
        except KubernetesError:
            with suppress(KubernetesError):
                api.delete("jobs", place.name, uid=uid)
            raise

    def _recorded_events(self, place: Place) -> list[Event]:
        from ..kubernetes.transport import recorded_events

        with suppress(TrackingError):
            return recorded_events(
                place.mlflow_run_id, uri=self._config.mlflow_uri(), wait=self._config.mlflow_wait
            )  # fmt: skip
        return []

    def _missing_end(self, run_dir: Path, place: Place, reason: Reason, told: Sequence[Event]) -> RunEvent:
        """How a run ended of which neither Kubernetes nor MLflow has a word of its head."""
        from ..engine.execute import CANCEL_FILE, cancel_outcome
        from ..kubernetes.transport import cancelled_by

        known: dict[str, Any] = {"mlflow_run_id": place.mlflow_run_id, "mlflow_url": _url_of(told)}
        uri, wait = self._config.mlflow_uri(), self._config.mlflow_wait
        by = None
        with suppress(TrackingError):
            by = cancelled_by(place.mlflow_run_id, uri=uri, wait=wait)
        if reason.cause in ("gone", "deleted") and (by or (run_dir / CANCEL_FILE).exists()):
            if by and not (run_dir / CANCEL_FILE).exists():
                _write_atomically(run_dir / CANCEL_FILE, json.dumps({"by": by}).encode())
            outcome = cancel_outcome(run_dir)
            self._queue(run_dir)
            return RunEvent(state=outcome.state, code=outcome.code, message=outcome.message, **known)
        if reason.run_state is not RunState.SUCCEEDED:
            self._queue(run_dir)
            # Workers may hold GPUs and wait for a head that does not come again.
            with suppress(KubernetesError, ConfigError):
                self._api_of(place).delete("jobs", place.name, uid=place.uid or None)
        return RunEvent(
            state=reason.run_state, code=reason.code, message=reason.message, hint=reason.hint, **known
        )  # fmt: skip

    def _results(self, run_dir: Path, place: Place) -> Iterator[Event]:
        try:
            self._fetch(run_dir, place, wait=self._config.mlflow_wait)
        except MLOpsError as error:
            yield NoticeEvent(
                level="warning",
                message=f"The results could not be fetched: {error.message} They are fetched when you ask for them.",
            )

    def _fetch(self, run_dir: Path, place: Place, *, wait: float) -> None:
        from ..kubernetes.transport import fetch_results

        if not fetch_results(place.mlflow_run_id, run_dir, uri=self._config.mlflow_uri(), wait=wait):
            self._queue(run_dir)
        (run_dir / FETCHED_FILE).touch()

    def _record(self, run_dir: Path, told: Sequence[Event], final: RunEvent) -> RunEvent:
        """Keep the events with the run; of several who do so at once the first one's stay.

        Returns:
            The event that is the end.
        """
        from ..worker import one_at_a_time

        with one_at_a_time(run_dir):
            present = list(read_events(run_dir))
            ended = _final_of(present)
            if ended is not None:
                return ended
            kept = [event for event in (told or present) if not _is_final(event)]
            content = b"".join(event_line(event) for event in (*kept, final))
            _write_atomically(run_dir / EVENTS_FILE, content)
        if (run_dir / "unpublished").exists():
            _publish_in_background(run_dir)
        return final

    def _queue(self, run_dir: Path) -> None:
        from ..engine.publish import queue_publication

        queue_publication(run_dir)

    def _end_in_mlflow(self, place: Place, state: RunState, code: FailureCode, message: str) -> None:
        from ..tracking.mlflow_run import end_run

        with suppress(TrackingError):
            end_run(
                uri=self._config.mlflow_uri(), mlflow_run_id=place.mlflow_run_id, state=state, code=code,
                message=message, wait=self._config.mlflow_wait, redactor=self._redactor(),
            )  # fmt: skip

    def _stream(self, run_id: str, place: Place, stop: Callable[[], bool], *, following: bool) -> Stream:
        from ..kubernetes.follow import Stream
        from ..kubernetes.mirror import mirror_of_run
        from ..kubernetes.watch import Watch

        api = self._api_of(place, patience=_FOLLOWING if following else None)
        selector = _selector(run_id)
        mirror = mirror_of_run(api, selector) if following else None
        return Stream(api, Watch(api, place.name, selector, place.uid, mirror=mirror), stop=stop)

    def _api_of(self, place: Place, *, patience: float | None = None) -> Api:
        api = self._api(place.context, place.namespace, patience=patience)
        if place.host and api.host != place.host:
            raise ConfigError(
                f"The run is in Kubernetes at {place.host}, and the kubeconfig now leads to {api.host}.",
                hint="Use the kubeconfig with which it was started (KUBECONFIG, or `kubectl config use-context`).",
                code="kubernetes_context",
            )
        return api

    def _api(self, context: str | None, namespace: str | None, *, patience: float | None = None) -> Api:
        from ..kubernetes.api import api_for

        return api_for(context, namespace) if patience is None else api_for(context, namespace, patience=patience)

    def _redactor(self) -> Redactor:
        return Redactor.from_environment(self._config.secret_pattern)

    def _run_dir(self, run_id: str) -> Path:
        return self._config.run_dir(run_id)


def _selector(run_id: str) -> dict[str, str]:
    """The labels of a run's pods."""
    return {names.MANAGED_BY_LABEL: names.PRODUCT, names.RUN_LABEL: names.label_value(run_id)}


def _made(api: Api, resource: str, thing: dict[str, Any], *, read: bool = True) -> dict[str, Any]:
    """Make an object, or take the one that an earlier, interrupted submission made."""
    try:
        return api.create(resource, thing)
    except KubernetesError as error:
        if error.code != "kubernetes_exists":
            raise
    if not read:
        return {}
    name = str(thing["metadata"]["name"])
    found = api.get(resource, name)
    if found is None:
        raise KubernetesError(f"The object {name} ({resource}) comes and goes.", hint="Try again.")
    return found


@contextmanager
def _optional() -> Iterator[None]:
    """Passes over a right that helps and is not needed."""
    try:
        yield
    except KubernetesError as error:
        if error.code not in ("kubernetes_forbidden", "kubernetes_no_resource"):
            raise


def _announce(run_dir: Path, begun: BegunRun) -> None:
    """The first event, which tells where MLflow shows the run; once, whoever submits it again."""
    if any(True for _ in read_events(run_dir)):
        return
    writer = EventWriter(run_dir)
    try:
        writer.write(RunEvent(
            state=RunState.PENDING, phase="handing the run over to Kubernetes", mlflow_run_id=begun.mlflow_run_id,
            mlflow_url=begun.url,
        ))  # fmt: skip
    finally:
        writer.close()


def _is_final(event: Event) -> bool:
    return isinstance(event, RunEvent) and event.state.is_terminal


def _is_of_the_head(event: Event) -> bool:
    """Whether only the head can have told it."""
    return isinstance(event, (CellEvent, LogEvent, ResourceEvent, MetricEvent))


def _final_of(events: Iterable[Event]) -> RunEvent | None:
    found = None
    for event in events:
        if isinstance(event, RunEvent) and event.state.is_terminal:
            found = event
    return found


def _url_of(events: Sequence[Event]) -> str | None:
    urls = [event.mlflow_url for event in events if isinstance(event, RunEvent) and event.mlflow_url]
    return urls[-1] if urls else None


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


def _publish_in_background(run_dir: Path) -> None:
    """Send the record to MLflow from a process that nobody waits for; `jupyter mlops sync` does it if this fails."""
    with suppress(OSError):
        subprocess.Popen(
            [sys.executable, "-m", "jupyter_mlops.worker", str(run_dir), "--publish"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
