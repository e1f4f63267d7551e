"""The git state of a directory: where it is in its history, and what differs from there.

Knows no notebook and no snapshot; talks to the `git` program and changes nothing, not even git's index.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIFF_LIMIT = 5 * 2**20
"""Bytes of a diff that is kept; of a longer one only the hash."""

_TIMEOUT = 60.0
"""Seconds for one git command."""

# The repository's own configuration may name programs to run and ways to write a diff: none of the former is
# wanted, and the latter must not make two diffs of one change.
_SETTINGS = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.pager=cat",
    "core.quotePath=true",
    "core.untrackedCache=keep",
    "color.ui=false",
    "diff.algorithm=myers",
    "diff.indentHeuristic=true",
    "diff.suppressBlankEmpty=false",
    "diff.ignoreSubmodules=none",
    "status.relativePaths=true",
    "protocol.allow=never",
)
_DIFF = (
    "diff", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv",
    "--no-renames", "--unified=3", "--inter-hunk-context=0", "--src-prefix=a/", "--dst-prefix=b/",
    "--submodule=short", "--relative", f"-O{os.devnull}",
)  # fmt: skip
_HOST = re.compile(r"([^\s:@\[\]]+|\[[0-9A-Fa-f:.]+\])(:\d+)?")
_KEPT = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES",
                   "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_EXEC_PATH"})  # fmt: skip


class GitState(BaseModel):
    """Where a directory is in its history.

    Attributes:
        commit: The full hash of HEAD; None before the first commit.
        branch: The branch; None when HEAD is detached.
        remote: Address of the remote, without credentials; None for none or for one on this machine.
        dirty: Whether a tracked file of the directory differs from HEAD; for information, see `untracked`.
        diff_sha256: Hash of `git diff HEAD --binary` of the directory, without the notebook, which ships
            itself, and without files whose names look like a secret's; None without a difference.
        diff_size: Bytes of that diff.
        diff_kept: Whether the diff itself is part of the bundle.
        untracked: How many paths git does not know; for information, the snapshot's id does not depend on it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: str | None
    branch: str | None = None
    remote: str | None = None
    dirty: bool = False
    diff_sha256: str | None = None
    diff_size: int = 0
    diff_kept: bool = False
    untracked: int = 0


@dataclass(frozen=True)
class GitReading:
    """What git told.

    Attributes:
        state: None outside a work tree, or when git is missing or refuses.
        diff: The bytes of the diff, when they are kept.
        warnings: Sentences for the person.
    """

    state: GitState | None = None
    diff: bytes | None = None
    warnings: tuple[str, ...] = ()


class _GitError(Exception):
    """Git did not answer; its own words."""


def git_top_level(directory: Path) -> Path | None:
    """The top of the work tree that the directory is in, links resolved; None when it is in none."""
    try:
        text = os.fsdecode(_git(directory, "rev-parse", "--show-toplevel")).removesuffix("\n")
    except _GitError:
        return None
    return Path(text).resolve() if text else None


def read_git(root: Path, *, secret_names: Sequence[str] = (), leave_out: Sequence[str] = ()) -> GitReading:
    """The git state of a directory.

    Args:
        root: The directory; differences outside of it are not looked at.
        secret_names: Globs of names of files and directories that must not be in the diff, in any case.
        leave_out: Paths relative to the root that the diff does not need, because they ship themselves.

    Returns:
        The state, the diff and what the person should know. Never raises for git's sake: a run needs no git.
    """
    try:
        if _git(root, "rev-parse", "--is-inside-work-tree").strip() != b"true":
            return GitReading()
    except _GitError as error:
        text = str(error)
        if "dubious ownership" in text:
            return GitReading(
                warnings=(
                    "Git refuses to read this repository, which belongs to another user: its state is not "
                    "recorded. "
                    "If you trust it: git config --global --add safe.directory <its directory>",
                )
            )
        return GitReading()
    try:
        return _read(root, secret_names, leave_out)
    except _GitError as error:
        return GitReading(warnings=(f"The git state could not be read and is not recorded: {error}",))


def files_not_in_head(root: Path) -> tuple[set[str], set[str]] | None:
    """The files below a directory that git knows, and those of them that differ from HEAD, relative to it.

    None when there is no commit, or git does not answer.
    """
    try:
        tracked = _git(root, "ls-files", "-z", "--cached", "--", ".")
        changed = _git(root, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--relative", "HEAD",
                       "--", ".")  # fmt: skip
    except _GitError:
        return None
    known, differ = ({os.fsdecode(path) for path in text.split(b"\0") if path} for text in (tracked, changed))
    return known, differ


def file_in_head(root: Path, path: str) -> bytes | None:
    """The bytes of a file as HEAD holds it, or None: it does not.

    Args:
        root: A directory of the work tree.
        path: Relative to it.
    """
    try:
        return _git(root, "show", "--no-textconv", f"HEAD:./{path}")
    except _GitError:
        return None


