"""Files as the store needs them: read safely, hashed, written whole or not at all. Knows no snapshot."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, BinaryIO

from ..errors import SnapshotError
from .tree import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCK = 1 << 20
"""Bytes that are read at once."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file that was found earlier; a link or FIFO in its place is not followed or waited for.

    Raises:
        OSError: it is gone, a link or no regular file.
    """
    # O_NONBLOCK: a FIFO that took the file's place would hold us for ever.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def hash_file(path: Path) -> tuple[str, int]:
    """SHA-256 and size in bytes of a regular file.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(path) as stream:
        return digest_of(stream)


def digest_of(stream: IO[bytes]) -> tuple[str, int]:
    """SHA-256 in hexadecimal and size in bytes of the rest of a stream."""
    digest, size = hashlib.sha256(), 0
    while block := stream.read(BLOCK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def write_atomically(target: Path, write: Callable[[BinaryIO], object], temporary: Path) -> None:
    """Write a file whole or not at all, also when the machine goes down.

    Args:
        target: Replaced when it is there.
        write: Writes the content.
        temporary: A name on the same file system that nobody else uses.
    """
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            write(out)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def sync_directory(directory: Path) -> None:
    """Make the names in a directory last."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told(place: Path) -> Iterator[None]:
    """Turns what the disk says into a sentence.

    Raises:
        SnapshotError: the disk is full ("disk_full") or cannot be written ("not_writable").
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise SnapshotError(
                f"The disk is full: {shown(str(place))} cannot be written.",
                hint="Free some space, or set JUPYTER_MLOPS_DATA_DIR to a directory with more.",
                code="disk_full",
            ) from error
        raise SnapshotError(
            f"{shown(str(place))} cannot be written: {error.strerror or error}.",
            hint="Set JUPYTER_MLOPS_DATA_DIR to a directory that you may write to.",
            code="not_writable",
        ) from error
