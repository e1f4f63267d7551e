"""What travels between a client and the pods of a run, as artifacts and tags of its MLflow run.

To the pod: the spec and the snapshot. Back: the executed notebook, its outputs and the events. So no pod needs a shared
volume or the credentials of a bucket. Knows MLflow and snapshots; knows no Kubernetes.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ..errors import MLOpsError, SnapshotError, TrackingError
from ..events import EVENTS_FILE, Event, RunEvent, parse_event
from ..redact import Redactor
from ..spec import FailureCode, RunSpec, RunState
from ..tracking.artifacts import OUTPUTS, RESULTS, SNAPSHOT_ZIP, Artifact, upload
from ..tracking.connection import Connection, connect
from ..tracking.items import CANCELLED_BY_TAG, FAILURE_TAGS, STATUS, tag_text

if TYPE_CHECKING:
    from ..snapshot import Snapshot, SnapshotStore
    from ..tracking.mlflow_run import BegunRun

SPEC_FILE = "spec.json"
_BYTES_PER_SECOND = 1_000_000
_DEEPEST = 20
_ENDED = {STATUS[state]: state for state in (RunState.FAILED, RunState.CANCELLED)}


def send_inputs(
    spec: RunSpec, store: SnapshotStore, run_dir: Path, *, uri: str, wait: float, redactor: Redactor
) -> BegunRun:
    """Begin the MLflow run and put the spec and the snapshot into it; doing so twice changes nothing.

    Args:
        spec: The run.
        store: Holds its snapshot.
        run_dir: Holds its `spec.json`.
        uri: MLflow's address, with credentials if it has them.
        wait: Seconds to wait for MLflow to answer a call.
        redactor: Masks secrets in what is logged.

    Raises:
        TrackingError: MLflow is away or refuses.
        SnapshotError: the snapshot is damaged.
    """
    from ..tracking.mlflow_run import begin_run

    snapshot = store.load(spec.snapshot_id)
    with tempfile.TemporaryDirectory(prefix="mlops-send-") as scratch:
        notebook = store.materialize(snapshot.id, Path(scratch) / "work")
        begun = begin_run(
            spec, snapshot, uri=uri, wait=wait, redactor=redactor, defaults=_declared_defaults(notebook)
        )  # fmt: skip
        bundle = store.write_zip(snapshot.id, Path(scratch) / SNAPSHOT_ZIP)
        connection = connect(uri, wait)
        files = [Artifact(SPEC_FILE, run_dir / SPEC_FILE), Artifact(SNAPSHOT_ZIP, bundle)]
        upload(connection, begun.mlflow_run_id, files)
    _set_status(connection, begun.mlflow_run_id, RunState.PENDING)
    return begun


def fetch_inputs(
    mlflow_run_id: str, run_dir: Path, store: SnapshotStore, *, uri: str, wait: float
) -> tuple[RunSpec, Snapshot]:
    """Take the spec and the snapshot from the MLflow run into this machine's directories.

    Args:
        mlflow_run_id: Where `send_inputs` put them.
        run_dir: The run's directory, named by its id.
        store: Gets the snapshot; every file's digest is checked.
        uri: MLflow's address.
        wait: Seconds to wait for MLflow to answer a call.

    Raises:
        TrackingError: MLflow is away, refuses, or does not have them.
        SnapshotError: they are not what the spec names ("damaged").
        ValueError: the spec cannot be read by this version.
    """
    connection = connect(uri, wait)
    sizes = {path: size for path, size in _files(connection, mlflow_run_id, None) if path in (SPEC_FILE, SNAPSHOT_ZIP)}
    missing = [name for name in (SPEC_FILE, SNAPSHOT_ZIP) if name not in sizes]
    if missing:
        raise TrackingError(
            f"The MLflow run {mlflow_run_id} has no {missing[0]}: somebody deleted it.", hint="Start the run again."
        )
    for name, size in sizes.items():
        _download(connection, mlflow_run_id, name, size, run_dir / name)
    spec = RunSpec.read(run_dir)
    if spec.run_id != run_dir.name:
        raise SnapshotError(f"The MLflow run {mlflow_run_id} belongs to the run {spec.run_id}.", code="damaged")
    snapshot = take_zip(run_dir / SNAPSHOT_ZIP, store)
    if snapshot.id != spec.snapshot_id:
        raise SnapshotError("What the MLflow run holds is another snapshot than the run's.", code="damaged")
    _set_status(connection, mlflow_run_id, RunState.RUNNING)
    return spec, snapshot


def take_zip(path: Path, store: SnapshotStore) -> Snapshot:
    """Save the snapshot of a zip that `SnapshotStore.write_zip` wrote.

    Args:
        path: The zip; nothing in it is trusted that its digests do not prove.
        store: Gets it.

    Raises:
        SnapshotError: it is no such zip, or damaged ("damaged").
    """
    from ..snapshot import Snapshot

    try:
        with tempfile.TemporaryDirectory(prefix=".take-", dir=path.parent) as scratch, zipfile.ZipFile(path) as archive:
            told = Snapshot.model_validate_json(archive.read("snapshot.json"))
            sources: dict[str, Path | bytes] = {}
            for number, file in enumerate(told.files):
                sources[file.path] = Path(scratch) / str(number)
                with archive.open(f"work/{file.path}") as source, (Path(scratch) / str(number)).open("wb") as target:
                    _copy_at_most(source, target, file.size)
            kept = told.git is not None and told.git.diff_kept and told.git.diff_sha256 is not None
            # Made anew, because only so it can be given its sources; the id is computed from the content.
            snapshot = Snapshot.of(
                notebook=told.notebook, files=told.files, environment=told.environment, git=told.git, seed=told.seed,
                warnings=told.warnings, sources=sources, diff=archive.read("git.diff") if kept else None,
            )  # fmt: skip
            store.save(snapshot)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise SnapshotError(f"The snapshot that was sent is damaged: {error}", code="damaged") from error
    return snapshot


def fetch_results(mlflow_run_id: str, run_dir: Path, *, uri: str, wait: float) -> bool:
    """Take what the run has left in MLflow into its directory here, unless it is there.

    Returns:
        Whether MLflow knows that the run has ended.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)
    run = connection.do(lambda: connection.client.get_run(mlflow_run_id))
    for path, size in _files(connection, mlflow_run_id, None):
        if path in RESULTS and path != EVENTS_FILE:
            _download(connection, mlflow_run_id, path, size, run_dir / path)
    for path, size in _files(connection, mlflow_run_id, OUTPUTS):
        _download(connection, mlflow_run_id, path, size, inside(run_dir, path))
    return run.info.status not in (STATUS[RunState.PENDING], STATUS[RunState.RUNNING])