def _read(root: Path, secret_names: Sequence[str], leave_out: Sequence[str]) -> GitReading:
    warnings: list[str] = []
    commit, branch, changed, untracked, submodules = _status(root)
    state = GitState(
        commit=commit, branch=branch, remote=_remote(root), dirty=changed > 0, untracked=untracked
    )  # fmt: skip
    if submodules:
        warnings.append(
            "Uncommitted changes inside the git submodule " + ", ".join(submodules) + " are not part of the diff."
        )
    if not changed:
        return GitReading(state, None, tuple(warnings))
    # The empty tree stands for HEAD before the first commit; its name depends on the repository's hash.
    base = "HEAD" if commit else _git(root, "hash-object", "-t", "tree", os.devnull).decode().strip()
    hidden = [f":(exclude,icase,glob)**/{name}{below}" for name in secret_names for below in ("", "/**")]
    hidden += [f":(exclude,literal){path}" for path in leave_out]
    digest, size, kept = hashlib.sha256(), 0, bytearray()
    with _output(root, *_DIFF, base, "--", ".", *hidden) as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
            size += len(block)
            if size <= DIFF_LIMIT:
                kept += block
    if not size:
        return GitReading(state, None, tuple(warnings))
    fits = size <= DIFF_LIMIT
    if not fits:
        warnings.append(
            f"The uncommitted changes are {size / 2**20:.1f} MiB, over {DIFF_LIMIT // 2**20} MiB: "
            "only their hash is recorded. Commit large files, or ignore them."
        )
    state = state.model_copy(update={"diff_sha256": digest.hexdigest(), "diff_size": size, "diff_kept": fits})
    return GitReading(state, bytes(kept) if fits else None, tuple(warnings))


def _status(root: Path) -> tuple[str | None, str | None, int, int, list[str]]:
    """Commit, branch, counts of changed and untracked paths, and submodules with changes of their own."""
    text = _git(root, "status", "--porcelain=v2", "--branch", "-z", "--untracked-files=normal",
                "--no-renames", "--ignore-submodules=none", "--", ".")  # fmt: skip
    commit = branch = None
    changed = untracked = 0
    submodules: list[str] = []
    for entry in text.split(b"\0"):
        kind, _, rest = entry.partition(b" ")
        if kind == b"#":
            key, _, value = rest.partition(b" ")
            if key == b"branch.oid" and value != b"(initial)":
                commit = value.decode("ascii", "replace")
            if key == b"branch.head" and value != b"(detached)":
                branch = value.decode("utf-8", "replace")
        elif kind == b"?":
            untracked += 1
        elif kind in (b"1", b"u"):
            changed += 1
            fields = rest.split(b" ", 7 if kind == b"1" else 9)
            # The third letter of "S.MU" is M for changed content, the fourth U for untracked files.
            if fields[1][:1] == b"S" and fields[1][2:] != b"..":
                submodules.append(fields[-1].decode("utf-8", "replace"))
    return commit, branch, changed, untracked, submodules


def _remote(root: Path) -> str | None:
    try:
        text = _git(root, "config", "--null", "--get-regexp", r"^remote\..*\.url$")
    except _GitError:
        return None
    found: dict[str, str] = {}
    for entry in text.split(b"\0"):
        key, _, value = entry.decode("utf-8", "replace").partition("\n")
        if value:
            found.setdefault(key, value)
    if not found:
        return None
    return remote_without_credentials(found.get("remote.origin.url") or found[min(found)])


def remote_without_credentials(url: str) -> str | None:
    """The address of a remote without user, password and query; None for a directory of this machine.

    The `git@host:path` form keeps its user: it names the service and opens nothing.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        scp_like = re.fullmatch(r"(?:([^/@:\s]+)(?::[^/@]*)?@)?([^/@:\s]+|\[[0-9a-fA-F:]+\]):(?!:)([^@\s]+)", url)
        if scp_like is None or len(scp_like[2]) == 1:  # C:\work is a drive and no host
            return None
        return f"{scp_like[1]}@{scp_like[2]}:{scp_like[3]}" if scp_like[1] else f"{scp_like[2]}:{scp_like[3]}"
    if scheme.lower() not in ("https", "http", "ssh", "git", "git+ssh", "ssh+git", "ftp", "ftps"):
        return None
    host, end, tail = re.match(r"([^/?#]*)([/?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    user, _, host = host.rpartition("@")
    if not user and ":" in host and "@" in tail:
        # A password with a slash in it: what is host and what is password can only be guessed.
        return None
    if not _HOST.fullmatch(host):
        return None
    path = "/" + re.split(r"[?#]", tail, maxsplit=1)[0] if end == "/" else ""
    keeps_user = "ssh" in scheme.lower() and user and ":" not in user
    return f"{scheme}://{user + '@' if keeps_user else ''}{host}{path}"


def _environment() -> dict[str, str]:
    # In a git hook GIT_DIR and others point at the repository of the hook.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def _command(arguments: Sequence[str]) -> list[str]:
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    return ["git", "--no-pager", "--no-replace-objects", *settings, *arguments]


def _git(directory: Path, *arguments: str) -> bytes:
    with _output(directory, *arguments) as stream:
        return stream.read()


@contextmanager
def _output(directory: Path, *arguments: str) -> Iterator[IO[bytes]]:
    # Through a file: a diff of gigabytes must not lie in memory, and the time-out must hold all the while.
    with TemporaryFile() as stream:
        try:
            done = subprocess.run(
                _command(arguments), cwd=directory, env=_environment(), stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.PIPE, timeout=_TIMEOUT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise _GitError(f"git {arguments[0]} did not end within {_TIMEOUT:.0f} s") from None
        except OSError as error:
            raise _GitError(f"git cannot be run: {error.strerror or error}") from error
        if done.returncode != 0:
            raise _GitError(done.stderr.decode("utf-8", "replace").strip()[:500] or f"exit status {done.returncode}")
        stream.seek(0)
        yield stream
