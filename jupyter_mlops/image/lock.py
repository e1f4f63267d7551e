"""What of an environment goes into an image: decided from data, nothing is run or read.

The lock of a snapshot names each package with its version. What it cannot name are packages that are in no index; what
it may lack is jupyter-mlops itself, when the kernel has an environment of its own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from ..errors import UsageError, nearest
from ..snapshot.environment import normalized_name
from .versions import COMPARED, PRODUCT, PYTHON

if TYPE_CHECKING:
    from ..snapshot.environment import Distribution, Environment

_PLATFORM_ONLY = re.compile(
    r"appnope|pyobjc(-.*)?|tensorflow-(macos|metal)|pywin32(-ctypes)?|pywinpty|pyreadline3|win32-setctime|windows-curses|wmi"
)
"""Packages of macOS and Windows that no Linux can install."""

# Their wheels need a library that Debian's small images have not, and say so only when they are imported.
_LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "lightgbm": ("libgomp1",),
    "opencv-contrib-python": ("libgl1", "libglib2.0-0"),
    "opencv-python": ("libgl1", "libglib2.0-0"),
}

_CUDA_RUNTIME = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_CUDA_IMAGES = {
    "3.10": "docker.io/nvidia/cuda:12.6.3-runtime-ubuntu22.04",
    "3.12": "docker.io/nvidia/cuda:12.6.3-runtime-ubuntu24.04",
}
"""By the Python that the distribution has; the last CUDA 12 that both Ubuntus share."""

_CUDA_IMAGES_MAJOR = "12"
_CUDA_SUFFIX = re.compile(r".+-cu(?:da)?(\d\d)x?")
"""Ends the names of packages that are made for one major version of CUDA, such as cudf-cu12 and cupy-cuda12x."""

_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
"""What the markers of requirements are asked with, wherever the image is built from."""


@dataclass(frozen=True)
class Product:
    """What this interpreter knows of jupyter-mlops.

    Attributes:
        distribution: Itself, as it is installed here.
        requires: Its requirements, as its metadata states them.
        versions: What is installed here, by normalised name.
    """

    distribution: Distribution
    requires: tuple[str, ...]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Contents:
    """What goes into an image.

    Attributes:
        python: Minor version, such as "3.11".
        pinned: Lines of the lock.
        additions: Requirements of jupyter-mlops that the lock has not.
        projects: Packages that are in no index: a wheel of each must be made.
        versions: Versions that the image will have, of the compared packages.
        gpu: Whether it is for GPUs.
        whole: Whether the lock names everything that Linux needs; pip looks for the rest otherwise.
        libraries: Debian packages that the wheels need.
        build_packages: Debian packages that only the installation needs.
        cuda: Major version of CUDA that the packages are made for.
        notes: Sentences for the person.
    """

    python: str
    pinned: tuple[str, ...]
    additions: tuple[str, ...]
    projects: tuple[Distribution, ...]
    versions: Mapping[str, str]
    gpu: bool = False
    whole: bool = True
    libraries: tuple[str, ...] = ()
    build_packages: tuple[str, ...] = ()
    cuda: str = _CUDA_IMAGES_MAJOR
    notes: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of what is installed from indexes, in hexadecimal."""
        text = "\n".join((self.python, *self.pinned, "", *self.additions))
        return hashlib.sha256(text.encode()).hexdigest()


def this_product(environment: Environment) -> Product:
    """Jupyter-mlops as it is installed here.

    Args:
        environment: That of this interpreter.

    Raises:
        UsageError: it is not installed, only on the path.
    """
    versions = {dist.name: dist.version for dist in environment.distributions}
    for dist in environment.distributions:
        if dist.name == PRODUCT:
            return Product(dist, tuple(metadata.requires(PRODUCT) or ()), versions)
    raise UsageError(
        "jupyter-mlops is not installed here: its requirements are not known.",
        hint="Install it, also from its directory: pip install --editable DIRECTORY",
        code="image",
    )


