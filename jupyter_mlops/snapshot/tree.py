"""What below a project's root may ship: looks names up, expands globs, walks directories, never leaves it.

Knows no notebook and no Python code. A link is followed only to what is inside the root and may ship itself.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SnapshotError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FILE_LIMIT = 10_000
"""Files that one snapshot may have."""

_LOOK_LIMIT = 500_000
"""Directory entries that are looked at for one snapshot."""

_DEEPEST = 100
"""Directories in one another that are followed."""

NEVER = frozenset(
    {".git", ".hg", ".svn", ".bzr", "CVS", "__pycache__", ".ipynb_checkpoints", ".venv", "node_modules",
     ".tox", ".nox", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "site-packages"}
)  # fmt: skip
"""Names of directories whose content never ships: other programs' own state, which they can make again."""

SECRET_DIRECTORIES = (".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker")


@dataclass(frozen=True)
class TreeFile:
    """A regular file that may ship.

    Attributes:
        path: POSIX path relative to the root, as it was reached.
        source: Where its bytes are, links resolved.
        size: Bytes.
        executable: Whether its owner may execute it.
    """

    path: str
    source: Path
    size: int
    executable: bool


@dataclass
class Tree:
    """The files below a root.

    Attributes:
        root: The directory, links resolved.
        home: POSIX path of the notebook's directory relative to the root; "" when they are the same.
        forbidden: Directories, links resolved, of which nothing ships.
        secret_names: Globs of names that ship only when they are asked for.
        excluded: What the user wants left out, relative to the notebook's directory or the root.
        outside: Paths that were met and lead out of the root.
        secrets: Paths that were met and left out for their names.
        unreadable: Paths that were met and could not be read.
    """

    root: Path
    home: str = ""
    forbidden: tuple[Path, ...] = ()
    secret_names: Sequence[str] = ()
    excluded: Sequence[str] = ()
    outside: dict[str, None] = field(default_factory=dict)
    secrets: dict[str, None] = field(default_factory=dict)
    unreadable: dict[str, None] = field(default_factory=dict)
    used_excludes: set[str] = field(default_factory=set)
    _looked: int = 0
    _environments: dict[Path, bool] = field(default_factory=dict)
    _exclusions: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        secret = [*self.secret_names, *SECRET_DIRECTORIES]
        self._secret = re.compile("|".join(fnmatch.translate(name.casefold()) for name in secret))
        for glob in self.excluded:
            plain = glob.removeprefix("./").rstrip("/")
            if "/" not in plain:
                # As in .gitignore: a name alone is meant at any depth.
                self._exclusions.append((glob, ("**", plain)))
                continue
            for base in {self.home, ""}:
                self._exclusions.append((glob, tuple(normalized(base, plain).split("/"))))

    def is_secret(self, path: str) -> bool:
        """Whether a part of the path looks like a secret's name."""
        return any(self._secret.match(part.casefold()) for part in path.split("/"))

    def is_excluded(self, path: str) -> bool:
        """Whether the user wants the path, or a directory that it is in, left out."""
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            for glob, pattern in self._exclusions:
                if matches(pattern, parts[:end]):
                    self.used_excludes.add(glob)
                    return True
        return False

    def kind(self, path: str) -> str:
        """What is at the path: "file", "directory" or "" for nothing that could ship."""
        if leaves(path):
            return ""
        try:
            mode = (self.root / path).stat().st_mode
        except (OSError, ValueError):
            return ""
        return "file" if stat.S_ISREG(mode) else "directory" if stat.S_ISDIR(mode) else ""

    def files(self, path: str, *, secrets: bool = False, suffix: str = "") -> Iterator[TreeFile]:
        """The file at the path, or every file below the directory at it, in the order of their names.

        Args:
            path: Relative to the root, normalised.
            secrets: Take names that look like a secret's as well.
            suffix: Only files whose name ends like this.

        Raises:
            SnapshotError: there are too many.
        """
        for count, found in enumerate(self._walk(path, secrets, suffix, ()), 1):
            if count > FILE_LIMIT:
                raise too_many_files(path)
            yield found

    def _walk(  # noqa: PLR0911 - one per reason not to ship
        self, path: str, secrets: bool, suffix: str, above: tuple[Path, ...]
    ) -> Iterator[TreeFile]:
        if path and self.is_excluded(path):
            return
        if len(above) > _DEEPEST:
            self.unreadable[path] = None
            return
        try:
            real = (self.root / path).resolve(strict=True)
            status = real.stat()
        except (OSError, RuntimeError, ValueError):  # gone, not permitted, or links in a circle
            return
        if suffix and not path.endswith(suffix) and not stat.S_ISDIR(status.st_mode):
            return
        inside = _relative(real, self.root)
        if inside is None:
            self.outside[path] = None
            return
        if self._never(path) or self._never(inside):
            return
        # A link with a harmless name may lead to a secret.
        if not secrets and (self.is_secret(path) or self.is_secret(inside)):
            self.secrets[path] = None
            return
        if stat.S_ISREG(status.st_mode):
            yield TreeFile(path, real, status.st_size, os.name == "posix" and bool(status.st_mode & stat.S_IXUSR))
        elif stat.S_ISDIR(status.st_mode) and real not in above:
            for name in self._names(path):
                yield from self._walk(f"{path}/{name}" if path else name, secrets, suffix, (*above, real))

    def expand(self, pattern: str) -> list[str]:
        """The paths that a glob means: `*`, `?`, `[…]` within a name, `**` for any depth.

        As in a shell, a wildcard at a name's start does not mean hidden files, and `**` follows no links.

        Args:
            pattern: Relative to the root, normalised.
        """
        parts: list[str] = []
        for part in pattern.split("/"):
            if part != "**" or parts[-1:] != ["**"]:
                parts.append(part)
        found: dict[str, None] = {}
        done: set[tuple[str, int]] = set()
        waiting = [("", 0)]
        while waiting:
            base, index = waiting.pop()
            if (base, index) in done:
                continue
            done.add((base, index))
            if index == len(parts):
                if base:
                    found[base] = None
                continue
            if parts[index] == "**":
                waiting.append((base, index + 1))
                waiting += [(sub, index) for sub in self._subdirectories(base)]
            else:
                waiting += [(path, index + 1) for path in self._matching(base, parts[index])]
        return sorted(found)

    def _matching(self, base: str, part: str) -> Iterator[str]:
        if not has_wildcard(part):
            path = f"{base}/{part}" if base else part
            if os.path.lexists(self.root / path):
                yield path
            return
        expression = re.compile(fnmatch.translate(part))
        for name in self._names(base):
            if expression.match(name) and (part.startswith(".") or not name.startswith(".")):
                yield f"{base}/{name}" if base else name

    def _subdirectories(self, base: str) -> Iterator[str]:
        for name in self._names(base):
            path = f"{base}/{name}" if base else name
            place = self.root / path
            if not name.startswith(".") and place.is_dir() and not place.is_symlink() and not self._never(path):
                yield path

    def _names(self, path: str) -> list[str]:
        place = self.root / path
        if path and (_relative(place.resolve(), self.root) is None or not place.is_dir()):
            return []
        try:
            names = sorted(os.listdir(place))  # noqa: PTH208 - names only: a Path for each costs
        except OSError:
            self.unreadable[path or "."] = None
            return []
        self._looked += len(names)
        if self._looked > _LOOK_LIMIT:
            raise too_many_files(path)
        readable = [name for name in names if _is_text(name)]
        for name in set(names) - set(readable):
            self.unreadable[os.fsencode(f"{path}/{name}").decode("utf-8", "backslashreplace").lstrip("/")] = None
        return readable

    def _never(self, path: str) -> bool:
        if not path:
            return False
        parts = path.split("/")
        if NEVER.intersection(parts):
            return True
        place = self.root
        for part in parts:
            place /= part
            if self._forbidden(place):
                return True
        return False

    def _forbidden(self, place: Path) -> bool:
        known = self._environments.get(place)
        if known is None:
            known = place in self.forbidden or (place / "pyvenv.cfg").exists() or (place / "conda-meta").is_dir()
            self._environments[place] = known
        return known


