"""Asks the parts of a node how they are, from inside its network. Changes nothing by itself."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from .places import API_PORT, NODE_ADDRESS

if TYPE_CHECKING:
    from pathlib import Path

    from .places import Place


def api(place: Place, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the API server as administrator, from inside the node's network.

    Raises:
        OSError: If it does not answer, or answers with an error.
    """
    trust = ssl.create_default_context(cafile=str(place.pki / "ca.crt"))
    trust.load_cert_chain(place.pki / "admin.crt", place.pki / "admin.key")
    with closing(http.client.HTTPSConnection(NODE_ADDRESS, API_PORT, timeout=10, context=trust)) as connection:
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        if response.status >= 400:
            raise OSError(f"{method} {path}: {response.status} {text}")
        found: dict[str, Any] = json.loads(text)
        return found


def answers(port: int, path: str, *, tls: bool = False) -> bool:
    """Whether a part on the node's loopback says that it is well."""
    # Health is public and says nothing secret; two of the parts make their own certificates.
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=ssl._create_unverified_context())
        if tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    )
    with closing(connection), suppress(OSError, http.client.HTTPException):
        connection.request("GET", path)
        return connection.getresponse().status == 200
    return False


def accepts(path: Path) -> bool:
    """Whether somebody listens on a socket of the file system."""
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(path))
        return True
    return False
