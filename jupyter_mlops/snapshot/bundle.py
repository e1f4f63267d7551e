"""The store of snapshots: saves, loads, writes one out as files or as a zip.

Content lies in `objects/ab/cdef…`, each piece once however many snapshots have it; a snapshot is a manifest
of them. A manifest is written after its objects and everything by rename, so that a process killed at any
moment, or a full disk, leaves a store that is whole. Knows no notebook and no discovery.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from ..errors import NotFoundError, SnapshotError
from .disk import BLOCK, digest_of, open_regular, sync_directory, told, write_atomically
from .model import Snapshot, SnapshotFile
from .tree import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STALE = 24 * 3600
"""Seconds after which a temporary file is one that a killed process left."""

_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The first moment that a zip can hold, for every file: the same content makes the same zip."""


class SnapshotStore:
    """The snapshots of a data directory; any number of processes may use it at once.

    Args:
        data_path: The data directory; the store is its `snapshots`, made when something is first saved.
    """

    def __init__(self, data_path: Path) -> None:
        self._root = data_path / "snapshots"
        self._temporary = self._root / "tmp"

    def save(self, snapshot: Snapshot) -> str:
        """Write a snapshot; one that is there already stays as it is.

        Args:
            snapshot: As `build_snapshot` made it and as the person saw it.

        Returns:
            Its id.

        Raises:
            SnapshotError: a file has changed since the snapshot was built ("changed"), the disk is full
                ("disk_full") or cannot be written ("not_writable").
        """
        with told(self._root):
            for directory in (self._root / "objects", self._root / "manifests", self._temporary):
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._drop_stale()
            touched: set[Path] = set()
            for file in snapshot.files:
                touched.add(self._keep(file, snapshot._sources.get(file.path)))
            if snapshot.git is not None and snapshot.git.diff_kept and snapshot.git.diff_sha256 is not None:
                diff = SnapshotFile(
                    path="git.diff",
                    size=snapshot.git.diff_size,
                    sha256=snapshot.git.diff_sha256,
                    reason="extra",
                )
                touched.add(self._keep(diff, snapshot._diff))
            for directory in touched:
                sync_directory(directory)
            if not self._has(snapshot.id):
                data = json.dumps(snapshot.model_dump(mode="json"), ensure_ascii=True, indent=1).encode("ascii")
                self._write(self._manifest(snapshot.id), lambda out: out.write(data))
                sync_directory(self._root / "manifests")
        return snapshot.id

    def load(self, name: str) -> Snapshot:
        """The snapshot of that id, or of a prefix of at least four digits that only it has.

        Raises:
            NotFoundError: there is none, or several.
            SnapshotError: its manifest is damaged ("damaged").
        """
        if not re.fullmatch(r"[0-9a-f]{4,64}", name):
            raise NotFoundError(
                f"{shown(name, 80)!r} is no id of a snapshot.",
                hint="An id is 64 digits of 0-9 and a-f, and its first four or more do.",
            )
        found = [path for path in self._manifests() if path.stem.startswith(name)]
        if not found:
            raise NotFoundError(
                f"There is no snapshot {name}.", hint="`jupyter mlops show RUN` names a run's snapshot."
            )
        if len(found) > 1:
            listed = ", ".join(path.stem[:16] for path in found[:5])
            raise NotFoundError(f"Several snapshots begin with {name}: {listed}.", hint="Write more of the id.")
        return _read_manifest(found[0])

    def list(self) -> tuple[Snapshot, ...]:
        """Every snapshot that can be read, the last saved first."""
        dated: list[tuple[float, Path]] = []
        for path in self._manifests():
            with suppress(OSError):
                dated.append((path.stat().st_mtime, path))
        found: list[Snapshot] = []
        for _, path in sorted(dated, reverse=True):
            with suppress(SnapshotError):
                found.append(_read_manifest(path))
        return tuple(found)

    def materialize(self, name: str, destination: Path) -> Path:
        """Write the files of a snapshot, all of them or none.

        Args:
            name: Its id or a prefix.
            destination: A directory that does not exist or is empty; nothing is written outside of it.

        Returns:
            The notebook's file.

        Raises:
            NotFoundError: no such snapshot.
            SnapshotError: it is damaged ("damaged"), the destination is taken ("destination_taken"), or
                the disk is full ("disk_full") or cannot be written ("not_writable").
        """
        snapshot = self.load(name)
        destination = destination.absolute()
        with told(destination):
            if destination.is_symlink() or (destination.exists() and not _is_empty_directory(destination)):
                raise SnapshotError(
                    f"The snapshot cannot be written to {shown(str(destination))}: it is no empty directory.",
                    hint="Name a directory that does not exist.",
                    code="destination_taken",
                )
            destination.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=".snapshot-", dir=destination.parent))
            try:
                for file in snapshot.files:
                    self._write_out(file, partial)
                if destination.exists():
                    destination.rmdir()
                partial.replace(destination)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
        return destination / snapshot.notebook

    def notebook(self, name: str) -> bytes:
        """The notebook of a snapshot, as it ships.

        Raises:
            NotFoundError: no such snapshot.
            SnapshotError: it is damaged.
        """
        snapshot = self.load(name)
        (file,) = (file for file in snapshot.files if file.path == snapshot.notebook)
        return b"".join(self._blocks(file.sha256, file.path))

    def diff(self, name: str) -> bytes | None:
        """The uncommitted changes as `git apply` takes them; None when there are none or they were not kept.

        Raises:
            NotFoundError: no such snapshot.
            SnapshotError: it is damaged.
        """
        git = self.load(name).git
        if git is None or not git.diff_kept or git.diff_sha256 is None:
            return None
        return b"".join(self._blocks(git.diff_sha256, "git.diff"))

    def write_zip(self, name: str, path: Path) -> Path:
        """Write a snapshot as one zip: `snapshot.json`, `requirements.txt`, `git.diff`, the files in `work/`.

        The same snapshot makes the same bytes.

        Args:
            name: Its id or a prefix.
            path: The zip's file; replaced when it is there.

        Returns:
            The path.

        Raises:
            NotFoundError: no such snapshot.
            SnapshotError: it is damaged ("damaged"), or the disk is full ("disk_full") or cannot be written.
        """
        snapshot = self.load(name)
        manifest = json.dumps(snapshot.model_dump(mode="json"), ensure_ascii=True, indent=1)
        head = {"snapshot.json": manifest.encode(), "requirements.txt": snapshot.environment.lock.encode()}
        diff = self.diff(snapshot.id)
        if diff is not None:
            head["git.diff"] = diff

        def write(out: BinaryIO) -> None:
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
                for entry, data in sorted(head.items()):
                    with archive.open(_zip_entry(entry, len(data), executable=False), "w") as target:
                        target.write(data)
                for file in sorted(snapshot.files, key=lambda file: file.path):
                    info = _zip_entry(f"work/{file.path}", file.size, executable=file.executable)
                    with archive.open(info, "w") as target:
                        for block in self._blocks(file.sha256, file.path):
                            target.write(block)

        path = path.absolute()
        with told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, write, path.parent / f".snapshot-{secrets.token_hex(8)}")
        return path

    def _manifest(self, snapshot_id: str) -> Path:
        return self._root / "manifests" / f"{snapshot_id}.json"

    def _manifests(self) -> Iterator[Path]:
        return (self._root / "manifests").glob("*.json")

    def _object(self, digest: str) -> Path:
        return self._root / "objects" / digest[:2] / digest[2:]

    def _has(self, snapshot_id: str) -> bool:
        try:
            return _read_manifest(self._manifest(snapshot_id)).id == snapshot_id
        except (SnapshotError, OSError):
            return False

    def _keep(self, file: SnapshotFile, source: Path | bytes | None) -> Path:
        """Make sure that the content of a file is an object; returns the object's directory."""
        target = self._object(file.sha256)
        if source is None:
            for _ in self._blocks(file.sha256, file.path):
                pass
            return target.parent
        if self._is_whole(target, file):
            # The content is here, but the person is to know that the project no longer is what was shown.
            _copy(source, file, None)
            return target.parent
        target.parent.mkdir(exist_ok=True, mode=0o700)
        self._write(target, lambda out: _copy(source, file, out))
        return target.parent

    def _is_whole(self, target: Path, file: SnapshotFile) -> bool:
        # Read, not only measured: a damaged object is mended by saving its snapshot again.
        try:
            with target.open("rb") as stream:
                return digest_of(stream) == (file.sha256, file.size)
        except OSError:
            return False

    def _blocks(self, digest: str, path: str) -> Iterator[bytes]:
        """The content of an object; raises after the last block if it was another's."""
        seen = hashlib.sha256()
        try:
            with self._object(digest).open("rb") as stream:
                while block := stream.read(BLOCK):
                    seen.update(block)
                    yield block
        except FileNotFoundError:
            raise _damaged(f"the content of {shown(path)} is gone from the store") from None
        if seen.hexdigest() != digest:
            raise _damaged(f"the content of {shown(path)} is not what was saved")

    def _write_out(self, file: SnapshotFile, directory: Path) -> None:
        target = directory.joinpath(*file.path.split("/"))
        if os.name == "nt" and re.search(r'[\\:<>"|?*\x00-\x1f]', file.path):
            raise SnapshotError(f"The file {shown(file.path)} has a name that Windows does not allow.")
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(target, flags, 0o777 if file.executable else 0o666), "wb") as out:
            for block in self._blocks(file.sha256, file.path):
                out.write(block)

    def _write(self, target: Path, write: Callable[[BinaryIO], object]) -> None:
        write_atomically(target, write, self._temporary / secrets.token_hex(16))

    def _drop_stale(self) -> None:
        oldest = time.time() - _STALE
        for path in self._temporary.iterdir():
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _copy(source: Path | bytes, file: SnapshotFile, out: BinaryIO | None) -> None:
    """Copy, and refuse what is not what the snapshot says."""
    digest, size = hashlib.sha256(), 0
    if isinstance(source, bytes):
        blocks: Iterator[bytes] = iter((source,))
        stream = None
    else:
        try:
            stream = open_regular(source)
        except OSError as error:
            raise _changed(file, f" ({error.strerror or error})") from error
        blocks = iter(lambda: stream.read(BLOCK), b"")
    try:
        for block in blocks:
            digest.update(block)
            size += len(block)
            if size > file.size:
                break
            if out is not None:
                out.write(block)
    finally:
        if stream is not None:
            stream.close()
    if (digest.hexdigest(), size) != (file.sha256, file.size):
        raise _changed(file, "")


def _changed(file: SnapshotFile, detail: str) -> SnapshotError:
    return SnapshotError(
        f"The file {shown(file.path)} has changed since the snapshot was built{detail}.",
        hint="Start again; leave a file that changes all the time out with --exclude.",
        code="changed",
    )


def _damaged(detail: str) -> SnapshotError:
    return SnapshotError(
        f"The snapshot is damaged: {detail}.",
        hint="Train the notebook again to save it anew.",
        code="damaged",
    )


def _read_manifest(path: Path) -> Snapshot:
    try:
        snapshot = Snapshot.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise _damaged(f"its manifest {path.stem[:12]} cannot be used, {error.errors()[0]['msg']}") from None
    except OSError as error:
        raise _damaged(f"its manifest {path.stem[:12]} cannot be read, {error.strerror or error}") from error
    if snapshot.id != path.stem:
        raise _damaged(f"its manifest {path.stem[:12]} is another's")
    return snapshot


def _zip_entry(name: str, size: int, *, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix: else the permissions mean nothing
    info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
    info.file_size = size
    return info


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
