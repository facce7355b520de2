"""A peer that breaks HTTP/2 gets the error code that RFC 9113 names, on the stream or on the connection."""

from __future__ import annotations

import struct

import pytest

from mendel.transports.http2.frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ErrorCode,
    frame,
    goaway,
    reset,
    settings_frame,
    window_update,
)
from support.http2 import Link, request_block

OPEN = frame(HEADERS, 0x4, 1, request_block(b"/held"))
ASKED = frame(HEADERS, 0x5, 1, request_block(b"/held"))
E = ErrorCode
CONNECTION_ERRORS = {
    "a frame that is too large": (frame(DATA, 0, 1, bytes(16_385)), E.FRAME_SIZE_ERROR),
    "DATA on stream 0": (frame(DATA, 0, 0, b"x"), E.PROTOCOL_ERROR),
    "DATA on an idle stream": (frame(DATA, 0, 5, b"x"), E.PROTOCOL_ERROR),
    "DATA on a stream that was answered": (
        frame(HEADERS, 0x5, 1, request_block()) + frame(DATA, 1, 1, b"x"),
        E.STREAM_CLOSED,
    ),
    "padding longer than DATA": (OPEN + frame(DATA, 0x8, 1, b"\x05abc"), E.PROTOCOL_ERROR),
    "DATA without the length of its padding": (OPEN + frame(DATA, 0x8, 1), E.FRAME_SIZE_ERROR),
    "HEADERS on stream 0": (frame(HEADERS, 0x5, 0, request_block()), E.PROTOCOL_ERROR),
    "HEADERS on an even stream": (frame(HEADERS, 0x5, 2, request_block()), E.PROTOCOL_ERROR),
    "HEADERS on a stream that was answered": (frame(HEADERS, 0x5, 1, request_block()) * 2, E.STREAM_CLOSED),
    "HEADERS without room for a priority": (frame(HEADERS, 0x24, 1, b"abc"), E.FRAME_SIZE_ERROR),
    "a block that is no HPACK": (frame(HEADERS, 0x5, 1, b"\xff\xff\xff\xff"), E.COMPRESSION_ERROR),
    "a frame within a header block": (frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, bytes(8)), E.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (frame(HEADERS, 0, 1) + frame(CONTINUATION, 4, 3), E.PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, 4, 1), E.PROTOCOL_ERROR),
    "a header block without end": (
        frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, bytes(16_384)) * 9,
        E.ENHANCE_YOUR_CALM,
    ),
    "a header list far beyond the limit": (
        frame(HEADERS, 0x4, 1, request_block() + b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4_000 + b"\xbe" * 100),
        E.ENHANCE_YOUR_CALM,
    ),
    "PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), E.PROTOCOL_ERROR),
    "PRIORITY of four bytes": (frame(PRIORITY, 0, 1, bytes(4)), E.FRAME_SIZE_ERROR),
    "RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), E.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (reset(1, E.CANCEL), E.PROTOCOL_ERROR),
    "RST_STREAM of three bytes": (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), E.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(SETTINGS, 0, 1), E.PROTOCOL_ERROR),
    "SETTINGS of five bytes": (frame(SETTINGS, 0, 0, bytes(5)), E.FRAME_SIZE_ERROR),
    "an acknowledgement with settings": (frame(SETTINGS, 1, 0, bytes(6)), E.FRAME_SIZE_ERROR),
    "ENABLE_PUSH of 2": (settings_frame([(2, 2)]), E.PROTOCOL_ERROR),
    "a first window that is too large": (settings_frame([(4, 1 << 31)]), E.FLOW_CONTROL_ERROR),
    "MAX_FRAME_SIZE below its minimum": (settings_frame([(5, 100)]), E.PROTOCOL_ERROR),
    "MAX_FRAME_SIZE beyond its maximum": (settings_frame([(5, 1 << 24)]), E.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, 4, 1, bytes(4)), E.PROTOCOL_ERROR),
    "PING on a stream": (frame(PING, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    "PING of seven bytes": (frame(PING, 0, 0, bytes(7)), E.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), E.PROTOCOL_ERROR),
    "GOAWAY of four bytes": (frame(GOAWAY, 0, 0, bytes(4)), E.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of 0": (window_update(0, 0), E.PROTOCOL_ERROR),
    "WINDOW_UPDATE of three bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), E.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE on an idle stream": (window_update(1, 1), E.PROTOCOL_ERROR),
    "a window of the connection beyond its maximum": (window_update(0, (1 << 31) - 1), E.FLOW_CONTROL_ERROR),
    "a window of a stream beyond its maximum, by SETTINGS": (
        ASKED + window_update(1, 1 << 30) + settings_frame([(4, (1 << 31) - 1)]),
        E.FLOW_CONTROL_ERROR,
    ),
}
STREAM_ERRORS = {
    "HEADERS with a missing path": (frame(HEADERS, 0x5, 1, request_block(b"")), E.PROTOCOL_ERROR),
    "a name in upper case": (frame(HEADERS, 0x5, 1, request_block(b"/", (b"A", b"1"))), E.PROTOCOL_ERROR),
    "DATA after its end": (ASKED + frame(DATA, 0, 1, b"x"), E.STREAM_CLOSED),
    "HEADERS after its end": (ASKED + frame(HEADERS, 0x5, 1, b"\0\x01a\x01b"), E.STREAM_CLOSED),
    "trailers that are not the end": (OPEN + frame(HEADERS, 0x4, 1, b"\0\x01a\x01b"), E.PROTOCOL_ERROR),
    "trailers with a line break": (OPEN + frame(HEADERS, 0x5, 1, b"\0\x01a\x01\n"), E.PROTOCOL_ERROR),
    "trailers of the connection": (OPEN + frame(HEADERS, 0x5, 1, b"\0\x07upgrade\x01a"), E.PROTOCOL_ERROR),
    "trailers that are too large": (
        OPEN + frame(HEADERS, 0x5, 1, b"\x40\x01a\x7f\xa1\x1e" + b"v" * 4_000 + b"\xbe" * 20),
        E.PROTOCOL_ERROR,
    ),
    "a value with a space behind it": (frame(HEADERS, 0x5, 1, request_block(b"/", (b"a", b"1 "))), E.PROTOCOL_ERROR),
    "trailers with a path": (OPEN + frame(HEADERS, 0x5, 1, b"\x84"), E.PROTOCOL_ERROR),
    "less than the announced body": (
        frame(HEADERS, 0x4, 1, request_block(b"/echo", (b"content-length", b"2"))) + frame(DATA, 1, 1, b"x"),
        E.PROTOCOL_ERROR,
    ),
    "WINDOW_UPDATE of 0": (ASKED + window_update(1, 0), E.PROTOCOL_ERROR),
    "a window beyond its maximum": (ASKED + window_update(1, (1 << 31) - 1), E.FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION_ERRORS)
def test_errors_of_the_connection(make_link, name):
    """The last frame is GOAWAY with the code, the connection is closed, and what follows is ignored."""
    sent, code = CONNECTION_ERRORS[name]
    link = make_link()
    link.receive(sent, frame(PING, 0, 0, bytes(8)))
    kind, _, number, payload = link.frames()[-1]
    assert (kind, number, struct.unpack_from(">L", payload, 4)[0]) == (GOAWAY, 0, code)
    assert link.transport.closed


@pytest.mark.parametrize("name", STREAM_ERRORS)
def test_errors_of_a_stream(make_link, name):
    """The stream is reset with the code, and other streams are answered."""
    sent, code = STREAM_ERRORS[name]
    link = make_link()
    link.receive(sent)
    assert (RST_STREAM, 0, 1, struct.pack(">L", code)) in link.frames()
    link.receive(frame(DATA, 0, 1, b"on its way"), frame(HEADERS, 0x4, 3, request_block()) + frame(DATA, 1, 3, b"x"))
    assert (DATA, 0, 3, b"x") in link.frames()
    link.echo.let_go()
    link.echo.cancelled_streams.clear()
    assert link.shared.streams == 0


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"x", PREFACE + frame(PING, 0, 0, bytes(8))])
def test_what_is_not_http2_is_refused(loop, sent):
    """Another protocol, a wrong preface and a first frame that is not SETTINGS are PROTOCOL_ERROR."""
    link = Link(loop)
    link.receive(*(bytes((byte,)) for byte in sent))
    assert link.frames()[-1][3][4:8] == struct.pack(">L", E.PROTOCOL_ERROR)
    assert link.transport.closed


def test_unknown_frames_and_settings_and_goaway_are_ignored(make_link):
    """What RFC 9113 asks to ignore, and a GOAWAY of the peer, leave the connection as it was."""
    link = make_link()
    link.receive(frame(0x77, 0xFF, 9, b"new"), settings_frame([(0x77, 5)]), goaway(0, E.NO_ERROR, "bye"))
    link.receive(frame(PRIORITY, 0, 7, bytes(5)), frame(HEADERS, 0x2D, 1, b"\x01" + bytes(5) + request_block() + b"p"))
    assert [kind for kind, *_ in link.frames()] == [SETTINGS, HEADERS, DATA, HEADERS]


def test_the_first_block_sets_the_table_to_zero_for_peers_that_set_its_size(make_link):
    """A decoder that lowered the size of its table is told so before the first block, once."""
    link = make_link()
    link.receive(settings_frame([(1, 0)]), *(frame(HEADERS, 0x5, number, request_block()) for number in (1, 3)))
    assert [payload[0] for kind, _, _, payload in link.frames() if kind == HEADERS] == [0x20, 0, 0x88, 0]
