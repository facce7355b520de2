"""The framing of gRPC messages in HTTP/2: five bytes before each message, and the header blocks around them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

import grpc

from mendel.transports.grpc.messages import MessageRefused
from mendel.transports.http2.header_blocks import encode_block

_PREFIX: Final = struct.Struct(">BL")
PREFIX_BYTES: Final = _PREFIX.size
_READABLE: Final = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
_FORMAT: Final = ((b":status", b"200"), (b"content-type", b"application/grpc"))
INITIAL: Final = encode_block(_FORMAT)
"""The header block before the messages of a response."""


def framed(message: bytes) -> bytes:
    """Put the five bytes before *message*, which is not compressed."""
    return _PREFIX.pack(0, len(message)) + message


def only_message(body: bytes | bytearray | None) -> tuple[bool, memoryview]:
    """
    Give the only message in *body*; the first value is True when the message is compressed.

    Raises:
        MessageRefused: The body is not exactly one message.
    """
    if not body:
        raise MessageRefused(grpc.StatusCode.UNIMPLEMENTED, "The method takes one message; the call has none.")
    if len(body) >= PREFIX_BYTES:
        compressed, size = _PREFIX.unpack_from(body)
        if compressed <= 1 and size == len(body) - PREFIX_BYTES:
            return bool(compressed), memoryview(body)[PREFIX_BYTES:]
    raise MessageRefused(grpc.StatusCode.INVALID_ARGUMENT, "The body of the call is not exactly one message.")


class MessageParts:
    """Cuts the body of a streaming call into messages; each is at most *most_bytes* long."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffer = bytearray()

    def take(self, part: bytes) -> list[tuple[bool, bytes]]:
        """
        Give the messages that *part* completes, each with True when it is compressed.

        Raises:
            MessageRefused: A message is too large.
        """
        self._buffer += part
        found = []
        while len(self._buffer) >= PREFIX_BYTES:
            compressed, size = _PREFIX.unpack_from(self._buffer)
            if size > self._most_bytes:
                text = f"A message has more than {self._most_bytes} bytes."
                raise MessageRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            if len(self._buffer) < PREFIX_BYTES + size:
                break
            found.append((bool(compressed), bytes(self._buffer[PREFIX_BYTES : PREFIX_BYTES + size])))
            del self._buffer[: PREFIX_BYTES + size]
        return found


def trailers(status: grpc.StatusCode, text: str = "", metadata: Iterable[tuple[str, str]] = ()) -> bytes:
    """Give the header block that ends a response."""
    return encode_block(_ending(status, text, metadata))


def trailers_only(status: grpc.StatusCode, text: str, metadata: Iterable[tuple[str, str]] = ()) -> bytes:
    """Give the header block of a response without messages."""
    return encode_block((*_FORMAT, *_ending(status, text, metadata)))


def _ending(status: grpc.StatusCode, text: str, metadata: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    headers = [(b"grpc-status", b"%d" % status.value[0])]
    if text:
        headers.append((b"grpc-message", quote(text, safe=_READABLE).encode()))
    return headers + [(name.encode(), value.encode()) for name, value in metadata]