def too_many_files(path: str) -> SnapshotError:
    """The refusal of a directory with more files than a snapshot may have."""
    return SnapshotError(
        f"There are more than {FILE_LIMIT:,} files under {shown(path) or 'the project'}, too many to ship.",
        hint="Leave them out with --exclude, pack them into one file, or read them from a shared place by an "
        "fsspec URL such as s3://bucket/path.",
        code="too_many_files",
    )


def normalized(base: str, path: str) -> str:
    """The path from a base, both relative to the root, without `.` and `..`; "" is the root itself."""
    joined = os.path.normpath(f"{base}/{path}" if base else path)
    if os.sep == "\\":
        joined = joined.replace("\\", "/")
    return "" if joined == "." else joined


def leaves(path: str) -> bool:
    """Whether a normalised path leads out of the root."""
    return path == ".." or path.startswith("../") or Path(path).is_absolute()


def has_wildcard(text: str) -> bool:
    """Whether a glob means more than one name."""
    return any(sign in text for sign in "*?[")


def matches(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether a path matches a glob, both split at the slashes; `**` is any depth, hidden names match too."""
    # The ends of the pattern that fit what was read so far; a plain recursion would be exponential in `**`.
    reached = {0}
    for part in (*parts, None):
        waiting = list(reached)
        while waiting:
            index = waiting.pop()
            if index < len(pattern) and pattern[index] == "**" and index + 1 not in reached:
                reached.add(index + 1)
                waiting.append(index + 1)
        if part is None:
            break
        reached = {
            index if pattern[index] == "**" else index + 1
            for index in reached
            if index < len(pattern) and (pattern[index] == "**" or fnmatch.fnmatchcase(part, pattern[index]))
        }
    return len(pattern) in reached


def shown(text: str, limit: int = 200) -> str:
    """A name as a person may see it: on one line, without control and direction characters."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return safe if len(safe) <= limit else f"{safe[: limit - 1]}…"


def forbidden_directories(data_path: Path) -> tuple[Path, ...]:
    """Our own data, and the environment that we run in."""
    return tuple({path.resolve() for path in (data_path, Path(sys.prefix))})


def _relative(real: Path, root: Path) -> str | None:
    try:
        text = real.relative_to(root).as_posix()
    except ValueError:
        return None
    return "" if text == "." else text


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
