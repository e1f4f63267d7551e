"""A websocket to the API server: the handshake by the `kubernetes` client's own parts, then the bare frames.

The client's stream classes read and write in turn, so that two sides which both have much to say block each other; who
needs more takes the connected socket and these frames. Knows no pod and no run.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

CONTINUED, BINARY, CLOSE, PING, PONG = 0x0, 0x2, 0x8, 0x9, 0xA
_TIMEOUT = 15.0
"""Seconds for the connection and for each answer of the handshake."""


class RefusedError(Exception):
    """The server answered the handshake with an error.

    Attributes:
        status: Of HTTP.
        body: What it said.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


def open_websocket(configuration: Any, url: str, headers: Mapping[str, str], *, protocol: str) -> socket.socket:
    """Connect and shake hands; from then on the socket carries frames only.

    Args:
        configuration: The `kubernetes` client's: certificates and proxy.
        url: With http or https.
        headers: For the login.
        protocol: The subprotocol.

    Returns:
        The socket (under TLS where the address is https), which does not block.

    Raises:
        RefusedError: the server said no.
        OSError: there was no connection.
    """
    import certifi
    from kubernetes.stream import ws_client
    from websocket import WebSocket, WebSocketBadStatusException, WebSocketException

    with_proxy: Any = ws_client.websocket_proxycare

    options: dict[str, Any] = {
        "header": [f"{key}: {value}" for key, value in headers.items()],
        "subprotocols": [protocol], "timeout": _TIMEOUT, "redirect_limit": 0, "suppress_origin": True,
    }  # fmt: skip
    if configuration.proxy or configuration.proxy_headers:
        options = with_proxy(options, configuration, url, headers)
    made: Any = WebSocket(sslopt=_tls(configuration, certifi.where()), skip_utf8_validation=True)
    try:
        made.connect("ws" + url.removeprefix("http"), **options)
    except WebSocketBadStatusException as error:
        raise RefusedError(error.status_code, error.resp_body or b"") from error
    except WebSocketException as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    sock: socket.socket = made.sock
    sock.setblocking(False)
    return sock


def _tls(configuration: Any, known_authorities: str) -> dict[str, Any]:
    import ssl

    options: dict[str, Any] = {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
    if configuration.verify_ssl:
        options = {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": configuration.ssl_ca_cert or known_authorities}
        if configuration.assert_hostname is not None:
            options["check_hostname"] = configuration.assert_hostname
    if configuration.cert_file:
        options["certfile"] = configuration.cert_file
    if configuration.key_file:
        options["keyfile"] = configuration.key_file
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    return options


def frame(payload: bytes, opcode: int = BINARY) -> bytes:
    """A frame as a client must send it: whole, and masked."""
    from websocket import ABNF

    made: bytes = ABNF.create_frame(payload, opcode, 1).format()
    return made


class Frames:
    """What a server sends, cut into messages, in whatever pieces it comes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun: tuple[int, bytearray] | None = None

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The messages that are whole now, each as (opcode, payload).

        Raises:
            ValueError: this is no websocket of a server.
        """
        self._rest += data
        found = []
        while (cut := self._next()) is not None:
            last, opcode, payload = cut
            if opcode >= CLOSE:  # Control frames are whole and may come between the parts of a message.
                found.append((opcode, payload))
                continue
            if opcode == CONTINUED:
                if self._begun is None:
                    raise ValueError("a part without a beginning")
                self._begun[1].extend(payload)
            else:
                self._begun = (opcode, bytearray(payload))
            if last:
                found.append((self._begun[0], bytes(self._begun[1])))
                self._begun = None
        return found

    def _next(self) -> tuple[bool, int, bytes] | None:
        rest = self._rest
        if len(rest) < 2:
            return None
        if rest[0] & 0x70 or rest[1] & 0x80:
            raise ValueError("a frame with unknown bits, or masked")
        length, start = rest[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(rest) < start:
                return None
            length = int.from_bytes(rest[2:start], "big")
        if len(rest) < start + length:
            return None
        payload = bytes(rest[start : start + length])
        last, opcode = bool(rest[0] & 0x80), rest[0] & 0x0F
        del rest[: start + length]
        return last, opcode, payload
