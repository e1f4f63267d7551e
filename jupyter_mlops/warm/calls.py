"""How one speaks to a head: calls on the connection of its Dask scheduler, which ask for the cluster's certificate.

Both ends name the calls by what is written here. Knows addresses and certificates, and not where they come from.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ..errors import ClusterError
from .known import CA_FILE, CERTIFICATE_FILE, KEY_FILE

STATE, SCALE = "mlops_state", "mlops_scale"
SUBMIT, PUT, EVENTS, CANCEL, FILES, READ = (
    "mlops_submit", "mlops_put", "mlops_events", "mlops_cancel", "mlops_files", "mlops_read",
)  # fmt: skip
BLOCK = 4 * 2**20
"""Bytes of a file that go with one call: the scheduler's own messages wait as long as one is sent."""
LONGEST_WAIT = 10.0
"""Seconds that the head may wait for something new before it answers."""
_CONNECT = 10.0
_ANSWER = 60.0


def security_of(certificates: Path) -> Any:
    """Dask's `Security` with the certificate of a directory, for every role: they all prove the same."""
    from distributed.security import Security

    ca, certificate, key = (str(certificates / name) for name in (CA_FILE, CERTIFICATE_FILE, KEY_FILE))
    roles: dict[str, Any] = {}
    for role in ("client", "scheduler", "worker"):
        roles[f"tls_{role}_cert"], roles[f"tls_{role}_key"] = certificate, key
    return Security(require_encryption=True, tls_ca_file=ca, **roles)


def client_variables(certificates: Path, address: str) -> dict[str, str]:
    """Variables with which `distributed.Client()` finds the cluster and may use it."""
    return {
        "DASK_SCHEDULER_ADDRESS": address,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(certificates / CA_FILE),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": str(certificates / CERTIFICATE_FILE),
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": str(certificates / KEY_FILE),
    }


def call(address: str, security: Any, operation: str, **arguments: Any) -> Any:
    """One call and its answer.

    Args:
        address: Of the scheduler.
        security: From `security_of`.
        operation: One of this module's.
        **arguments: Of the call.

    Returns:
        What the call gives, which is never None.

    Raises:
        MLOpsError: what the head raised.
        ClusterError: it does not answer ("cluster_away").
    """
    import asyncio

    async def exchange() -> Any:
        from distributed.comm import connect
        from distributed.core import send_recv

        comm = await connect(address, timeout=_CONNECT, **security.get_connection_args("client"))
        try:
            return await asyncio.wait_for(send_recv(comm, op=operation, **arguments), _ANSWER)
        finally:
            await comm.close()

    found: list[Any] = []

    def work() -> None:  # a notebook's own thread runs a loop already
        try:
            found.append(asyncio.run(exchange()))
        except BaseException as error:  # noqa: BLE001 - it is raised where it was called
            found.append(error)

    thread = threading.Thread(target=work, name="mlops-call", daemon=True)
    thread.start()
    thread.join()
    answer = found[0]
    if answer is None:  # Dask's answer to a call that it does not know: the acceptor is not there yet
        raise ClusterError(f"The head of the cluster at {address} is still starting.", code="cluster_away")
    if not isinstance(answer, BaseException):
        return answer
    if isinstance(answer, (OSError, TimeoutError, asyncio.TimeoutError)):
        raise ClusterError(
            f"The head of the cluster at {address} does not answer: {type(answer).__name__}.", code="cluster_away"
        ) from answer
    raise answer
