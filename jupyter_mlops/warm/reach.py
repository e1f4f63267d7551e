"""The way to the head of a cluster: directly where that goes, else through Kubernetes' API server.

Either way the connection asks for the cluster's certificate: a forwarded port of 127.0.0.1 is open to all who share
this machine. Knows where a cluster is, and nothing of what is said.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import ClusterError
from . import calls
from .known import Known
from .local import is_lost

if TYPE_CHECKING:
    from types import TracebackType

    from ..kubernetes.forward import PortForward

_GLANCE = 2.0


@dataclass
class Reached:
    """A head that can be spoken to.

    Attributes:
        name: The cluster's.
        address: Of its scheduler, from here.
        security: The certificate, as Dask takes it.
        http: Address of its HTTP server, from here.
    """

    name: str
    address: str
    security: Any
    http: str
    _forward: PortForward | None = field(default=None, repr=False)

    def call(self, operation: str, **arguments: Any) -> Any:
        """One of `calls`.

        Raises:
            MLOpsError: what the head raised, or that it does not answer.
        """
        return calls.call(self.address, self.security, operation, **arguments)

    @property
    def is_forwarded(self) -> bool:
        """Whether the way ends with this process."""
        return self._forward is not None

    def close(self) -> None:
        """Give up the way."""
        if self._forward is not None:
            self._forward.close()

    def __enter__(self) -> Reached:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reach(known: Known, *, forwarded: bool = False) -> Reached:
    """A way to the head.

    Args:
        known: The cluster.
        forwarded: Through the API server even where the pod can be reached: its pages are closed to other pods.

    Raises:
        ClusterError: the cluster is gone ("cluster_gone"), or cannot be reached.
        KubernetesError: Kubernetes does not answer, or does not allow it.
        ConfigError: the kubeconfig leads elsewhere now.
    """
    security = calls.security_of(known.directory)
    if known.place is not None:
        return _reach_pod(known, security, forwarded=forwarded)
    head = known.head
    if is_lost(known):
        raise gone(known)
    if head is None:
        raise ClusterError(f"The cluster '{known.spec.name}' is still starting.", code="cluster_away")
    if head["host"] != socket.gethostname():
        raise ClusterError(
            f"The cluster '{known.spec.name}' is on {head['host']}, and listens there alone.",
            hint="Use it there, or start one here.",
        )
    return Reached(known.spec.name, head["address"], security, head["http"])


def gone(known: Known) -> ClusterError:
    """The error of a cluster that is there no more."""
    return ClusterError(
        f"The cluster '{known.spec.name}' is gone.", hint="Start another: jupyter mlops cluster start",
        code="cluster_gone",
    )  # fmt: skip


def _reach_pod(known: Known, security: Any, *, forwarded: bool) -> Reached:
    from ..kubernetes.contract import HTTP_PORT, SCHEDULER_PORT
    from ..kubernetes.forward import PortForward
    from . import pods

    api = pods.api_of(known)
    pod = pods.head_pod(known, api)
    address = str((pod.get("status") or {}).get("podIP") or "")
    inside = bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and not forwarded
    if inside and _answers(address, SCHEDULER_PORT):
        host = f"[{address}]" if ":" in address else address
        return Reached(known.spec.name, f"tls://{host}:{SCHEDULER_PORT}", security, f"http://{host}:{HTTP_PORT}")
    forward = PortForward(api, str(pod["metadata"]["name"]), [SCHEDULER_PORT, HTTP_PORT])
    return Reached(
        known.spec.name, f"tls://127.0.0.1:{forward.local_port(SCHEDULER_PORT)}", security,
        f"http://127.0.0.1:{forward.local_port(HTTP_PORT)}", forward,
    )  # fmt: skip


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_GLANCE):
            return True
    except OSError:
        return False
