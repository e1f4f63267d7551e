"""Runs on a warm Dask cluster: handed to its head, which has an engine ready for them.

The run's directory on this machine is a copy that grows: the events as far as anybody has looked, and the results when
the run has ended. What a cluster did not tell before it ended, MLflow tells. Knows heads through `jupyter_mlops.warm`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..config import MLOps
from ..errors import ClusterError, ConfigError, KubernetesError, MLOpsError, NotFoundError, TrackingError
from ..events import EVENTS_FILE, Event, EventWriter, NoticeEvent, RunEvent, event_line, parse_event, read_events
from ..redact import Redactor
from ..spec import FailureCode, RunSpec, RunState
from ..warm import calls, known
from ..warm.reach import Reached, reach
from ..worker import birth_of

PLACE_FILE = "cluster.json"
"""In the run's directory: the cluster's name and id; and which process sends the run to it, until the head has it."""
FETCHED_FILE = ".fetched"
_AWAY = ("cluster_away",)
_PATIENCE, _PAUSE = 2.0, 1.0
"""Seconds that the head may wait for something new to tell, and until it is asked again when it did not answer."""


class ClusterRunner:
    """The runner `cluster`."""

    def __init__(self, config: MLOps) -> None:
        self._config = config

    def check(self, spec: RunSpec) -> None:
        """Refuse a run whose cluster is not there.

        Raises:
            NotFoundError: there is no such cluster, or the run names none.
            ClusterError: it is gone, or does not answer.
        """
        with self._reach(spec.cluster or "") as head:
            head.call(calls.STATE)

    def submit(self, spec: RunSpec) -> None:
        """Hand the run to the head, with its snapshot where the head does not have it.

        Raises:
            ClusterError: the cluster is gone, or does not answer.
        """
        from ..snapshot import SnapshotStore

        cluster = known.known(self._config, spec.cluster or "")
        run_dir = self.files(spec.run_id)
        place = {"cluster": cluster.spec.name, "cluster_id": cluster.spec.cluster_id}
        # Whoever looks meanwhile must not take a run that the head does not know yet for one that it has lost.
        sender = {"pid": os.getpid(), "born": birth_of(os.getpid()), "host": socket.gethostname()}
        known.write_private(run_dir / PLACE_FILE, json.dumps({**place, "sender": sender}).encode())
        try:
            with reach(cluster) as head:
                text = spec.to_json()
                if head.call(calls.SUBMIT, spec=text) == "accepted":
                    return
                with tempfile.TemporaryDirectory(prefix="mlops-send-") as scratch:
                    bundle = SnapshotStore(self._config.data_path).write_zip(
                        spec.snapshot_id, Path(scratch) / "snapshot.zip"
                    )
                    _send(head, bundle)
                head.call(calls.SUBMIT, spec=text)
        finally:
            with suppress(OSError):  # a full disk: then the sender's end says the same
                known.write_private(run_dir / PLACE_FILE, json.dumps(place).encode())

    def events(self, run_id: str, *, follow: bool, stop: Callable[[], bool]) -> Iterator[Event]:
        """From this machine's copy, brought up to date from the head.

        Raises:
            NotFoundError: they are to be followed, and the run's files are not on this machine.
            MLOpsError: the cluster cannot be seen, and the run has not ended here.
        """
        run_dir = self.files(run_id)
        if follow and not run_dir.is_dir():
            raise NotFoundError(
                f"The files of the run {run_id} are not here: there is no {run_dir}.",
                hint="Ask on the machine, and with the JUPYTER_MLOPS_DATA_DIR, with which it was started.",
            )
        mirror = _Mirror(self, run_id, run_dir)
        told, away = 0, False
        try:
            while True:
                if not mirror.ended:
                    try:
                        mirror.update(wait=_PATIENCE if follow and told else 0.0)
                        away = False
                    except (ClusterError, KubernetesError, TrackingError) as error:
                        if not follow:
                            raise
                        if not away:
                            yield NoticeEvent(level="warning", message=f"{error.message} It is tried again.")
                        away = True
                        time.sleep(_PAUSE)
                found = list(read_events(run_dir))
                yield from found[told:]
                told = max(told, len(found))
                if mirror.ended or not follow or stop():
                    return
        finally:
            mirror.close()

    def cancel(self, run_id: str, *, by: str) -> None:
        """Tell the head; a cluster that is gone leaves nothing to cancel.

        Raises:
            MLOpsError: the head cannot be told.
        """
        run_dir = self.files(run_id)
        if _final(run_dir) is not None:
            return
        try:
            with self._reach_of(run_dir) as head:
                head.call(calls.CANCEL, run_id=run_id, by=by)
        except (ClusterError, NotFoundError) as error:
            if not _is_gone(error):
                raise
            self.reconcile(run_id)

    def reconcile(self, run_id: str) -> None:
        """Bring the copy up to date; a run whose cluster is lost gets its record.

        Raises:
            MLOpsError: the cluster cannot be seen.
        """
        for _ in self.events(run_id, follow=False, stop=lambda: True):
            pass

    def standing(self, run_ids: Sequence[str]) -> Iterator[tuple[str, list[Event]]]:
        """The copies, brought up to date; a cluster that does not answer is waited for once."""
        away: set[str] = set()
        for run_id in run_ids:
            run_dir = self._config.run_dir(run_id)
            cluster = str(_place(run_dir).get("cluster", ""))
            if cluster in away:
                continue
            try:
                self.reconcile(run_id)
            except MLOpsError:
                away.add(cluster)
                continue
            except OSError:  # this run's own directory: a full disk, or damaged; the others are worth showing
                continue
            yield run_id, list(read_events(run_dir))

    def files(self, run_id: str) -> Path:
        """The run's directory; what an ended run has left is taken here first."""
        run_dir = self._config.run_dir(run_id)
        if (run_dir / PLACE_FILE).exists() and not (run_dir / FETCHED_FILE).exists() and _final(run_dir) is not None:
            with suppress(MLOpsError, OSError):
                self.fetch(run_id, run_dir)
        return run_dir

    def fetch(self, run_id: str, run_dir: Path) -> None:
        """Take the results from the head, or from MLflow when the head is gone.

        Raises:
            MLOpsError: neither has them now.
        """
        from ..kubernetes.transport import fetch_results, inside

        final = _final(run_dir)
        try:
            with self._reach_of(run_dir) as head:
                for path, size in head.call(calls.FILES, run_id=run_id):
                    _receive(head, run_id, path, size, inside(run_dir, path))
        except (ClusterError, NotFoundError, KubernetesError, ConfigError):
            if final is None or final.mlflow_run_id is None:
                raise
            fetch_results(
                final.mlflow_run_id, run_dir, uri=self._tracking_uri(run_dir), wait=self._config.mlflow_wait
            )  # fmt: skip
        (run_dir / FETCHED_FILE).touch()

    def record_loss(self, run_dir: Path) -> None:
        """Record the end of a run whose cluster is gone: what MLflow knows of it, else that it was lost.

        Raises:
            TrackingError: MLflow is away, and may know that the run ended well.
        """
        from ..engine.publish import queue_publication

        told = [event for event in read_events(run_dir) if isinstance(event, RunEvent)]
        mlflow_run_id = next((event.mlflow_run_id for event in reversed(told) if event.mlflow_run_id), None)
        recorded: list[Event] = []
        try:
            recorded = self._in_mlflow(run_dir, mlflow_run_id)
        except TrackingError as error:
            if error.retryable:
                raise
        if not any(map(_is_final, recorded)):
            url = next((event.mlflow_url for event in reversed(told) if event.mlflow_url), None)
            recorded = [RunEvent(
                state=RunState.FAILED, code=FailureCode.WORKER_DIED,
                message=f"The cluster {_place(run_dir).get('cluster', '')} was lost before the run had ended.",
                hint=f"`jupyter mlops retry {run_dir.name} --profile NAME` runs the same snapshot elsewhere.",
                mlflow_run_id=mlflow_run_id, mlflow_url=url,
            )]  # fmt: skip
            queue_publication(run_dir)
            (run_dir / FETCHED_FILE).touch()
        if len(recorded) > 1:  # the head's own file, of which the copy here is the beginning
            known.write_private(run_dir / EVENTS_FILE, b"".join(map(event_line, recorded)))
            return
        writer = EventWriter(run_dir)
        try:
            writer.write(recorded[0])
        finally:
            writer.close()

    def _in_mlflow(self, run_dir: Path, mlflow_run_id: str | None) -> list[Event]:
        """The events that the run sent to MLflow when it ended; nobody here may ever have looked at it before."""
        from ..kubernetes.transport import recorded_events
        from ..tracking.mlflow_run import find_run

        uri, wait = self._tracking_uri(run_dir), self._config.mlflow_wait
        if mlflow_run_id is None:
            redactor = Redactor.from_environment(self._config.secret_pattern)
            mlflow_run_id = find_run(RunSpec.read(run_dir), uri=uri, wait=wait, redactor=redactor)
        return [] if mlflow_run_id is None else recorded_events(mlflow_run_id, uri=uri, wait=wait)

    def _tracking_uri(self, run_dir: Path) -> str:
        return self._config.mlflow_uri_of(RunSpec.read(run_dir).tracking_uri)

    def _reach(self, name: str) -> Reached:
        return reach(known.known(self._config, name))

    def _reach_of(self, run_dir: Path) -> Reached:
        """The way to the head that has this run.

        Raises:
            NotFoundError: that cluster is gone, perhaps with another of its name in its place.
        """
        place = _place(run_dir)
        cluster = known.known(self._config, str(place.get("cluster", "")))
        if cluster.spec.cluster_id != place.get("cluster_id"):
            raise NotFoundError(f"The cluster '{cluster.spec.name}' of this run is gone; this is another.")
        return reach(cluster)


