"""The filter of a ZMQ connection passes messages on unchanged, however they arrive, and cuts too large ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.transports.zmq.message_filter import MAX_FRAMES, REFUSED, HandshakeFilter, MessageFilter

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\0NULL" + bytes(48)
READY = b"\x04\x06\x05READY"
MOST = 1_000


def frame(content: bytes, *, more: bool) -> bytes:
    if len(content) < 256:
        return bytes((more, len(content))) + content
    return bytes((more | 2,)) + len(content).to_bytes(8) + content


def message(*contents: bytes) -> bytes:
    return b"".join(frame(content, more=place < len(contents) - 1) for place, content in enumerate(contents))


def passed(sent: bytes, cuts: list[int]) -> bytes | None:
    """What the filter passes on of *sent*, which arrives in pieces."""
    filter_ = MessageFilter(MOST)
    places = [0, *sorted(cut % (len(sent) + 1) for cut in cuts), len(sent)]
    pieces = [filter_(sent[start:end]) for start, end in pairwise(places) if end > start]
    return None if None in pieces else b"".join(pieces)  # type: ignore[arg-type]


def expected(contents: list[bytes]) -> bytes:
    """What must be passed on of a message with the frames *contents*."""
    frames, size, kept = 0, 0, b""
    for place, content in enumerate(contents):
        frames, size = frames + 1, size + len(content)
        last = place == len(contents) - 1
        if frames > MAX_FRAMES or size > MOST:
            return kept + frame(REFUSED, more=False)
        kept += frame(content, more=not last)
    return kept


CONTENTS = st.lists(st.binary(max_size=40) | st.integers(200, 1_200).map(bytes), min_size=1, max_size=25)


@given(st.lists(CONTENTS, max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
def test_messages_are_passed_or_replaced(messages, cuts):
    """Small messages pass unchanged; a larger one keeps its first frames, and its last frame says that it was cut."""
    sent = GREETING + READY + b"".join(message(*contents) for contents in messages)
    want = GREETING + READY
    for contents in messages:
        want += expected(contents)
    assert passed(sent, cuts) == want


def test_an_endless_message_costs_no_memory():
    """Frames without an end are swallowed, and a heartbeat between them is passed on."""
    filter_ = MessageFilter(MOST)
    filter_(GREETING)
    chunk = frame(bytes(500), more=True)
    assert sum(len(filter_(chunk) or b"") for _ in range(1_000)) == 2 * len(chunk)
    assert filter_(b"\x04\x05\4PING") == b"\x04\x05\4PING"
    assert filter_(frame(b"", more=False)) == frame(REFUSED, more=False)
    assert filter_(message(b"{}")) == message(b"{}")


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\n", b"\x01\0", b"\xff" + bytes(8) + b"\x7f\x01", GREETING + b"\x06" + (1 << 20).to_bytes(8)],
    ids=["HTTP", "ZMTP 1", "ZMTP 2", "a huge command"],
)
def test_what_is_not_zmtp_3_is_refused(sent):
    """The connection is closed when the greeting is another protocol's, or a command is too large."""
    assert passed(sent, []) is None


HANDSHAKE = GREETING + b"\x04\xc8" + bytes(200) + b"\x06" + (300).to_bytes(8) + bytes(300)


@given(st.lists(st.integers(0, 10_000), max_size=12))
def test_encrypted_connections_pass_however_they_arrive(cuts):
    """The handshake and what follows it, which may be large, is passed on unchanged."""
    filter_, sent = HandshakeFilter(), HANDSHAKE + frame(bytes(100_000), more=False)
    places = [0, *sorted(cut % (len(HANDSHAKE) + 1) for cut in cuts), len(sent)]
    assert b"".join(filter_(sent[start:end]) for start, end in pairwise(places)) == sent


@pytest.mark.parametrize("place", [len(GREETING), len(GREETING) + 202], ids=["HELLO", "INITIATE"])
def test_a_huge_handshake_is_refused(place):
    """A caller that is not known yet may not send a command of megabytes."""
    assert HandshakeFilter()(HANDSHAKE[:place] + b"\x06" + (1 << 20).to_bytes(8)) is None