def contents_of(
    environment: Environment, *, product: Product, gpu: bool = False, without: Collection[str] = ()
) -> Contents:
    """What goes into the image of an environment.

    Args:
        environment: As a snapshot records it.
        product: What is known of jupyter-mlops, which every image needs.
        gpu: Whether to add what runs on GPUs need (the extra `gpu`).
        without: Names of packages to leave out.

    Raises:
        UsageError: the environment is no CPython, or `without` names what is not in it or must be.
    """
    if environment.implementation != "CPython":
        raise UsageError(
            f"An image is made for CPython, and this environment is {environment.implementation}.", code="image"
        )
    linux = environment.platform.startswith("linux")
    left_out = _left_out(environment, without)
    notes: list[str] = []
    taken: list[Distribution] = []
    foreign, unreadable = [], []
    for dist in environment.distributions:
        if dist.name in left_out:
            continue
        if dist.source == "local" and not dist.requirement.startswith(f"# {dist.name}=="):
            unreadable.append(dist.name)
        elif not linux and _PLATFORM_ONLY.fullmatch(dist.name):
            foreign.append(dist.name)
        else:
            taken.append(dist)
    if not linux:
        notes.append(
            f"The lock is of {environment.platform}: pip adds what Linux needs beside it"
            + (f", and {', '.join(foreign)} stay{'s' * (len(foreign) == 1)} out." if foreign else ".")
        )
    if unreadable:
        notes.append(f"Left out, because what is installed of them cannot be read: {', '.join(unreadable)}.")
    if left_out:
        notes.append(f"Left out, as asked: {', '.join(sorted(left_out))}.")
    if not any(dist.name == PRODUCT for dist in taken):
        notes.append(f"The environment has no jupyter-mlops: {product.distribution.version} is added.")
        taken.append(product.distribution)
    names = {dist.name: dist.version for dist in taken}
    cuda = max((found[1] for found in map(_CUDA_SUFFIX.fullmatch, names) if found), default=_CUDA_IMAGES_MAJOR)
    additions = _additions(names, product, cuda=cuda if gpu else None)
    if additions:
        notes.append(f"Added, because jupyter-mlops needs them: {', '.join(additions)}.")
    pinned = tuple(dist.requirement for dist in taken if dist.source != "local")
    return Contents(
        python=".".join(environment.python.split(".")[:2]),
        pinned=pinned,
        additions=additions,
        projects=tuple(dist for dist in taken if dist.source == "local"),
        versions=_versions(environment.python, names, product),
        gpu=gpu,
        whole=linux,
        libraries=tuple(sorted({package for name in names for package in _LIBRARIES.get(name, ())})),
        build_packages=("ca-certificates", "git") if any(" @ git+" in line for line in pinned) else (),
        cuda=cuda,
        notes=tuple(notes),
    )


def default_base(contents: Contents) -> str:
    """The public image to build on.

    Where the lock has NVIDIA's CUDA libraries as wheels, or for CPU, that is Python's own; the driver comes from the
    node. Otherwise one of NVIDIA's that has the libraries and, from its distribution, the same Python.

    Raises:
        UsageError: for GPUs, and no such image has this Python.
    """
    if not contents.gpu or any(_CUDA_RUNTIME.fullmatch(line.partition("==")[0]) for line in contents.pinned):
        return f"docker.io/library/python:{contents.python}-slim-bookworm"
    if contents.python not in _CUDA_IMAGES or contents.cuda != _CUDA_IMAGES_MAJOR:
        raise UsageError(
            f"No image with CUDA {contents.cuda} and Python {contents.python} is known, and the environment has no "
            "CUDA libraries of its own (nvidia-cuda-runtime).",
            hint=f"Name one with --base IMAGE. Known are those with CUDA {_CUDA_IMAGES_MAJOR} and Python "
            f"{' or '.join(_CUDA_IMAGES)}.",
            code="image",
        )
    return _CUDA_IMAGES[contents.python]


def _left_out(environment: Environment, without: Collection[str]) -> set[str]:
    known = {dist.name for dist in environment.distributions}
    found = set()
    for written in without:
        name = normalized_name(written)
        if name not in known:
            raise UsageError(
                f"--without {written!r}: the environment has no such package.",
                hint=nearest(name, known, noun="package") if len(known) < 40 else "",
                code="image",
            )
        if name == PRODUCT:
            raise UsageError("An image without jupyter-mlops cannot run anything.", code="image")
        found.add(name)
    return found


def _additions(names: Mapping[str, str], product: Product, *, cuda: str | None) -> tuple[str, ...]:
    """What jupyter-mlops needs and the lock has not, in the versions of this interpreter where it has them.

    Args:
        names: Versions of the lock.
        product: What is known of jupyter-mlops.
        cuda: Major version of CUDA; None: not for GPUs.
    """
    from packaging.requirements import Requirement

    found = []
    for requirement in map(Requirement, product.requires):
        name, marker = normalized_name(requirement.name), requirement.marker
        asked = ("", "gpu") if cuda else ("",)
        if name in names or not (marker is None or any(marker.evaluate({**_LINUX, "extra": extra}) for extra in asked)):
            continue
        # Without this extra it is installed and cannot be imported: cuda.core looks for cuda.bindings.
        extras = {f"cu{cuda}"} if name == "dask-cuda" else requirement.extras
        version = f"=={product.versions[name]}" if name in product.versions else str(requirement.specifier)
        found.append(name + (f"[{','.join(sorted(extras))}]" if extras else "") + version)
    if cuda and "cuda-core" in names and "cuda-bindings" not in names:
        found.append(f"cuda-core[cu{cuda}]=={names['cuda-core']}")
    # `dask` in the lock does not say that its extra is: distributed has dask's version.
    if "dask" in names and "distributed" not in names:
        found.append(f"distributed=={names['dask']}")
    return tuple(found)


def _versions(python: str, names: Mapping[str, str], product: Product) -> dict[str, str]:
    found = {**product.versions, **names, PYTHON: ".".join(python.split(".")[:2])}
    if "distributed" not in names:
        found["distributed"] = found.get("dask", "")
    return {name: found[name] for name in COMPARED if found.get(name)}
