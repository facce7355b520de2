"""Decompress request bodies (gzip, deflate), with a limit on the decompressed size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from mendel.errors import InvalidRequest, TooLarge, UnsupportedContent

_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_KNOWN: Final = "gzip, deflate, identity"
_ZLIB_METHOD: Final = 8
_MOST_MEMBERS: Final = 100
"""The most members of a gzip body: the rest of the body is copied for each member, which costs time."""
_CHUNK: Final = 1 << 20
QUICK_BYTES: Final = 4096
"""Compressed data up to this size have at most 4 MiB, so that they are decompressed on the event loop."""


def encoding_of(header: str | None) -> str | None:
    """
    Read the header ``Content-Encoding``; None means an uncompressed body.

    Raises:
        UnsupportedContent: The encoding is not gzip or deflate, or there are several encodings.

    >>> encoding_of("x-gzip"), encoding_of("identity"), encoding_of(None)
    ('gzip', None, None)
    """
    encoding = (header or "").strip().lower().removeprefix("x-")
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "deflate"}:
        return encoding
    raise UnsupportedContent("The Content-Encoding of the body is not supported.", remedy=f"Use one of {_KNOWN}.")


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """
    Decompress *body*; a large body takes so long that it belongs in a thread.

    Raises:
        TooLarge, InvalidRequest: As for :func:`decompressed_parts`.
    """
    return b"".join(decompressed_parts(body, encoding, limit))


def decompressed_parts(body: bytes, encoding: str, limit: int) -> Iterator[bytes]:
    """
    Decompress *body* in parts of at most 1 MiB.

    Raises:
        TooLarge: The decompressed body has more than *limit* bytes; the rest is not decompressed.
        InvalidRequest: The body does not have the stated encoding, or ends too early.
    """
    size = 0
    try:
        for part in _members(body) if encoding == "gzip" else _pieces(_deflate(body), body):
            size += len(part)
            if size > limit:
                raise TooLarge(
                    f"The decompressed request body has more than {limit} bytes.", remedy="Send fewer rows per request."
                )
            yield part
    except zlib.error as error:
        raise InvalidRequest(f"The request body is not valid {encoding} data.") from error


def _deflate(body: bytes) -> zlib._Decompress:
    """Make a decompressor for deflate data: in zlib's format as in RFC 9110, or raw as some clients send."""
    wrapped = len(body) > 1 and body[0] & 0x0F == _ZLIB_METHOD and not (body[0] << 8 | body[1]) % 31
    return zlib.decompressobj(zlib.MAX_WBITS if wrapped else _RAW_DEFLATE)


def _members(body: bytes) -> Iterator[bytes]:
    """Decompress the members of a gzip file, which follow each other."""
    rest = body
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(_GZIP)
        yield from _pieces(member, rest)
        rest = member.unused_data
        if not rest:
            return
    raise InvalidRequest(f"The compressed request body has more than {_MOST_MEMBERS} gzip members.")


def _pieces(member: zlib._Decompress, compressed: bytes) -> Iterator[bytes]:
    while not member.eof:
        piece = member.decompress(compressed, _CHUNK)
        yield piece
        compressed = member.unconsumed_tail
        if not piece and not compressed and not member.eof:
            raise InvalidRequest("The compressed request body ends too early.")
