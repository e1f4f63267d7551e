"""Where an import leads: to a module or package below a project's root, or to none of its files.

Follows Python's own order as far as a look at the disk tells it; imports nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .tree import Tree, leaves, normalized

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .references import ModuleMention


def module_paths(
    tree: Tree, mention: ModuleMention, *, directory: str, roots: Iterable[str], home: str
) -> Iterator[str]:
    """The files, or directories of whole packages, that an import needs. Every path is relative to the root.

    Args:
        tree: The project.
        mention: The import.
        directory: Of the file that imports.
        roots: What `sys.path` has of the project, in its order.
        home: The notebook's directory.
    """
    parts = [part for part in mention.module.split(".") if part]
    if not all(part.isidentifier() for part in parts):
        return
    if mention.level:
        base = normalized(directory, "../" * (mention.level - 1) or ".")
        if not leaves(base):
            yield from _relative(tree, base, parts, mention.names)
        return
    for base in dict.fromkeys((*roots, directory)) if parts else ():
        top = normalized(base, parts[0])
        if tree.kind(f"{top}/__init__.py") == "file":
            yield top
            return
        if tree.kind(f"{top}.py") == "file":
            yield f"{top}.py"
            return
        if not holds(top, home) and _is_namespace(tree, top, parts, mention.names):
            yield top
            return


def holds(path: str, home: str) -> bool:
    """Whether a directory is the notebook's, or one above it: code that names it means no data."""
    return path in ("", home) or home.startswith(f"{path}/")


def _relative(tree: Tree, base: str, parts: Sequence[str], names: Iterable[str]) -> Iterator[str]:
    target = normalized(base, "/".join(parts) or ".")
    inner = [normalized(target, name) for name in names if name.isidentifier()]
    for path in (target, *inner):
        if path and tree.kind(f"{path}.py") == "file":
            yield f"{path}.py"
        if path and tree.kind(f"{path}/__init__.py") == "file":
            yield path


def _is_namespace(tree: Tree, top: str, parts: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a directory without `__init__.py` is what Python would import."""
    if tree.kind(top) != "directory" or _is_installed(parts[0]):
        return False
    target = normalized(top, "/".join(parts[1:])) if len(parts) > 1 else top
    candidates = [*([target] if len(parts) > 1 else []), *(f"{target}/{name}" for name in names)]
    return any(tree.kind(f"{path}.py") == "file" or tree.kind(f"{path}/__init__.py") == "file" for path in candidates)


def _is_installed(name: str) -> bool:
    """Whether a regular package of that name is installed: it wins over a directory without `__init__.py`."""
    if name in sys.stdlib_module_names:
        return True
    from importlib.machinery import PathFinder

    installed = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    spec = PathFinder.find_spec(name, installed)
    return spec is not None and spec.origin is not None
