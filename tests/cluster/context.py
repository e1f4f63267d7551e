"""The Kubernetes that tests talk to: the node of this directory, or the developer's own. Knows no test."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import image, lifecycle, network, processes
from .cache import ClusterError
from .places import NODE_ADDRESS, OTHER_CLUSTER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .places import Place

_PUBLIC_BASE = "debian:bookworm-slim"


@dataclass(frozen=True)
class Context:
    """A Kubernetes and how to reach it."""

    kubeconfig: Path
    """With all rights, or in somebody's own cluster with theirs."""

    base_image: str
    """A Debian that pods can run: it has sh and getent."""

    place: Place | None
    """The node of ours; None in somebody's own cluster."""

    @property
    def address(self) -> str:
        """Where pods reach a server that a test started inside `network()`.

        Raises:
            ClusterError: In somebody's own cluster, which may have no way to this machine.
        """
        self._ours()
        return NODE_ADDRESS

    def network(self) -> AbstractContextManager[None]:
        """Be where the API server and the pods can be reached: this thread, and what it starts meanwhile."""
        if self.place is None:
            return nullcontext()
        return network.entered(lifecycle.process(self.place))

    def load_image(self, archive: Path) -> None:
        """Give an image to the node.

        Raises:
            ClusterError: In somebody's own cluster: it must come from a registry there.
        """
        image.load(self._ours(), archive)

    @contextmanager
    def without(self, part: str) -> Iterator[None]:
        """Let a part of the node, such as `kube-apiserver`, die, and start it again."""
        place = self._ours()
        processes.stop(place, part)
        try:
            yield
        finally:
            lifecycle.start_part(place, part)

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """Let a part hang: connections are made, and nobody answers."""
        place = self._ours()
        processes.send(place, part, signal.SIGSTOP)
        try:
            yield
        finally:
            processes.send(place, part, signal.SIGCONT)

    def _ours(self) -> Place:
        if self.place is None:
            raise ClusterError(f"this needs the tests' own node; unset {OTHER_CLUSTER_VARIABLE}")
        return self.place


def other_context() -> Context | None:
    """The cluster that the developer named, or None.

    Raises:
        ClusterError: If its kubeconfig is not there.
    """
    named = os.environ.get(OTHER_CLUSTER_VARIABLE)
    if not named:
        return None
    if not Path(named).is_file():
        raise ClusterError(f"{OTHER_CLUSTER_VARIABLE} names {named}, which is not a file")
    return Context(Path(named), _PUBLIC_BASE, None)


def own_context(place: Place) -> Context:
    """The node of ours, which is up, with the base image."""
    base = image.base()
    if base.tag not in image.loaded(place):
        image.load(place, base.archive)
    return Context(place.admin_kubeconfig, base.tag, place)
