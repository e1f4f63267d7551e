import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.kubernetes.websocket import BINARY, CONTINUED, PING, Frames, frame


def served(payload: bytes, opcode: int = BINARY, *, last: bool = True) -> bytes:
    """A frame as a server sends it."""
    size = len(payload)
    head = bytes((opcode | (0x80 if last else 0),))
    if size < 126:
        return head + bytes((size,)) + payload
    if size < 2**16:
        return head + b"\x7e" + size.to_bytes(2, "big") + payload
    return head + b"\x7f" + size.to_bytes(8, "big") + payload


@given(
    st.lists(st.sampled_from([0, 1, 125, 126, 127, 65535, 65536]) | st.integers(0, 300), max_size=6),
    st.integers(1, 70000),
)
def test_messages_are_the_same_in_whatever_pieces_they_come(sizes: list[int], step: int) -> None:
    sent = [bytes((index,)) * size for index, size in enumerate(sizes)]
    stream = b"".join(served(payload) for payload in sent)
    frames = Frames()
    found = [each for at in range(0, len(stream), step) for each in frames.feed(stream[at : at + step])]
    assert found == [(BINARY, payload) for payload in sent]


def test_a_message_in_parts_is_one_and_a_ping_may_come_between() -> None:
    stream = (
        served(b"a", last=False) + served(b"?", PING) + served(b"b", CONTINUED, last=False) + served(b"c", CONTINUED)
    )
    assert Frames().feed(stream) == [(PING, b"?"), (BINARY, b"abc")]


@pytest.mark.parametrize("stream", [b"HTTP/1.1 200", served(b"x", CONTINUED), bytes((0x82, 0x81)) + b"keyyx"])
def test_what_no_server_sends_is_an_error(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"frame|part"):
        Frames().feed(stream)


@given(st.binary(max_size=300))
def test_a_frame_of_ours_is_whole_and_masked(payload: bytes) -> None:
    made = frame(payload)
    assert made[0] == 0x82
    assert made[1] & 0x80
    start = 2 if len(payload) < 126 else 4
    mask, masked = made[start : start + 4], made[start + 4 :]
    assert bytes(byte ^ mask[at % 4] for at, byte in enumerate(masked)) == payload