class _Mirror:
    """The copy of a run's events here, which any number of processes may bring up to date at once."""

    def __init__(self, runner: ClusterRunner, run_id: str, run_dir: Path) -> None:
        self._runner = runner
        self._run_id, self._run_dir = run_id, run_dir
        self._head: Reached | None = None
        self.ended = _final(run_dir) is not None or not (run_dir / PLACE_FILE).exists()

    def update(self, *, wait: float) -> None:
        """Take what is new; wait for the first of it.

        Raises:
            MLOpsError: the head does not answer and may be there all the same.
        """
        path = self._run_dir / EVENTS_FILE
        offset = path.stat().st_size if path.exists() else 0
        sender = _place(self._run_dir).get("sender")  # before the question: then it was sent before the answer
        try:
            answer = self._ask(offset, wait)
        except (ClusterError, NotFoundError) as error:
            self.close()
            if not _is_gone(error):
                raise
            self._lost()
            return
        if answer.get("unknown") and sender is not None and known.is_alive(sender):
            time.sleep(min(wait, _PAUSE))
            return
        if answer.get("unknown") or answer["ended"]:  # a head that was replaced, or a run that died without a word
            self._lost()
            return
        self._keep(offset, answer["data"])
        if _has_final(answer["data"]):
            self.ended = True
            with suppress(MLOpsError, OSError):  # `files` tries again
                self._runner.fetch(self._run_id, self._run_dir)

    def close(self) -> None:
        """Give up the way to the head."""
        if self._head is not None:
            self._head.close()
            self._head = None

    def _ask(self, offset: int, wait: float) -> dict[str, Any]:
        if self._head is None:
            self._head = self._runner._reach_of(self._run_dir)
        try:
            answer: dict[str, Any] = self._head.call(calls.EVENTS, run_id=self._run_id, offset=offset, wait=wait)
        except ClusterError as error:
            if error.code not in _AWAY:
                raise
            # It may be busy, or gone since: looking anew tells which.
            self.close()
            self._head = self._runner._reach_of(self._run_dir)
            answer = self._head.call(calls.EVENTS, run_id=self._run_id, offset=offset, wait=0.0)
        return answer

    def _keep(self, offset: int, data: bytes) -> None:
        from ..worker import one_at_a_time

        path = self._run_dir / EVENTS_FILE
        with one_at_a_time(self._run_dir):
            if (path.stat().st_size if path.exists() else 0) != offset:
                return  # another has taken it meanwhile
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)

    def _lost(self) -> None:
        from ..worker import one_at_a_time

        with one_at_a_time(self._run_dir):
            if _final(self._run_dir) is None:
                self._runner.record_loss(self._run_dir)
        self.ended = True


