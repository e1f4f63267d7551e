"""The image with the product in it, built from its own Dockerfile with the packages of this environment."""

from __future__ import annotations

import re
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from . import image
from .cache import run

ROOT = Path(__file__).parents[2]
_DOCKERFILE = ROOT / "jupyter_mlops" / "image" / "Dockerfile"
_NAMED = ("jupyter-mlops", "dask", "distributed", "cloudpickle", "mlflow")
_IMAGE_PYTHON = "3.11.2"
"""Of the Debian that images are built on."""


def build() -> image.Image:
    """Build it, or take what was built from exactly this code and these versions.

    Raises:
        ClusterError: If a step fails.
    """
    with tempfile.TemporaryDirectory(prefix="product-") as scratch:
        place = Path(scratch)
        wheel = _wheel(place)
        pinned, others = _closure()
        (place / "requirements.txt").write_text("".join(f"{name}=={found}\n" for name, found in pinned.items()))
        (place / "additions.txt").write_text("".join(f"{name}\n" for name in others))
        (place / "wheels.txt").write_text(f"./{wheel.name}\n")
        return image.build(
            "jupyter-mlops",
            _DOCKERFILE,
            {
                "requirements.txt": place / "requirements.txt",
                "additions.txt": place / "additions.txt",
                "wheels/wheels.txt": place / "wheels.txt",
                f"wheels/{wheel.name}": wheel,
            },
            {
                "PYTHON_VERSION": _IMAGE_PYTHON.rpartition(".")[0],
                **{f"{name.upper().replace('-', '_')}_VERSION": version(name) for name in _NAMED},
            },
        )


def _wheel(directory: Path) -> Path:
    """A wheel of the code as it is, the same bytes for the same code."""
    run(
        [Path(sys.executable).with_name("uv"), "build", "--quiet", "--wheel", "--out-dir", directory, ROOT],
        environment={"SOURCE_DATE_EPOCH": "1577836800"},
    )
    return next(directory.glob("*.whl"))


def _closure() -> tuple[dict[str, str], list[str]]:
    """What the product needs, with what that needs, in the versions of this environment.

    Returns:
        The versions, and the packages whose version here is not for the image's Python.
    """
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    found: dict[str, str] = {}
    others: list[str] = []
    waiting = [("jupyter-mlops", frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            known = distribution(name)
        except PackageNotFoundError:
            continue  # of another platform
        if name != "jupyter-mlops":
            suits = SpecifierSet(known.metadata["Requires-Python"] or "").contains(_IMAGE_PYTHON)
            if suits:
                found[name] = known.version
            elif name not in others:
                others.append(name)
        for line in known.requires or ():
            requirement = Requirement(line)
            wanted = [{"extra": extra} for extra in extras] or [{"extra": ""}]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in wanted):
                normal = re.sub(r"[-_.]+", "-", requirement.name).lower()
                waiting.append((normal, frozenset(requirement.extras)))
    return dict(sorted(found.items())), sorted(others)
