"""The frames of HTTP/2 (RFC 9113, section 6) as bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME: Final = struct.Struct(">HBBBL")
"""The head of a frame: length (upper 16 bits, lower 8 bits), type, flags, stream."""
HEAD_BYTES: Final = FRAME.size
NUMBER: Final = struct.Struct(">L")
SETTING: Final = struct.Struct(">HL")

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

MAX_WINDOW: Final = (1 << 31) - 1
MAX_STREAM: Final = (1 << 31) - 1
FIRST_WINDOW: Final = 65_535
"""The size of every window before the first SETTINGS and WINDOW_UPDATE."""
MIN_FRAME: Final = 16_384
MAX_FRAME: Final = (1 << 24) - 1


class ErrorCode(IntEnum):
    """The error codes of RST_STREAM and GOAWAY (RFC 9113, section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    """The settings that this server sends or reads (RFC 9113, section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ConnectionFault(Exception):
    """The peer broke the protocol or a limit, so that the connection ends with GOAWAY."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Give one frame as bytes."""
    size = len(payload)
    return FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def settings_frame(settings: Iterable[tuple[Setting, int]]) -> bytes:
    """Give a SETTINGS frame with *settings*."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(key, value) for key, value in settings))


def window_update(stream: int, size: int) -> bytes:
    """Give a WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, NUMBER.pack(size))


def reset(stream: int, code: ErrorCode) -> bytes:
    """Give a RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, NUMBER.pack(code))


def goaway(last: int, code: ErrorCode, text: str = "") -> bytes:
    """Give a GOAWAY frame; streams above *last* were not looked at."""
    return frame(GOAWAY, 0, 0, NUMBER.pack(last) + NUMBER.pack(code) + text.encode())


def header_frames(stream: int, block: bytes, largest: int, *, end: bool) -> bytes:
    """Give HEADERS, and CONTINUATION frames if *block* is longer than the *largest* frame; *end* ends the stream."""
    parts = [block[place : place + largest] for place in range(0, len(block), largest)]
    last = len(parts) - 1
    return b"".join(
        frame(
            CONTINUATION if place else HEADERS,
            (END_HEADERS if place == last else 0) | (END_STREAM if end and not place else 0),
            stream,
            part,
        )
        for place, part in enumerate(parts)
    )
