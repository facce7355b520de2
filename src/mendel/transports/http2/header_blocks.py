"""Decode the header blocks of requests (HPACK, RFC 7541), and encode those of responses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError
from hpack.table import HeaderTable

from mendel.transports.http2.frames import ConnectionFault, ErrorCode
from mendel.transports.http2.request_headers import Request, read_request

Headers = list[tuple[bytes, bytes]]

SIZE_ZERO: Final = b"\x20"
"""Sets the size of our dynamic table to 0: it goes before our first block, which uses no dynamic table."""

_MOST_FIELDS: Final = 256
_MOST_BLOCKS: Final = 16
_MOST_BLOCK_BYTES: Final = 1024
_MOST_HEADER_BYTES: Final = 4096
_STATUSES: Final = {b"200": b"\x88", b"204": b"\x89", b"206": b"\x8a", b"304": b"\x8b", b"400": b"\x8c"}
_STATUSES_BY_NAME: Final = b"\x08"
"""A literal without indexing whose name is that of entry 8 of the static table, ``:status``."""


class _CountingTable(HeaderTable):
    """The dynamic table of a connection, which counts the entries that were ever added."""

    def __init__(self) -> None:
        super().__init__()
        self.added = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.added += 1
        super().add(name, value)


class RequestBlocks:
    """
    Decodes the header blocks of one connection.

    Decoding a block may change the dynamic table, and with it the meaning of later blocks. Therefore only requests
    whose blocks left the table unchanged are kept, and all are forgotten when a block changes the table: an entry is
    added, or the size of the table is set, which a block can do only at its beginning.

    Args:
        most_bytes: The largest size of all names and values of a block.
        make_head: Makes the application's view of a request, once for each block that is decoded.
    """

    def __init__(self, most_bytes: int, make_head: Callable[[Request], object]) -> None:
        self.known: dict[bytes, Request] = {}
        self._make_head = make_head
        self._table = _CountingTable()
        self._decoder = Decoder(max_header_list_size=2 * most_bytes)
        self._decoder.header_table = self._table

    def request(self, block: bytes) -> Request:
        """
        Decode the headers of a request.

        Raises:
            ConnectionFault: The block cannot be decoded, or has far too many headers.
            MalformedRequest: The headers are not those of a request.
        """
        known = self.known.get(block)
        if known is not None:
            return known
        added = self._table.added
        request = read_request(self.decode(block))
        request.head = self._make_head(request)
        if self._table.added == added and not _sets_size(block):
            self._keep(block, request)
        return request

    def decode(self, block: bytes) -> Headers:
        """Decode any header block; raises ConnectionFault if that is not possible."""
        added = self._table.added
        try:
            headers: Headers = list(self._decoder.decode(block, raw=True))
        except OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "The headers of a request are too large.") from None
        except (HPACKError, IndexError):
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "A header block cannot be decoded.") from None
        if len(headers) > _MOST_FIELDS:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "A request has too many headers.")
        if self._table.added != added or _sets_size(block):
            self.known.clear()
        return headers

    def _keep(self, block: bytes, request: Request) -> None:
        if len(block) <= _MOST_BLOCK_BYTES and request.size <= _MOST_HEADER_BYTES:
            if len(self.known) >= _MOST_BLOCKS:
                self.known.clear()
            self.known[block] = request


def _sets_size(block: bytes) -> bool:
    """Whether *block* begins with an update of the table's size, which stands nowhere else in a block."""
    return bool(block) and block[0] & 0xE0 == SIZE_ZERO[0]


def encode_block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """
    Encode the headers of a response; the block depends on no dynamic table and changes none.

    >>> encode_block([(b":status", b"200"), (b"grpc-status", b"0")]).hex(" ")
    '88 00 0b 67 72 70 63 2d 73 74 61 74 75 73 01 30'
    """
    return b"".join(
        (_STATUSES.get(value) or _STATUSES_BY_NAME + encode_text(value))
        if name == b":status"
        else b"\0" + encode_text(name) + encode_text(value)
        for name, value in headers
    )


def encode_text(value: bytes) -> bytes:
    """Encode *value* as a string without Huffman coding."""
    size = len(value)
    if size < 0x7F:  # noqa: PLR2004 - fits the prefix of seven bits
        return bytes((size,)) + value
    size -= 0x7F
    prefix = bytearray(b"\x7f")
    while size > 0x7F:  # noqa: PLR2004 - seven bits per byte
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return bytes(prefix) + value
