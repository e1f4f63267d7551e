"""Says in the cell itself why its kernel is gone: the dead cannot, so its last message is published for it.

The clients of a kernel that was lost connect again to the port of this machine that led to its outputs. For a moment
that port leads here, and whoever listens gets one message: text on standard error, as of the request that was being
executed. Any Jupyter client shows it where that cell's output is. Knows no Kubernetes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

_FIRST, _MORE, _SENDING = 4.0, 0.7, 0.3
"""Seconds for the first listener to come, for the others after it, and for the message to leave."""


class LastWord:
    """The message, on a port of its own until it was said or nobody came.

    Args:
        text: What is said.
        parent: The header of the request that was executed.
        key: Signs the message.
        signature_scheme: How.

    Attributes:
        port: Of 127.0.0.1.
    """

    def __init__(self, text: str, parent: Mapping[str, Any], *, key: str, signature_scheme: str) -> None:
        import zmq

        self._text = text
        self._parent = dict(parent)
        self._key = key
        self._signature_scheme = signature_scheme
        self._over = threading.Event()
        self._context: Any = zmq.Context()
        self._sock: Any = self._context.socket(zmq.XPUB)
        self._sock.linger = int(1000 * _SENDING)
        self.port: int = self._sock.bind_to_random_port("tcp://127.0.0.1")
        threading.Thread(target=self._say, name="mlops-last-word", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether it was said, or nobody came."""
        return self._over.is_set()

    def _say(self) -> None:
        from jupyter_client.session import Session

        try:
            if self._sock.poll(int(1000 * _FIRST)):
                time.sleep(_MORE)  # once for all of them: a message for each would be shown as often
                session = Session(key=self._key.encode(), signature_scheme=self._signature_scheme)
                message = session.msg(
                    "stream", {"name": "stderr", "text": f"{self._text}\n"}, parent={"header": self._parent}
                )
                self._sock.send_multipart(session.serialize(message, ident=b"stream.stderr"))
                time.sleep(_SENDING)
        finally:
            self._sock.close()
            self._context.term()
            self._over.set()
