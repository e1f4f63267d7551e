"""What in an image differs from the environment that a notebook was written in, and whether the run can go on with it.

Everything that computes together is of one image, so Dask in the pods always fits itself. What has to fit beyond it is
what was pickled on the one side and is read on the other: the values of a cell that is run elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TOLD = ("dask", "distributed", "cloudpickle", "mlflow", "jupyter-mlops")
"""Packages whose difference the person reads about."""


@dataclass(frozen=True)
class Verdict:
    """What follows from the versions.

    Attributes:
        refusal: Why the run cannot go on, in one sentence; empty: it can.
        hint: The next step then.
        notice: What differs and does no harm that is known; empty: nothing.
    """

    refusal: str = ""
    hint: str = ""
    notice: str = ""


def compare_versions(
    *,
    python: str,
    packages: Mapping[str, str],
    image_python: str,
    image_packages: Mapping[str, str],
    image: str,
    pickled: bool,
) -> Verdict:
    """Whether a run from one environment can go on in another.

    Args:
        python: Version of the Python that the notebook was written for.
        packages: What was installed there, by normalised name.
        image_python: The image's Python.
        image_packages: What is installed in the image.
        image: The image's name.
        pickled: Whether values of the session travel with the run.
    """
    if pickled:
        if _minor(python) != _minor(image_python):
            return Verdict(
                f"The cell's values were pickled by Python {_minor(python)}, and the image {image} has Python "
                f"{_minor(image_python)}, which cannot read all of them.",
                f"Use a kernel with Python {_minor(image_python)}, or a profile whose image has Python "
                f"{_minor(python)}.",
            )
        here, there = packages.get("cloudpickle"), image_packages.get("cloudpickle")
        if here and there and _major(here) != _major(there):
            return Verdict(
                f"The cell's values were pickled by cloudpickle {here}, and the image {image} has {there}, which "
                "cannot read all of them.",
                f"Install cloudpickle {there} beside your kernel, or use a profile whose image has {here}.",
            )
    told = []
    if _minor(python) != _minor(image_python):
        told.append(f"Python {image_python} (not {python})")
    for name in TOLD:
        mine, theirs = packages.get(name), image_packages.get(name)
        if mine and theirs and mine != theirs:
            told.append(f"{name} {theirs} (not {mine})")
        elif mine and not theirs:
            told.append(f"no {name} (here {mine})")
    return Verdict(notice=f"The image has {', '.join(told)}: results may differ from those here." if told else "")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _major(version: str) -> str:
    return version.split(".", 1)[0]
