"""The image with the product in it, for tests that run it in pods: built as a user builds it, but for its base.

In it is what a pod needs and no more: jupyter-mlops as it is in this directory, and what that requires, in the versions
of `requirements-dev.lock` (that is, of the interpreter that runs the tests).
"""

from __future__ import annotations

import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_mlops.image.lock import contents_of, this_product
from jupyter_mlops.image.plan import DOCKERFILE, Base, build_arguments, context_files
from jupyter_mlops.image.projects import find_projects, make_wheels
from jupyter_mlops.snapshot.environment import normalized_name, read_environment

from . import image
from .cache import ClusterError, say

if TYPE_CHECKING:
    from jupyter_mlops.image.lock import Contents
    from jupyter_mlops.snapshot import Environment

    from .context import Context


BASE_PYTHON = "3.11.2"
"""Of the base image, which is Debian 12. What the tests pickle must come from the same minor version."""


@pytest.fixture(scope="session")
def product_archive() -> image.Image:
    """An image with the product as it is now, in a file."""
    if not BASE_PYTHON.startswith("{}.{}.".format(*sys.version_info)):
        pytest.skip(
            f"the image has Python {BASE_PYTHON}, and this is {sys.version.split()[0]}: make venv PYTHON=python3.11"
        )
    try:
        return build()
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def product_image(session_context: Context, product_archive: image.Image) -> str:
    """The name of an image with the product as it is now, which the node has."""
    place = session_context.place
    if place is None:
        pytest.skip("only on the tests' own node, which an image can be given to without a registry")
    if product_archive.tag not in image.loaded(place):
        session_context.load_image(product_archive.archive)
    return product_archive.tag


def build() -> image.Image:
    """The image, from the cache when neither the product nor its environment has changed.

    Raises:
        ClusterError: If a step fails.
    """
    contents = contents_of_pod()
    with tempfile.TemporaryDirectory() as temporary:
        wheels = make_wheels(find_projects(contents.projects), Path(temporary, "wheels"), say)
        files = context_files(contents, wheels)
        inputs = {}
        for name, content in files.items():
            if name == "Dockerfile":
                continue
            if isinstance(content, Path):
                inputs[name] = content
            else:
                inputs[name] = Path(temporary, name.replace("/", "-"))
                inputs[name].write_bytes(content)
        arguments = build_arguments(contents, Base(image.base().tag), {})
        return image.build("jupyter-mlops", DOCKERFILE, inputs, arguments)


def contents_of_pod() -> Contents:
    """What is in the image."""
    from packaging.specifiers import SpecifierSet

    own, _ = read_environment()
    wanted = _requirements_of("jupyter-mlops")
    kept = []
    for dist in own.distributions:
        if dist.name not in wanted:
            continue
        needed = metadata.distribution(dist.name).metadata.get("Requires-Python") or ""
        # The tests' interpreter may be a newer 3.11 than Debian's: what does not take that is taken in an older version.
        fits = SpecifierSet(needed).contains(BASE_PYTHON)
        kept.append(dist if fits else dist.model_copy(update={"requirement": dist.name}))
    environment: Environment = own.model_copy(update={"distributions": tuple(kept)})
    return contents_of(environment, product=this_product(own))


def _requirements_of(name: str) -> set[str]:
    """A package with all that it requires, directly or not, by their normalised names."""
    from packaging.requirements import Requirement

    found: set[str] = set()
    waiting = [(name, frozenset[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        package, extras = current
        found.add(package)
        for text in metadata.requires(package) or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((normalized_name(requirement.name), frozenset(requirement.extras)))
    return found