def recorded_events(mlflow_run_id: str, *, uri: str, wait: float) -> list[Event]:
    """The events that the head sent to MLflow when it ended; the last one tells how, or there is none.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)
    run = connection.do(lambda: connection.client.get_run(mlflow_run_id))
    sizes = dict(_files(connection, mlflow_run_id, None))
    found: list[Event] = []
    if EVENTS_FILE in sizes:
        with tempfile.TemporaryDirectory(prefix="mlops-events-") as scratch:
            local = Path(scratch) / EVENTS_FILE
            _download(connection, mlflow_run_id, EVENTS_FILE, sizes[EVENTS_FILE], local)
            for line in local.read_bytes().splitlines():
                with suppress(ValueError):
                    found.append(parse_event(line))
    if any(isinstance(event, RunEvent) and event.state.is_terminal for event in found):
        return found
    # A notebook's own `with mlflow.start_run():` ends the MLflow run as FINISHED, so that one proves nothing.
    state = _ENDED.get(run.info.status)
    code = run.data.tags.get(FAILURE_TAGS[0])
    if state is not None and code in set(FailureCode):
        message = run.data.tags.get(FAILURE_TAGS[1], "")
        found.append(RunEvent(state=state, code=FailureCode(code), message=message, mlflow_run_id=mlflow_run_id))
        return found
    return []


def mark_cancelled(mlflow_run_id: str, by: str, *, uri: str, wait: float) -> None:
    """Leave word for the head that it is going to be ended because somebody wants it.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    connection = connect(uri, wait)
    text = tag_text(by, Redactor())
    connection.do(lambda: connection.client.set_tag(mlflow_run_id, CANCELLED_BY_TAG, text))


def cancelled_by(mlflow_run_id: str, *, uri: str, wait: float) -> str | None:
    """Who wants the run to end, or None: nobody.

    Raises:
        TrackingError: MLflow is away or refuses.
    """
    from ..tracking.address import is_server
    from ..tracking.server import run_tag

    if is_server(uri):
        with suppress(TrackingError):
            return run_tag(uri, mlflow_run_id, CANCELLED_BY_TAG, wait)
    connection = connect(uri, wait)
    tags: Mapping[str, str] = connection.do(lambda: connection.client.get_run(mlflow_run_id)).data.tags
    return tags.get(CANCELLED_BY_TAG)


def _declared_defaults(notebook: Path) -> dict[str, Any]:
    from ..notebook.document import read_notebook
    from ..notebook.parameters import read_parameters

    parameters = read_parameters(read_notebook(notebook))
    return {each.name: each.default for each in parameters if each.has_default and not each.default_source}


def _set_status(connection: Connection, mlflow_run_id: str, state: RunState) -> None:
    connection.do(lambda: connection.client.update_run(mlflow_run_id, status=STATUS[state]))


def _files(connection: Connection, mlflow_run_id: str, directory: str | None, depth: int = 0) -> list[tuple[str, int]]:
    """Paths and sizes below a directory; of the root only what is directly in it."""
    found: list[tuple[str, int]] = []
    for entry in connection.do(lambda: connection.client.list_artifacts(mlflow_run_id, directory)):
        if not entry.is_dir:
            found.append((str(entry.path), int(entry.file_size or 0)))
        elif directory is not None and depth < _DEEPEST:
            found += _files(connection, mlflow_run_id, str(entry.path), depth + 1)
    return found


def _download(connection: Connection, mlflow_run_id: str, path: str, size: int, target: Path) -> None:
    """One artifact, whole or not at all; one that is there with its size stays."""
    with suppress(OSError):
        if target.stat().st_size == size and size:
            return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as scratch:
            with _without_progress_bar():
                local = connection.do(
                    lambda: connection.client.download_artifacts(mlflow_run_id, path, scratch),
                    allowance=size / _BYTES_PER_SECOND,
                )
            Path(local).replace(target)
    except OSError as error:
        raise MLOpsError(
            f"The file {target} cannot be written: {error.strerror or error}.", code="disk_full"
        ) from error


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """MLflow draws one for each file, in the middle of whatever is shown."""
    name = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


def inside(run_dir: Path, path: str) -> Path:
    """Where an artifact goes; its name was chosen by whoever could write to the MLflow run."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\x00" in path:
        raise TrackingError(f"The MLflow run has an artifact that would be written elsewhere: {path!r}.")
    target = run_dir.joinpath(*pure.parts)
    if not Path(os.path.realpath(target.parent)).is_relative_to(Path(os.path.realpath(run_dir))):
        raise TrackingError(f"The directory {target.parent} leads out of the run's.")
    return target


def _copy_at_most(source: Any, target: Any, size: int) -> None:
    left = size + 1  # one more shows that it is not what was promised
    while left and (block := source.read(min(left, 2**20))):
        target.write(block)
        left -= len(block)
