"""Which files of a run go to MLflow, under which names, and how they get there.

A run's directory is written by the notebook too: only regular files inside it are taken, and links are not
followed.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .items import suitable_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..redact import Redactor
    from ..snapshot import Snapshot
    from .connection import Connection

RESULTS = ("executed.ipynb", "executed.html", "events.jsonl")
OUTPUTS = "outputs"
SNAPSHOT_ZIP = "snapshot.zip"
MANIFEST = "snapshot.json"
LOCK = "requirements.lock"
OUTPUT_FILES = 1000
"""Files of `outputs/` that are uploaded; each takes a request of its own."""

_BYTES_PER_SECOND = 1_000_000


@dataclass(frozen=True)
class Artifact:
    """One file to upload.

    Attributes:
        name: Its path among the run's artifacts.
        content: The file, or the text itself.
    """

    name: str
    content: Path | str


def run_artifacts(
    run_dir: Path,
    *,
    snapshot: Snapshot | None,
    snapshot_zip: Path | None,
    extra: Mapping[str, Path],
    redactor: Redactor,
) -> list[Artifact]:
    """What a run leaves behind, as it lies there now; what is missing is left out.

    Args:
        run_dir: The run's directory.
        snapshot: Its manifest and lock become files.
        snapshot_zip: The bundle itself.
        extra: More files, by their path among the artifacts.
        redactor: For the texts that are made here.
    """
    found = [Artifact(name, run_dir / name) for name in RESULTS if _is_file(run_dir / name)]
    for number, path in enumerate(_regular_files(run_dir / OUTPUTS)):
        if number == OUTPUT_FILES:
            break
        found.append(Artifact(_artifact_name(f"{OUTPUTS}/{path.relative_to(run_dir / OUTPUTS).as_posix()}"), path))
    if snapshot is not None:
        manifest = redactor.data(snapshot.model_dump(mode="json"))
        found.append(Artifact(MANIFEST, json.dumps(manifest, indent=1)))
        lock = _lock_text(snapshot)
        if lock:
            found.append(Artifact(LOCK, redactor.text(lock)))
    if snapshot_zip is not None and _is_file(snapshot_zip):
        found.append(Artifact(SNAPSHOT_ZIP, snapshot_zip))
    found += [Artifact(_artifact_name(name), path) for name, path in extra.items() if _is_file(path)]
    return found


def upload(connection: Connection, mlflow_run_id: str, files: list[Artifact]) -> None:
    """Send the files, each with time in proportion to its size.

    Raises:
        TrackingError: MLflow did not take one; those before it are there.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-artifacts-") as scratch:
        for number, artifact in enumerate(files):
            place = PurePosixPath(artifact.name)
            local = _local_file(artifact, place, Path(scratch) / str(number))
            if local is None or (artifact.name == SNAPSHOT_ZIP and _is_there(connection, mlflow_run_id, local)):
                continue
            directory = str(place.parent) if place.parent != PurePosixPath() else None
            connection.do(
                partial(connection.client.log_artifact, mlflow_run_id, str(local), directory),
                allowance=local.stat().st_size / _BYTES_PER_SECOND,
            )


def _is_there(connection: Connection, mlflow_run_id: str, local: Path) -> bool:
    """Whether the bundle was sent before, by whoever submitted the run: the same snapshot makes the same bytes."""
    known = connection.do(lambda: connection.client.list_artifacts(mlflow_run_id))
    size = local.stat().st_size
    return any(file.path == local.name and file.file_size == size for file in known)


def _local_file(artifact: Artifact, place: PurePosixPath, scratch: Path) -> Path | None:
    """A file that has the artifact's own name, which is how MLflow names it."""
    if isinstance(artifact.content, Path):
        if not _is_file(artifact.content):
            return None
        if artifact.content.name == place.name:
            return artifact.content
    scratch.mkdir()
    local = scratch / place.name
    if isinstance(artifact.content, str):
        local.write_text(artifact.content, encoding="utf-8", errors="replace")
        return local
    try:
        os.link(artifact.content, local)
    except OSError:
        shutil.copyfile(artifact.content, local)
    return local


def _artifact_name(name: str) -> str:
    # MLflow puts names into URLs as they are: '#', '?' and '%' would end up elsewhere.
    return "/".join(suitable_name(part) for part in name.split("/") if part)


def _regular_files(directory: Path) -> Iterator[Path]:
    if directory.is_symlink():  # os.walk follows the first one
        return
    for parent, directories, names in os.walk(directory, followlinks=False):
        directories.sort()
        for name in sorted(names):
            path = Path(parent) / name
            if _is_file(path):
                yield path


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _lock_text(snapshot: Any) -> str:
    lock = getattr(getattr(snapshot, "environment", None), "lock", None)
    if not lock:
        return ""
    return lock if isinstance(lock, str) else "\n".join(map(str, lock)) + "\n"
