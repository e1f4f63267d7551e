"""Packages that are in no index: where their directory is on this machine, and a wheel of each.

A lock cannot name them, so an image gets what their directory makes now. Runs the machine's pip or uv.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..errors import ImageError, UsageError
from ..snapshot.environment import normalized_name
from .versions import PRODUCT

if TYPE_CHECKING:
    from ..snapshot.environment import Distribution

_TAIL = 15
_WHEEL = re.compile(
    r"([A-Za-z0-9._]+)-([A-Za-z0-9.!+_]+)(-[A-Za-z0-9_]+)?-[A-Za-z0-9._]+-[A-Za-z0-9._]+-([A-Za-z0-9._]+)\.whl"
)


@dataclass(frozen=True)
class Project:
    """A package that is in no index.

    Attributes:
        name: Normalised.
        version: As the environment has it.
        path: Its directory, or the wheel or source archive that it was installed from.
    """

    name: str
    version: str
    path: Path


@dataclass(frozen=True)
class Wheel:
    """A wheel of a project.

    Attributes:
        name: The project's, normalised.
        version: As the wheel has it.
        path: The file.
    """

    name: str
    version: str
    path: Path


def find_projects(distributions: Iterable[Distribution]) -> tuple[Project, ...]:
    """Where these packages come from, as this interpreter has them installed.

    Raises:
        UsageError: one is not installed here, or its directory is gone.
    """
    return tuple(_find(dist) for dist in distributions)


def source_path(direct_url: str | None, place: Path) -> Path | None:
    """The directory or archive that an installed package was made from; None when that is not on this machine.

    Args:
        direct_url: The text of its direct_url.json (PEP 610), or None.
        place: The directory that its metadata is in.
    """
    if direct_url is None:
        # A source tree on the path, or one of `setup.py develop`.
        is_tree = (place / "pyproject.toml").is_file() or (place / "setup.py").is_file()
        return place if is_tree else None
    try:
        url = urlsplit(str(json.loads(direct_url)["url"]))
    except (ValueError, KeyError, TypeError):
        return None
    if url.scheme != "file" or url.netloc not in ("", "localhost"):
        return None
    path = Path(url2pathname(url.path))
    if not path.is_absolute():
        return None
    is_project = path.is_dir() and ((path / "pyproject.toml").is_file() or (path / "setup.py").is_file())
    return path if is_project or path.is_file() else None


def make_wheels(projects: Iterable[Project], directory: Path, say: Callable[[str], object]) -> tuple[Wheel, ...]:
    """A wheel of each project.

    Args:
        projects: What `find_projects` found.
        directory: An empty directory for the wheels.
        say: Called with what the person should know.

    Raises:
        ImageError: a wheel cannot be made; with the end of what was printed.
    """
    found = []
    for project in projects:
        target = directory / project.name
        target.mkdir(parents=True)
        if project.path.suffix == ".whl":
            shutil.copy(project.path, target)
        else:
            _run(project, target)
        wheel = _wheel_in(target, project)
        if wheel.version != _escaped(project.version):
            say(f"{project.name} is {project.version} in the environment and {wheel.version} in {project.path} now.")
        found.append(wheel)
    return tuple(found)


def _find(dist: Distribution) -> Project:
    try:
        installed = metadata.distribution(dist.name)
    except metadata.PackageNotFoundError:
        raise _not_here(dist, "it is not installed in this environment") from None
    path = source_path(installed.read_text("direct_url.json"), Path(str(installed.locate_file(""))))
    if path is None:
        raise _not_here(dist, "its directory is not there any more")
    return Project(dist.name, dist.version, path)


def _not_here(dist: Distribution, why: str) -> UsageError:
    return UsageError(
        f"The package {dist.name} {dist.version} was installed from a local directory and cannot be put into the "
        f"image: {why}.",
        hint=f"Install it again from its directory or from an index{_or_without(dist.name)}.",
        code="image",
    )


def _or_without(name: str) -> str:
    # Every image needs the product.
    return "" if name == PRODUCT else f", or leave it out: --without {name}"


def _run(project: Project, target: Path) -> None:
    output = ""
    commands = _commands(project.path, target)
    if not commands:
        raise ImageError(
            f"No wheel of {project.name} can be made: neither pip nor uv is here.",
            hint=f"Install one, for example with python -m ensurepip{_or_without(project.name)}.",
        )
    for command in commands:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                errors="replace", check=False,
            )  # fmt: skip
        except OSError as error:
            output = str(error)
            continue
        if done.returncode == 0:
            return
        output = "\n".join(done.stdout.splitlines()[-_TAIL:])
    raise ImageError(
        f"No wheel of {project.name} could be made from {project.path}:\n{output}",
        hint=f"Repair the project{_or_without(project.name)}.",
    )


def _commands(source: Path, target: Path) -> Sequence[list[str]]:
    """The quicker one first; where it does not reach the index, the other may."""
    found = []
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv:
        found.append([uv, "build", "--quiet", "--wheel", "--out-dir", str(target), "--", str(source)])
    if importlib.util.find_spec("pip") is not None:
        found.append(
            [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps",
             f"--wheel-dir={target}", "--", str(source)]
        )  # fmt: skip
    return found


def _wheel_in(directory: Path, project: Project) -> Wheel:
    for path in directory.glob("*.whl"):
        parts = _WHEEL.fullmatch(path.name)
        if parts is None or normalized_name(parts[1]) != project.name:
            continue
        if parts[4] != "any" and not sys.platform.startswith("linux"):
            raise ImageError(
                f"The wheel of {project.name} made here is for {parts[4]} and not for Linux.",
                hint=f"Build the image on Linux{_or_without(project.name)}.",
            )
        return Wheel(project.name, parts[2], path)
    raise ImageError(f"No wheel of {project.name} came out of {project.path}.")


def _escaped(version: str) -> str:
    # As wheels write it in their names.
    return version.replace("-", "_")
