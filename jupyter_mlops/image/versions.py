"""Which versions a client and an image have, and which differences between them matter.

Standard library only, because the entry point of a pod asks it before anything else is imported. Knows no image and no
builder.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata

PYTHON = "python"
PRODUCT = "jupyter-mlops"


@dataclass(frozen=True)
class Mismatch:
    """A difference that matters.

    Attributes:
        package: Its name; "python" for the interpreter.
        client: The version of who sends the run.
        image: The version inside the image; empty when it has none.
        severe: Whether a run cannot be trusted with it; otherwise the person is to know and may go on.
        message: One sentence.
        hint: What to do about it.
    """

    package: str
    client: str
    image: str
    severe: bool
    message: str
    hint: str


@dataclass(frozen=True)
class _Rule:
    """How much of a version must be the same.

    Attributes:
        shown: The name for people.
        severe: So many numbers must be the same, or the run cannot be trusted; 0: no difference is that bad.
        minor: So many must be the same, or the person is told; None: the whole version.
        why: Ends the sentence.
    """

    shown: str
    severe: int
    minor: int | None
    why: str


# In the order of what to repair first.
_RULES: Mapping[str, _Rule] = {
    # cloudpickle's README: "can only be used to send objects between the exact same version of Python". Its pickles
    # hold bytecode, whose format changes with the minor version and not with the patch.
    PYTHON: _Rule("Python", 2, 2, "functions that are pickled with one cannot be read with the other"),
    # The spec and the events are ours; before 1.0 a minor version may change them, and so it counts as a major one.
    PRODUCT: _Rule(PRODUCT, 2, 2, "they may not understand each other's runs"),
    # No promise about its own versions, except that pickles are not for keeping; distributed compares it exactly too.
    "cloudpickle": _Rule("cloudpickle", 1, None, "what is pickled with one may not be read with the other"),
    # Semantic versioning, says MLflow's page on upgrades: a major version may remove what the other calls.
    "mlflow": _Rule("MLflow", 1, 2, "models and runs that one writes may not be read by the other"),
    # Dask's page on environments: "ideally with exactly the same versions"; a client of another version is warned. A
    # run brings its scheduler and its workers, which are the same; only a client from outside meets the difference.
    "distributed": _Rule("distributed", 0, None, "Dask expects the same version at both ends of a connection"),
    "dask": _Rule("Dask", 0, None, "Dask expects the same version at both ends of a connection"),
}

COMPARED = tuple(_RULES)
"""The names that `mismatches` looks at, and `installed_versions` tells."""


def installed_versions() -> dict[str, str]:
    """The versions of this interpreter and of the compared packages in it; a package that is not there is left out."""
    found = {PYTHON: platform.python_version()}
    for name in COMPARED:
        if name == PYTHON:
            continue
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def mismatches(client: Mapping[str, str], image: Mapping[str, str]) -> list[Mismatch]:
    """The differences that matter, severe ones first; empty when the image fits.

    Args:
        client: Versions where the run is sent from, by normalised name, as `installed_versions` tells them. What is
            not in it is not compared.
        image: The same inside the image; Python's may be the minor version alone, as the image's label has it.
    """
    found = []
    for name, rule in _RULES.items():
        if name not in client:
            continue
        here, there = client[name], image.get(name, "")
        if there and _same(here, there, rule.minor):
            continue
        severe = not there or (rule.severe > 0 and not _same(here, there, rule.severe))
        found.append(_mismatch(name, rule, here, there, severe=severe))
    return sorted(found, key=lambda mismatch: not mismatch.severe)


def _mismatch(name: str, rule: _Rule, here: str, there: str, *, severe: bool) -> Mismatch:
    build = "build the image from this environment (jupyter mlops image build)"
    if not there:
        message = f"The image has no {rule.shown}, which a run needs."
        hint = f"{build[0].upper()}{build[1:]}, or choose another."
    else:
        message = f"The image has {rule.shown} {there} and you have {here}: {rule.why}."
        number = ".".join(map(str, _release(there)[: rule.minor])) or there
        if name == PYTHON:
            hint = f"{build[0].upper()}{build[1:]}, or work with Python {number}."
        else:
            wanted = f"{name}=={there}" if rule.minor is None else f"{name}=={number}.*"
            hint = f"Install the image's version here (pip install '{wanted}'), or {build}."
    return Mismatch(name, here, there, severe, message, hint)


def _same(one: str, other: str, count: int | None) -> bool:
    """Whether the first `count` numbers are the same; with None the whole versions, but for a build's own suffix."""
    first, second = _release(one), _release(other)
    if count is None or not first or not second:
        return _public(one) == _public(other)
    return _padded(first, count) == _padded(second, count)


def _public(version: str) -> str:
    return version.strip().lower().partition("+")[0]


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version (PEP 440), without what marks a pre-release; empty when it has none."""
    found = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", _public(version), re.ASCII)
    return tuple(int(number) for number in found[1].split(".")) if found else ()


def _padded(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return (*numbers, *(0 for _ in range(count)))[:count]
