"""Builds a snapshot from a notebook's place, and tells a person what ships. Writes nothing.

The sizes are checked before a byte is hashed; the hashes are checked again when the snapshot is saved.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydantic import ValidationError

from ..errors import SnapshotError
from .disk import hash_file
from .environment import read_environment
from .files import find_files
from .git import read_git
from .model import Reason, Snapshot, SnapshotFile, path_problem
from .tree import SECRET_DIRECTORIES, leaves, normalized, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from nbformat import NotebookNode

    from ..config import MLOps

_LISTED = 30
_WHY: dict[str, str] = {
    "notebook": "the notebook, without outputs",
    "include": "asked for with --include",
    "import": "imported or run",
    "literal": "named in the code",
    "extra": "made for this run",
}


def build_snapshot(
    notebook: Path,
    nb: NotebookNode,
    *,
    config: MLOps,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    seed: int = 0,
    extra_files: Mapping[str, bytes] | None = None,
    kernel_python: str | None = None,
) -> Snapshot:
    """What would ship, by content. `describe` shows it; `SnapshotStore.save` writes it if it is unchanged.

    Args:
        notebook: The notebook's place; its directory must exist, the file need not.
        nb: Its content, without outputs.
        config: The size limit in bytes, names of secrets and the data directory.
        include: Globs of files to ship, relative to the notebook's directory or else the root.
        exclude: Globs of found files not to ship.
        seed: Seed of the random generators, from 0 to 2**32 - 1.
        extra_files: Content by path relative to the notebook's directory; such a path wins over a found file.
        kernel_python: The interpreter of the notebook's kernel; None for this one.

    Raises:
        SnapshotError: a path cannot ship, there are too many files ("too_many_files") or bytes ("too_large"),
            an include matches nothing, or a file cannot be read.
    """
    notebook = notebook.absolute()
    found = find_files(notebook, nb, config=config, include=include, exclude=exclude)
    contents: dict[str, tuple[bytes, Reason]] = {found.notebook: (notebook_bytes(nb), "notebook")}
    for name, data in (extra_files or {}).items():
        path = _extra_path(found.notebook, name)
        if path in contents:
            raise SnapshotError(f"The extra file {shown(name)!r} would take the place of another one.")
        contents[path] = (data, "extra")
    on_disk = [entry for entry in found.files if entry.file.path not in contents]
    _check_size(
        {entry.file.path: entry.file.size for entry in on_disk}
        | {path: len(data) for path, (data, _) in contents.items()},
        config.snapshot_size_limit,
    )
    files: list[SnapshotFile] = []
    sources: dict[str, Path | bytes] = {}
    # The notebook's outputs are in its file and would be in the diff; its source ships anyway.
    secret_names = (*config.snapshot_exclude, *SECRET_DIRECTORIES)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="mlops-git") as pool:  # git has processes of its own to wait for
            reading = pool.submit(read_git, found.root, secret_names=secret_names, leave_out=[found.notebook])
            for path, (data, reason) in contents.items():
                digest = hashlib.sha256(data).hexdigest()
                files.append(SnapshotFile(path=path, size=len(data), sha256=digest, reason=reason))
                sources[path] = data
            for entry in on_disk:
                file, reason = entry.file, entry.reason
                digest, size = _hashed(file.path, file.source)
                files.append(
                    SnapshotFile(path=file.path, size=size, sha256=digest, executable=file.executable, reason=reason)
                )
                sources[file.path] = file.source
            environment, missing = read_environment(kernel_python)
            git = reading.result()
        return Snapshot.of(
            notebook=found.notebook, files=files, environment=environment, git=git.state, seed=seed,
            warnings=(*found.warnings, *missing, *git.warnings), sources=sources, diff=git.diff,
        )  # fmt: skip
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SnapshotError(f"The snapshot cannot be made: {field} {shown(first['msg'])}".strip() + ".") from None


def describe(snapshot: Snapshot) -> list[str]:
    """Lines for the person, before anything is written: what ships, why, how large it is, what to know."""
    environment, git = snapshot.environment, snapshot.git
    count = len(snapshot.files)
    lines = [
        f"Snapshot {snapshot.short_id}: {count} file{'s' * (count != 1)}, {_bytes(snapshot.size)}, seed {snapshot.seed}"
    ]
    ordered = sorted(snapshot.files, key=lambda file: (file.reason != "notebook", file.path))
    lines += [f"  {shown(file.path)} ({_bytes(file.size)}): {_WHY[file.reason]}" for file in ordered[:_LISTED]]
    rest = ordered[_LISTED:]
    if rest:
        kinds = ", ".join(f"{number} {_WHY[reason]}" for reason, number in Counter(f.reason for f in rest).items())
        lines.append(f"  and {len(rest)} more, {_bytes(sum(file.size for file in rest))}: {kinds}")
    packages = len(environment.distributions)
    lines.append(
        f"Environment: {environment.implementation} {environment.python} on {environment.platform}, {packages} packages"
    )
    if git is not None:
        lines.append(f"Git: {_git_line(snapshot)}")
    return [*lines, *(f"Note: {shown(warning, 1000)}" for warning in snapshot.warnings)]


def _git_line(snapshot: Snapshot) -> str:
    git = snapshot.git
    assert git is not None
    text = f"commit {git.commit[:12]}" if git.commit else "no commit yet"
    text += f" on {shown(git.branch)}" if git.branch else ""
    text += f" of {shown(git.remote)}" if git.remote else ""
    if git.dirty:
        text += ", with uncommitted changes" + (f" ({_bytes(git.diff_size)})" if git.diff_size else "")
    if git.untracked:
        text += f", {git.untracked} untracked path{'s' * (git.untracked != 1)}"
    return text


def notebook_bytes(nb: NotebookNode) -> bytes:
    """A notebook as it ships."""
    import nbformat

    text: str = nbformat.writes(nb, version=nbformat.NO_CONVERT)
    # JSON's own escape: half of a surrogate pair is legal in JSON and has no UTF-8.
    return (text if text.endswith("\n") else f"{text}\n").encode("utf-8", "backslashreplace")


def _extra_path(notebook: str, name: str) -> str:
    problem = path_problem(name) or ("the path has a backslash" if "\\" in name else "")
    path = normalized(notebook.rpartition("/")[0], name)
    if problem or leaves(path):
        raise SnapshotError(f"The extra file {shown(name)!r} cannot ship: {shown(problem)}.")
    return path


def _hashed(path: str, source: Path) -> tuple[str, int]:
    try:
        return hash_file(source)
    except OSError as error:
        raise SnapshotError(
            f"The file {shown(path)} cannot be read: {error.strerror or error}.",
            hint=f"Make it readable, or leave it out: --exclude {shown(path)!r}",
            code="unreadable",
        ) from error


def _check_size(sizes: Mapping[str, int], limit: int) -> None:
    total = sum(sizes.values())
    if total <= limit:
        return
    largest = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:3]
    listed = ", ".join(f"{shown(path)} ({_bytes(size)})" for path, size in largest)
    raise SnapshotError(
        f"The files of the snapshot are {_bytes(total)} together, over the limit of {_bytes(limit)}. "
        f"The largest: {listed}.",
        hint=f"Leave files out (--exclude {shown(largest[0][0])!r}), read large data by an fsspec URL "
        "such as s3://bucket/path, or raise c.MLOps.snapshot_size_limit.",
        code="too_large",
    )


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
