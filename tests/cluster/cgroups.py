"""The control group under which the node's pods are: made before the kubelet starts, removed after all of them ended."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import ClusterError

if TYPE_CHECKING:
    from .places import Place

_ROOT = Path("/sys/fs/cgroup")
_PATIENCE = 30.0


def create(place: Place) -> None:
    """Make the group in every hierarchy of version 1, or in the one of version 2.

    Raises:
        ClusterError: If this machine's control groups cannot be written.
    """
    try:
        for hierarchy in _hierarchies():
            group = hierarchy / place.cgroup
            group.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):
                # In version 1 an empty set of processors admits no process.
                if (group / name).exists() and hierarchy != _ROOT:
                    (group / name).write_text((hierarchy / name).read_text())
    except OSError as error:
        raise ClusterError(f"cannot make a control group: {error}. A container must be privileged for this") from error


def remove(place: Place) -> None:
    """Remove the group with all groups in it.

    Raises:
        ClusterError: If something in it does not end.
    """
    until = time.monotonic() + _PATIENCE
    while left := [group for hierarchy in (_ROOT, *_hierarchies()) if (group := hierarchy / place.cgroup).is_dir()]:
        for group in left:
            # Children first. A group whose last process has just ended may refuse for a moment.
            for inner, _, _ in os.walk(group, topdown=False):
                with suppress(OSError):
                    Path(inner).rmdir()
        if time.monotonic() > until:
            raise ClusterError(f"these control groups cannot be removed: {', '.join(map(str, left))}")
        time.sleep(0.02)


def _hierarchies() -> list[Path]:
    if (_ROOT / "cgroup.controllers").exists():
        return [_ROOT]
    # Some hierarchies have two names, one a link.
    return [path for path in _ROOT.iterdir() if (path / "cgroup.procs").exists() and not path.is_symlink()]
