"""What a request knows: the core, and which file on this machine a path of the server's contents is."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotebookError, NotFoundError, UsageError
from ..runs import Runs

if TYPE_CHECKING:
    from jupyter_server.services.contents.manager import ContentsManager


@dataclass
class Context:
    """Shared by all requests of a server.

    Attributes:
        contents: The server's contents manager: it decides which paths there are.
        runs: The core.
    """

    contents: ContentsManager
    runs: Runs = field(default_factory=Runs)

    def file(self, path: str) -> Path:
        """The file of a path in the contents; it need not exist.

        Raises:
            NotFoundError: the path leads out of the server's root, or into something hidden.
            UsageError: the server keeps its contents somewhere else than in files.
        """
        from tornado.web import HTTPError

        to_os_path = getattr(self.contents, "_get_os_path", None)
        if to_os_path is None:
            raise UsageError(
                f"This server keeps its notebooks in {type(self.contents).__name__} and not in files.",
                hint="Send the notebook's content with the request, or save it in a directory of this machine.",
                code="no_files",
            )
        if ":" in path.partition("/")[0]:  # "drive:path": of a drive of the browser, not of this server
            raise _not_here(path)
        try:
            found = Path(to_os_path(path.strip("/")))
        except (HTTPError, ValueError, OSError):
            raise _not_here(path) from None
        if self._is_hidden(found) and not self.contents.allow_hidden:
            raise _not_here(path)
        return found

    def notebook(self, path: str) -> Path:
        """The file of a notebook.

        Raises:
            NotFoundError: there is none.
            NotebookError: it is no notebook.
        """
        file = self.file(path)
        if not file.is_file():
            raise _not_here(path)
        if file.suffix != ".ipynb":
            raise NotebookError(f"{path} is no notebook: its name does not end with .ipynb.")
        return file

    def path(self, file: str) -> str | None:
        """The path in the contents of a file of this machine, or None: it is not among them."""
        root = self._root()
        if root is None:
            return None
        try:
            return Path(file).relative_to(root).as_posix()
        except ValueError:
            return None

    def _root(self) -> Path | None:
        root: Any = getattr(self.contents, "root_dir", None)
        return Path(root).absolute() if isinstance(root, str) and root else None

    def _is_hidden(self, file: Path) -> bool:
        root = self._root()
        if root is None:
            return False
        parts = Path(os.path.relpath(file, root)).parts
        return any(part.startswith(".") for part in parts if part != ".")


def _not_here(path: str) -> NotFoundError:
    return NotFoundError(
        f"There is no notebook {path!r} on this server.", hint="Save it first, or check its path in the file browser."
    )
