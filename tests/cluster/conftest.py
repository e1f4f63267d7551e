"""A real Kubernetes for the tests of this directory: brought up when it is not, and taken away by who brought it up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import access, lifecycle
from .cache import ClusterError
from .context import Context, other_context, own_context
from .places import place
from .product_image import product_archive, product_image
from .run_place import mlflow, place_of_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubernetes.client import ApiClient

__all__ = ["mlflow", "place_of_runs", "product_archive", "product_image"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Limit the tests of this directory by themselves: bringing up may have to compile for many minutes first."""
    for item in items:
        if Path(__file__).parent in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(900, func_only=True))


@pytest.fixture(scope="session")
def session_context() -> Iterator[Context]:
    """The Kubernetes, for fixtures of a session, which enter its network themselves: `with context.network(): ...`."""
    try:
        other = other_context()
        if other is not None:
            yield other
            return
        chosen = place()
        if os.environ.get("PYTEST_XDIST_WORKER") and lifecycle.why_not_whole(chosen):
            pytest.fail(
                "several processes cannot agree on who takes the cluster away: first run `make cluster-up`", False
            )
        brought_up = lifecycle.up(chosen)
        try:
            yield own_context(chosen)
        finally:
            if brought_up:
                lifecycle.down(chosen)
    except lifecycle.MissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    except ClusterError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def context(session_context: Context) -> Iterator[Context]:
    """The Kubernetes; the test is in its network, with every process and thread that it starts."""
    if session_context.place is not None and (why := lifecycle.why_not_whole(session_context.place)):
        pytest.fail(f"the cluster is not whole any more: {why}", pytrace=False)
    with session_context.network():
        yield session_context


@pytest.fixture
def own(context: Context) -> Context:
    """The Kubernetes, for tests that do to it what one may only do to one's own node."""
    if context.place is None:
        pytest.skip("only on the tests' own node")
    return context


@pytest.fixture
def admin(context: Context) -> Iterator[ApiClient]:
    """A client with all rights."""
    with access.client(context.kubeconfig) as api:
        yield api


@pytest.fixture
def namespace(admin: ApiClient) -> Iterator[str]:
    """A namespace of the test's own, in which the restricted Pod Security Standard holds."""
    name = access.create_namespace(admin)
    yield name
    access.delete_namespace(admin, name)
