"""Builds a thing once and keeps it. Knows nothing of what is built."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .places import CACHE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_TAIL = 30
_KEPT = 2
_PARTIAL = "partial-"


class ClusterError(Exception):
    """The test cluster, or something that it is made from, could not be had; the message says why and where to look."""


@dataclass(frozen=True)
class Recipe:
    """How a directory in the cache comes to be."""

    title: str
    """What is built, for the person who waits."""

    kind: str
    """The name of the folder for what replaces one another."""

    key: str
    """Different for everything that gives a different result."""

    expected: str
    """How long it takes, in words."""

    build: Callable[[Path], None]
    """Fills an empty directory. May take as long as it likes; it may be killed at any moment."""


def ensure(recipe: Recipe) -> Path:
    """The built directory, building it first if it is not there.

    Returns:
        A directory that is complete and that nobody changes any more.
    """
    folder = CACHE / recipe.kind
    done = folder / recipe.key
    if not done.is_dir():
        with locked(CACHE / f"{recipe.kind}.lock"):
            if not done.is_dir():
                _build(recipe, folder, done)
    os.utime(done)  # in use: see _forget
    return done


def _build(recipe: Recipe, folder: Path, done: Path) -> None:
    say(f"{recipe.title} ({recipe.expected}, once; kept in {CACHE})")
    start = time.monotonic()
    # The lock is ours, so what is here was left by a build that was killed.
    for left in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=folder))
    try:
        partial.chmod(0o755)
        recipe.build(partial)
        _forget(folder)
        partial.rename(done)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{recipe.title}: done in {time.monotonic() - start:.0f} s")


def _forget(folder: Path) -> None:
    """Of what was built before, keep only what was used last: a new version replaces the old one's gigabytes."""
    found = [path for path in folder.iterdir() if not path.name.startswith(_PARTIAL)]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with the process, however the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def digest(*parts: str | bytes) -> str:
    """A short name for exactly these parts in this order."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(f"{len(data)}:".encode() + data)
    return whole.hexdigest()[:12]


def run(command: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, **options: object) -> str:
    """Run a command with low priority and return what it printed. It ends when we are killed.

    Args:
        command: Program and arguments.
        environment: Variables to set, beside the caller's.
        options: More for `subprocess.run`, such as `cwd`.

    Raises:
        ClusterError: If it fails; with the end of what it printed.
    """
    done = subprocess.run(
        ["setpriv", "--pdeathsig=KILL", "nice", "-n", "10", *map(str, command)],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **options,  # type: ignore[call-overload]
    )
    output: str = done.stdout
    if done.returncode != 0:
        tail = "\n".join(output.splitlines()[-_TAIL:])
        raise ClusterError(f"this failed with exit status {done.returncode}: {' '.join(map(str, command))}\n{tail}")
    return output


def say(line: str) -> None:
    """Tell the person who waits."""
    click.echo(f"==> {line}", err=True)
