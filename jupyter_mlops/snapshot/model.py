"""`Snapshot`: an immutable, content-addressed bundle of a notebook, files, environment and git state.

Same content, same id: on any machine, in any directory, at any time. Knows no disk layout and no discovery.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from .environment import Environment
from .git import GitState

if TYPE_CHECKING:
    from collections.abc import Iterable

Reason = Literal["notebook", "include", "import", "literal", "extra"]
Digest = Field(pattern=r"^[0-9a-f]{64}$")

_LONGEST_PATH = 4096


class SnapshotFile(BaseModel):
    """A file of a snapshot.

    Attributes:
        path: POSIX path relative to the root of the bundle; never leads out of it.
        size: Bytes.
        sha256: Of its content, in hexadecimal.
        executable: Whether its owner may execute it.
        reason: Why it ships: it is the notebook, was asked for ("include"), is imported or run ("import"), is
            named in the code ("literal"), or was handed over by the caller ("extra").
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size: int = Field(ge=0)
    sha256: str = Digest
    executable: bool = False
    reason: Reason

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        problem = path_problem(path)
        if problem:
            raise ValueError(problem)
        return path


class Snapshot(BaseModel):
    """What a run needs, by content.

    Attributes:
        id: SHA-256 of the content in hexadecimal. Not part of it: `warnings`, why a file ships, how many
            files git does not know, and whether outputs of the notebook make the work tree dirty.
        notebook: POSIX path of the notebook relative to the root of the bundle.
        files: All files, the notebook among them, by path.
        environment: The interpreter and the packages.
        git: The git state of the root, or None outside a work tree.
        seed: Seed of the random generators.
        warnings: Sentences for the person: what does not ship and what cannot be repeated elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    id: str = Digest
    notebook: str
    files: tuple[SnapshotFile, ...]
    environment: Environment
    git: GitState | None = None
    seed: int = Field(default=0, ge=0, lt=2**32)
    warnings: tuple[str, ...] = ()

    # Where the bytes are until they are saved; a snapshot that was loaded has none.
    _sources: dict[str, Path | bytes] = PrivateAttr(default_factory=dict)
    _diff: bytes | None = PrivateAttr(default=None)

    @classmethod
    def of(
        cls,
        *,
        notebook: str,
        files: Iterable[SnapshotFile],
        environment: Environment,
        git: GitState | None,
        seed: int,
        warnings: Iterable[str] = (),
        sources: dict[str, Path | bytes] | None = None,
        diff: bytes | None = None,
    ) -> Snapshot:
        """A snapshot with the id that its content has.

        Args:
            notebook: See the attributes.
            files: In any order.
            environment: See the attributes.
            git: See the attributes.
            seed: See the attributes.
            warnings: See the attributes.
            sources: The bytes of each path, or the file that holds them.
            diff: The bytes of the git diff.

        Raises:
            ValueError: a path leads out of the bundle, or two of them cannot be beside each other.
        """
        ordered = tuple(sorted(files, key=lambda file: file.path))
        digest = _content_id(notebook, ordered, environment, git, seed)
        snapshot = cls(
            id=digest, notebook=notebook, files=ordered, environment=environment, git=git, seed=seed,
            warnings=tuple(warnings),
        )  # fmt: skip
        snapshot._sources.update(sources or {})
        snapshot._diff = diff
        return snapshot

    @property
    def short_id(self) -> str:
        """The first 12 digits, for people."""
        return self.id[:12]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def __eq__(self, other: object) -> bool:
        # Without the private attributes: a snapshot that was saved and loaded is the same.
        return isinstance(other, Snapshot) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(self.id)

    @model_validator(mode="after")
    def _is_what_its_id_says(self) -> Snapshot:
        paths = [file.path for file in self.files]
        known = set(paths)
        if len(known) != len(paths):
            raise ValueError("a path is there twice")
        for path in paths:
            above, _, _ = path.rpartition("/")
            while above:
                if above in known:
                    raise ValueError(f"{above!r} is both a file and a directory")
                above, _, _ = above.rpartition("/")
        if [file.path for file in self.files if file.reason == "notebook"] != [self.notebook]:
            raise ValueError("the notebook is not among the files")
        if self.id != _content_id(self.notebook, self.files, self.environment, self.git, self.seed):
            raise ValueError("the content does not have the id")
        return self


def path_problem(path: str) -> str:
    """Why a path cannot be part of a bundle; empty when it can."""
    if not path or len(path) > _LONGEST_PATH:
        return "a path is empty or too long"
    if "\0" in path or not _is_utf8(path):
        return "a path is no text"
    if path.startswith("/") or re.match(r"^[A-Za-z]:[\\/]", path):
        return f"the path {path!r} is absolute"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return f"the path {path!r} does not stay inside"
    return ""


def _content_id(
    notebook: str, files: Iterable[SnapshotFile], environment: Environment, git: GitState | None, seed: int
) -> str:
    content = {
        "format": 1,
        "notebook": notebook,
        "files": [[f.path, f.size, f.sha256, f.executable] for f in sorted(files, key=lambda file: file.path)],
        "environment": environment.model_dump(mode="json"),
        "git": git.model_dump(mode="json", exclude={"untracked", "dirty"}) if git else None,
        "seed": seed,
    }
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
