"""Snapshots: a notebook, the files it needs, its locked environment and its git state, by content.

`build_snapshot` decides what ships and writes nothing, `describe` shows it, `SnapshotStore` keeps it. The
names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .build import build_snapshot, describe
    from .bundle import SnapshotStore
    from .environment import Environment
    from .git import GitState
    from .model import Snapshot, SnapshotFile

__all__ = [
    "Environment",
    "GitState",
    "Snapshot",
    "SnapshotFile",
    "SnapshotStore",
    "build_snapshot",
    "describe",
]

_HOMES = {
    "Environment": ".environment",
    "GitState": ".git",
    "Snapshot": ".model",
    "SnapshotFile": ".model",
    "SnapshotStore": ".bundle",
    "build_snapshot": ".build",
    "describe": ".build",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
