"""Bodies that callers compressed: decoded within the bound on bodies."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from mendel.errors import InvalidRequest, TooLarge, UnsupportedContent

_GZIP: Final = 16 + zlib.MAX_WBITS
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_KNOWN: Final = "gzip, deflate, identity"
_ZLIB_METHOD: Final = 8
_CHUNK: Final = 1 << 20


def encoding_of(header: str | None) -> str | None:
    """
    Read ``Content-Encoding``; None is a body as it is.

    Raises:
        UnsupportedContent: The encoding is another than gzip and deflate, or several are stacked.

    >>> encoding_of("x-gzip"), encoding_of("identity"), encoding_of(None)
    ('gzip', None, None)
    """
    encoding = (header or "").strip().lower().removeprefix("x-")
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "deflate"}:
        return encoding
    raise UnsupportedContent("The Content-Encoding of the body is unknown.", remedy=f"Use one of {_KNOWN}.")


def decompressed(body: bytes, encoding: str, limit: int) -> bytes:
    """
    Decompress *body*. Blocks for as long as that takes; call it in a thread.

    Raises:
        TooLarge: It has more than *limit* bytes; no more than one piece beyond them is made.
        InvalidRequest: It is not compressed so, or is cut off.
    """
    parts, size = [], 0
    try:
        for part in _members(body) if encoding == "gzip" else _pieces(_deflate(body), body):
            parts.append(part)
            size += len(part)
            if size > limit:
                raise TooLarge(
                    f"The decompressed request body has more than {limit} bytes.", remedy="Send fewer rows per request."
                )
    except zlib.error as error:
        raise InvalidRequest(f"The body is not {encoding}.") from error
    return b"".join(parts)


def _deflate(body: bytes) -> zlib._Decompress:
    """Of zlib's format as RFC 9110 says, or of the bare format that some clients send."""
    wrapped = len(body) > 1 and body[0] & 0x0F == _ZLIB_METHOD and not (body[0] << 8 | body[1]) % 31
    return zlib.decompressobj(zlib.MAX_WBITS if wrapped else _RAW_DEFLATE)


def _members(body: bytes) -> Iterator[bytes]:
    """Decompress the members of a gzip file, which follow each other."""
    rest = body
    while True:
        member = zlib.decompressobj(_GZIP)
        yield from _pieces(member, rest)
        rest = member.unused_data
        if not rest:
            return


def _pieces(member: zlib._Decompress, compressed: bytes) -> Iterator[bytes]:
    while not member.eof:
        piece = member.decompress(compressed, _CHUNK)
        yield piece
        compressed = member.unconsumed_tail
        if not piece and not compressed and not member.eof:
            raise InvalidRequest("The compressed body is cut off.")
