"""Where things are and what they are called: names, directories, addresses, versions."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "1.34.4"
"""The last line that starts on a machine with version 1 of control groups."""

COREDNS_VERSION = "1.15.0"
KWOK_VERSION = "0.8.0"
DEBIAN_SUITE = "bookworm"

NODE_NAME = "node-1"
NODE_ADDRESS = "198.18.0.1"
"""The node, its API server and its DNS, from pods and from tests (RFC 2544: addresses for benchmarks, never routed)."""

NODE_PREFIX = 24
GATEWAY = "198.18.0.254"
"""Nobody."""

POD_RANGE = "198.18.128.0/17"
SERVICE_RANGE = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
API_PORT = 6443
CLUSTER_DOMAIN = "cluster.local"

OTHER_CLUSTER_VARIABLE = "JUPYTER_MLOPS_TEST_KUBECONFIG"
NAME_VARIABLE = "JUPYTER_MLOPS_TEST_CLUSTER"
MIRROR_VARIABLE = "JUPYTER_MLOPS_TEST_DEBIAN_MIRROR"

RUNNING = Path("/var/lib/jupyter-mlops-test-cluster")
"""Every node's directory. Not in the cache: socket paths must be short, and `down` must find it for any user."""


@dataclass(frozen=True)
class Place:
    """The directory of one node and what lies in it; gone after `down`."""

    name: str

    @property
    def directory(self) -> Path:
        """Everything that the node writes."""
        return RUNNING / self.name

    @property
    def logs(self) -> Path:
        """One log for each part."""
        return self.directory / "logs"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.directory / "pki"

    @property
    def control_socket(self) -> Path:
        """Where process 1 of the node takes orders."""
        return self.directory / "node.sock"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd takes orders."""
        return self.directory / "containerd.sock"

    @property
    def ready_mark(self) -> Path:
        """Present once the node has been seen whole."""
        return self.directory / "ready"

    @property
    def admin_kubeconfig(self) -> Path:
        """Access with all rights."""
        return self.kubeconfig("admin")

    def kubeconfig(self, user: str) -> Path:
        """Access of one user or part."""
        return self.directory / f"{user}.kubeconfig"

    @property
    def containerd_root(self) -> Path:
        """Where containerd keeps images and what containers write."""
        return self.directory / "containerd"

    @property
    def cgroup(self) -> str:
        """The control group under which the node's pods are."""
        return f"jupyter-mlops-{self.name}"


def place(name: str | None = None) -> Place:
    """The place of the node with this name.

    Args:
        name: Default: the variable JUPYTER_MLOPS_TEST_CLUSTER, else `mlops`. Nodes with different names share nothing.

    Raises:
        ValueError: If the name is not 1 to 20 lower-case letters, digits and hyphens.
    """
    chosen = name or os.environ.get(NAME_VARIABLE) or "mlops"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,19}", chosen):
        raise ValueError(f"a cluster's name is 1 to 20 of a-z, 0-9 and hyphen, not {chosen!r}")
    return Place(chosen)


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return home / "jupyter-mlops" / "cluster"


CACHE = _cache_directory()
"""Where built things are kept between bring-ups. Read at import, because each test runs with a home of its own."""


def machine() -> str:
    """This machine's architecture as Go and Debian name it."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
