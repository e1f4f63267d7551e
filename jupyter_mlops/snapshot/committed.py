"""Whether what ships is what a commit holds. Looks at git and the snapshot, and changes neither."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .git import file_in_head, files_not_in_head

if TYPE_CHECKING:
    from .model import Snapshot


def uncommitted(snapshot: Snapshot, notebook: Path) -> tuple[str, ...] | None:
    """The files of a snapshot that the commit at HEAD does not hold as they ship, by path.

    The notebook's outputs do not count: they do not ship, and executing the notebook changes them.

    Args:
        snapshot: As `build_snapshot` made it.
        notebook: The notebook's file.

    Returns:
        None when git does not tell.
    """
    root = notebook.absolute().parents[snapshot.notebook.count("/")]
    shipped = {file.path for file in snapshot.files if file.reason != "extra"}
    found = files_not_in_head(root)
    if found is None:
        return None
    tracked, changed = found
    missing = {path for path in shipped if path not in tracked or path in changed}
    if snapshot.notebook in missing and snapshot.notebook in tracked:
        data = file_in_head(root, snapshot.notebook)
        if data is not None and _source_of(data, notebook) == snapshot._sources.get(snapshot.notebook):
            missing.discard(snapshot.notebook)
    return tuple(sorted(missing))


def _source_of(data: bytes, notebook: Path) -> bytes | None:
    from ..errors import NotebookError
    from ..notebook.document import check_notebook, parse_notebook, strip_outputs
    from .build import notebook_bytes

    try:
        return notebook_bytes(strip_outputs(check_notebook(parse_notebook(data, notebook), notebook)))
    except NotebookError:
        return None
