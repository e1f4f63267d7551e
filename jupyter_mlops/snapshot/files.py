"""Finds the local files that a notebook needs: declared, imported, run, or named in its code.

Decides what ships and says why; reads sizes and Python sources, writes nothing, and runs nothing.
"""

from __future__ import annotations

import json
import os
import posixpath
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import SnapshotError
from .git import git_top_level
from .modules import holds, module_paths
from .references import references_in
from .tree import FILE_LIMIT, Tree, TreeFile, forbidden_directories, has_wildcard, leaves, normalized, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nbformat import NotebookNode

    from ..config import MLOps
    from .references import PathMention, References

Reason = Literal["notebook", "include", "import", "literal", "extra"]

_SOURCE_LIMIT = 5 * 2**20
"""Bytes of a Python file that is read for what it refers to; larger ones are generated."""

_SHORTEST_WORD = 3
_SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/boot",
    "/var",
)


@dataclass(frozen=True)
class FoundFile:
    """A file that is going to ship.

    Attributes:
        file: Where it is and how large.
        reason: Why it ships.
    """

    file: TreeFile
    reason: Reason


@dataclass(frozen=True)
class FoundFiles:
    """What a notebook needs.

    Attributes:
        root: The directory that all paths are relative to, links resolved.
        notebook: POSIX path of the notebook relative to the root.
        files: Everything but the notebook, by path.
        warnings: Sentences for the person.
    """

    root: Path
    notebook: str
    files: tuple[FoundFile, ...]
    warnings: tuple[str, ...]


def find_root(notebook: Path) -> Path:
    """The directory that a notebook's files are in: its git work tree, else its own; links resolved.

    A home directory or `/` under git (dotfiles) is nobody's project: then it is the notebook's directory.

    Raises:
        SnapshotError: the notebook's directory does not exist.
    """
    directory = notebook.parent.resolve()
    if not directory.is_dir():
        raise SnapshotError(f"The directory of the notebook, {shown(str(directory))}, does not exist.")
    top = git_top_level(directory)
    if top is None or not directory.is_relative_to(top) or top == Path(top.anchor):
        return directory
    try:
        home = Path.home().resolve()
    except RuntimeError:
        return top
    return directory if home.is_relative_to(top) else top