def _send(head: Reached, bundle: Path) -> None:
    upload, size, offset = secrets.token_hex(12), bundle.stat().st_size, 0
    with bundle.open("rb") as file:
        while offset < size:
            block = file.read(calls.BLOCK)
            head.call(calls.PUT, upload=upload, offset=offset, data=block, last=offset + len(block) >= size)
            offset += len(block)


def _receive(head: Reached, run_id: str, path: str, size: int, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        while file.tell() < size:
            block = head.call(calls.READ, run_id=run_id, path=path, offset=file.tell())
            if not block:
                break
            file.write(block)
    temporary.replace(target)


def _place(run_dir: Path) -> dict[str, Any]:
    try:
        found = json.loads((run_dir / PLACE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_gone(error: MLOpsError) -> bool:
    return isinstance(error, NotFoundError) or error.code == "cluster_gone"


def _final(run_dir: Path) -> RunEvent | None:
    found = None
    for event in read_events(run_dir):
        if isinstance(event, RunEvent) and event.state.is_terminal:
            found = event
    return found


def _has_final(data: bytes) -> bool:
    for line in data.splitlines():
        with suppress(ValueError):
            if _is_final(parse_event(line)):
                return True
    return False


def _is_final(event: Event) -> bool:
    return isinstance(event, RunEvent) and event.state.is_terminal
