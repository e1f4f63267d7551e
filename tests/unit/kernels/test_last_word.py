import time

import pytest
import zmq
from jupyter_client.session import Session

from jupyter_mlops.kernels import last_word
from jupyter_mlops.kernels.last_word import LastWord

PATIENCE = 60
PARENT = {"msg_id": "m-1", "msg_type": "execute_request", "session": "s", "username": "ann", "version": "5.3"}


def wait_until_over(word: LastWord) -> None:
    until = time.monotonic() + PATIENCE
    while not word.is_over:
        assert time.monotonic() < until
        time.sleep(0.05)


def test_whoever_listens_gets_it_once_as_the_output_of_the_request() -> None:
    word = LastWord("The pod is gone.", PARENT, key="k" * 32, signature_scheme="hmac-sha256")
    with zmq.Context() as context, context.socket(zmq.SUB) as one, context.socket(zmq.SUB) as two:
        for sock in (one, two):
            sock.subscribe(b"")
            sock.connect(f"tcp://127.0.0.1:{word.port}")
        for sock in (one, two):
            assert sock.poll(1000 * PATIENCE)
            session = Session(key=b"k" * 32, signature_scheme="hmac-sha256")
            _, parts = session.feed_identities(sock.recv_multipart())
            message = session.deserialize(parts)
            assert message["content"] == {"name": "stderr", "text": "The pod is gone.\n"}
            assert message["parent_header"]["msg_id"] == "m-1"
        wait_until_over(word)
        assert not one.poll(100)


def test_when_nobody_comes_it_is_over_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_word, "_FIRST", 0.1)
    wait_until_over(LastWord("The pod is gone.", PARENT, key="k" * 32, signature_scheme="hmac-sha256"))