def find_files(
    notebook: Path,
    nb: NotebookNode,
    *,
    config: MLOps,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> FoundFiles:
    """The files that a notebook needs, itself not among them.

    Args:
        notebook: Its file; only its place matters.
        nb: Its content.
        config: Which names hold secrets, and where our own data is.
        include: Globs of files to ship, relative to the notebook's directory or else the root; a directory
            means everything in it.
        exclude: Globs of files not to ship; one without a slash is meant at any depth.

    Raises:
        SnapshotError: an include matches nothing, or there are too many files.
    """
    root = find_root(notebook)
    home = notebook.parent.resolve().relative_to(root).as_posix()
    home = "" if home == "." else home
    tree = Tree(root, home, forbidden_directories(config.data_path), tuple(config.snapshot_exclude), tuple(exclude))
    search = _Search(tree, home, normalized(home, notebook.name))
    for glob in include:
        search.include(glob)
    search.notebook(nb)
    found = search.found
    if len(found) > FILE_LIMIT:
        raise SnapshotError(
            f"The notebook needs {len(found):,} files; a snapshot holds at most {FILE_LIMIT:,}.",
            hint="Leave some out with --exclude, pack them into one file, or read them by an fsspec URL.",
            code="too_many_files",
        )
    files = tuple(found[path] for path in sorted(found))
    return FoundFiles(root, search.own_path, files, tuple(_warnings(tree, search, exclude)))


class _Search:
    def __init__(self, tree: Tree, home: str, own_path: str) -> None:
        self.tree = tree
        self.home = home
        self.own_path = own_path
        self.found: dict[str, FoundFile] = {}
        self.absolute: dict[str, None] = {}
        self.notes: list[str] = []
        self.unreadable_cells: list[int] = []
        self.roots = list(dict.fromkeys((home, "", normalized(home, "src"), "src")))
        self.read: set[str] = set()
        self.waiting: list[str] = []

    def include(self, glob: str) -> None:
        if not glob or "\0" in glob:
            raise SnapshotError(f"--include {shown(glob)!r} is no path.", hint="Write it relative to the notebook.")
        tree = self.tree
        before = len(self.found)
        bases = (self.home, "")
        text = glob
        if Path(glob).is_absolute():
            absolute = Path(os.path.normpath(glob))
            if not absolute.is_relative_to(tree.root):
                raise _outside(glob, tree.root)
            text, bases = absolute.relative_to(tree.root).as_posix(), ("", "")
        candidates = list(dict.fromkeys(normalized(base, text) for base in bases))
        matched = False
        for pattern in candidates:
            if leaves(pattern):
                continue
            literal = bool(tree.kind(pattern))
            for path in [pattern] if literal else tree.expand(pattern) if has_wildcard(pattern) else []:
                # "*" is no request for a private key; its name, or the very glob of the setting, is.
                named = (literal and tree.kind(path) == "file") or posixpath.basename(pattern) in tree.secret_names
                for file in tree.files(path, secrets=named):
                    matched = True
                    self._add(file, "include")
            if matched:
                break
        if matched:
            return
        if all(leaves(pattern) for pattern in candidates) or candidates[0] in tree.outside:
            raise _outside(glob, tree.root)
        if len(self.found) == before:
            raise SnapshotError(
                f"--include {shown(glob)!r} matches no file that can ship.",
                hint=f"It is looked for beside the notebook and in {shown(str(tree.root))}; links out "
                "of it, repositories, caches and virtual environments never ship, and what looks like a "
                "secret only when it is named in full.",
                code="include_matches_nothing",
            )

    def notebook(self, nb: NotebookNode) -> None:
        language = _language(nb)
        if language != "python":
            self.notes.append(
                f"The notebook is written in {shown(language, 40)}: files that it uses are not found by "
                "themselves, name them with --include."
            )
        else:
            cells = [(index, str(cell.source)) for index, cell in enumerate(nb.cells) if cell.cell_type == "code"]
            references = references_in([source for _, source in cells])
            self.unreadable_cells = [cells[index][0] + 1 for index in references.unreadable]
            self._follow(references, self.home)
        # Files that were asked for are part of the code as well when they are Python.
        self.waiting += [path for path, file in self.found.items() if file.reason == "include"]
        while self.waiting:
            self._read(self.waiting.pop())

    def _add(self, file: TreeFile, reason: Reason) -> None:
        if file.path != self.own_path:
            self.found.setdefault(file.path, FoundFile(file, reason))

    def _read(self, path: str) -> None:
        """Look into a file of Python that ships for what it refers to."""
        if path in self.read or not path.endswith((".py", ".ipynb")):
            return
        self.read.add(path)
        entry = self.found.get(path)
        if entry is None or entry.file.size > _SOURCE_LIMIT:
            return
        try:
            text = entry.file.source.read_bytes().decode("utf-8", "replace")
        except OSError:
            self.tree.unreadable[path] = None
            return
        directory = posixpath.dirname(path)
        if path.endswith(".ipynb"):
            self._follow(references_in(_code_of(text)), directory)
            return
        references = references_in([text.removeprefix("\ufeff")], file_name=posixpath.basename(path))
        if references.unreadable:
            self.notes.append(f"{shown(path)} is no Python that can be read; the files that it uses are not found.")
        self._follow(references, directory)

    def _follow(self, references: References, directory: str) -> None:
        for text in references.search:
            added = normalized(self.home, text)
            if not Path(text).is_absolute() and not leaves(added) and self.tree.kind(added) == "directory":
                self.roots += [added] if added not in self.roots else []
        for target in references.runs:
            self._run(target, directory)
        for mention in references.modules:
            for path in module_paths(self.tree, mention, directory=directory, roots=self.roots, home=self.home):
                self._take(path, "import")
        for path_mention in references.paths:
            self._path(path_mention, directory)

    def _run(self, target: str, directory: str) -> None:
        for suffix in ("", ".py", ".ipynb"):
            for base in dict.fromkeys((self.home, directory, *self.roots)):
                path = normalized(base, target + suffix)
                if not Path(target).is_absolute() and self.tree.kind(path) == "file":
                    self._take(path, "import")
                    return

    def _take(self, path: str, reason: Reason, *, follow: bool = True) -> None:
        package = reason == "import" and self.tree.kind(path) == "directory"
        for file in self.tree.files(path, suffix=".py" if package else ""):
            self._add(file, reason)
            if follow:
                self.waiting.append(file.path)

    def _path(self, mention: PathMention, directory: str) -> None:
        text = mention.text
        if text.startswith("~"):
            text = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises for an unknown user
        if Path(text).is_absolute():
            self._absolute(text)
            return
        pattern = mention.pattern or (has_wildcard(text) and _is_careful_glob(text))
        for base in dict.fromkeys((self.home, directory, "")):
            path = normalized(base, text)
            if leaves(path):
                if self._exists_outside(path):
                    self.tree.outside[text] = None
                continue
            if not mention.pattern and self._take_named(path, mention):
                return
            if pattern and (matched := self.tree.expand(path)):
                for each in matched:
                    self._take(each, "literal", follow=False)
                return

    def _take_named(self, path: str, mention: PathMention) -> bool:
        """Ship what a text names, if it names something and is meant as a path."""
        kind = self.tree.kind(path)
        if not kind or (kind == "directory" and holds(path, self.home)):
            return False
        word = "/" not in mention.text and "." not in mention.text
        if word and (len(mention.text) < _SHORTEST_WORD or (kind == "directory" and not mention.as_path)):
            # df["images"] is a column, ImageFolder("images") is a directory.
            return False
        self._take(path, "literal", follow=kind == "file")
        return True

    def _exists_outside(self, path: str) -> bool:
        place = Path(os.path.normpath(self.tree.root / path))
        # "..": the code looks around; "../data/x.csv": it needs a file.
        return not self.tree.root.is_relative_to(place) and _exists(place)

    def _absolute(self, text: str) -> None:
        place = Path(os.path.normpath(text))
        prefixes = (*_SYSTEM, sys.prefix, sys.base_prefix)
        if any(place.is_relative_to(prefix) for prefix in prefixes) or not _exists(place):
            return
        if not self.tree.root.is_relative_to(place):
            self.absolute[text] = None


def _warnings(tree: Tree, search: _Search, exclude: Sequence[str]) -> Iterable[str]:
    if search.unreadable_cells:
        cells = _listed([str(number) for number in search.unreadable_cells])
        noun = "Cell" if len(search.unreadable_cells) == 1 else "Cells"
        yield (
            f"{noun} {cells}: no Python that can be read, so files used there are not found; name them with --include."
        )
    yield from search.notes[:10]
    if tree.outside:
        yield (
            f"Not shipped, it lies outside {shown(tree.root.name)}: {_listed(tree.outside)}. "
            "Copy it into the project, or read it by an fsspec URL."
        )
    if search.absolute:
        yield (
            f"Not shipped, the notebook names it by an absolute path: {_listed(search.absolute)}. "
            "The run works only where that path exists; write it relative to the notebook to ship it."
        )
    secrets = [path for path in tree.secrets if path not in search.found]
    if secrets:
        yield (
            f"Not shipped, the name says that it holds a secret: {_listed(secrets)}. "
            "To ship it: --include NAME, in full."
        )
    if tree.unreadable:
        yield f"Not shipped, it cannot be read or its name is no text: {_listed(tree.unreadable)}."
    unused = [glob for glob in exclude if glob not in tree.used_excludes]
    if unused:
        yield f"--exclude {_listed(unused)} left nothing out."


def _listed(names: Iterable[str], limit: int = 5) -> str:
    every = list(names)
    text = ", ".join(shown(name) for name in every[:limit])
    return f"{text} and {len(every) - limit} more" if len(every) > limit else text


def _outside(glob: str, root: Path) -> SnapshotError:
    return SnapshotError(
        f"--include {shown(glob)!r} lies outside {shown(str(root))}, and only files below it ship.",
        hint="Copy the file into the project, or read it by an fsspec URL.",
        code="include_outside",
    )


def _language(nb: NotebookNode) -> str:
    metadata = nb.get("metadata", {})
    for section, key in (("kernelspec", "language"), ("language_info", "name")):
        value = metadata.get(section, {}).get(key)
        if isinstance(value, str) and value:
            return value.lower().replace("ipython", "python").rstrip("3") or value
    return "python"


def _code_of(text: str) -> list[str]:
    """The code cells of another notebook; none when it is not one."""
    try:
        cells = json.loads(text)["cells"]
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return ["".join(source) for source in sources]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []


def _is_careful_glob(text: str) -> bool:
    # "*" or "[a-z]+" in a notebook is rarely a request for the whole project.
    if "\n" in text or "**" in text.split("/", maxsplit=1)[0]:
        return False
    first, _, rest = text.partition("/")
    if rest and not has_wildcard(first) and first not in ("", "."):
        return True
    stem, dot, extension = text.rpartition(".")
    return bool(dot) and extension.isalnum() and not has_wildcard(extension) and "[" not in stem


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):
        return False
