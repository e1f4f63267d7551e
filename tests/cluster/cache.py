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


class ClusterError(Exception):
    """The test cluster, or something that it is made from, could not be had; the message says why and where to look."""


@dataclass(frozen=True)
class Recipe:
    """How a directory in the cache comes to be."""

    title: str
    """What is built, for the person who waits."""

    key: str
    """The directory's name; different for everything that gives a different result."""

    expected: str
    """How long it takes, in words."""

    build: Callable[[Path], None]
    """Fills an empty directory. May take as long as it likes; it may be killed at any moment."""


def ensure(recipe: Recipe) -> Path:
    """The built directory, building it first if it is not there.

    Returns:
        A directory that is complete and that nobody changes any more.
    """
    root = CACHE
    done = root / recipe.key
    if done.is_dir():
        return done
    with locked(root / f"{recipe.key}.lock"):
        if done.is_dir():
            return done
        # The lock is ours, so what is here was left by a build that was killed.
        for left in root.glob(f".{recipe.key}.*"):
            shutil.rmtree(left)
        say(f"{recipe.title} ({recipe.expected}, once; kept in {root})")
        start = time.monotonic()
        partial = Path(tempfile.mkdtemp(prefix=f".{recipe.key}.", dir=root))
        try:
            partial.chmod(0o755)
            recipe.build(partial)
            partial.rename(done)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        say(f"{recipe.title}: done in {time.monotonic() - start:.0f} s")
    return done


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
