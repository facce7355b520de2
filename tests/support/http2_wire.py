"""HTTP/2 as bytes, well formed or not, and what a server answers to them: for tests that attack the gRPC doors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 0x1
END_HEADERS, PADDED, PRIORITISED = 0x4, 0x8, 0x20
TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, FIRST_WINDOW, MAX_FRAME = range(1, 6)
HEAD_BYTES = 9
Pair = tuple[bytes, bytes]
CALL: tuple[Pair, ...] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
)
"""The headers of a call."""


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0, length: int | None = None) -> bytes:
    """A frame; *length* is what its head says if that is not the length of *payload*."""
    said = len(payload) if length is None else length
    return said.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs))


def window(increment: int, stream: int = 0) -> bytes:
    return frame(WINDOW_UPDATE, increment.to_bytes(4, "big"), stream=stream)


def reset(stream: int = 1) -> bytes:
    return frame(RST_STREAM, (8).to_bytes(4, "big"), stream=stream)


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """An integer of HPACK behind the highest bits of *first* (RFC 7541, section 5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    coded, value = bytearray((first | most,)), value - most
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*coded, value))


def block(pairs: Iterable[Pair], *, kept: bool = False) -> bytes:
    """A header block of literals; *kept* ones enter the dynamic table."""
    start = b"\x40" if kept else b"\0"
    return b"".join(
        start + integer(len(name), 7) + name + integer(len(value), 7) + value  # no Huffman code
        for name, value in pairs
    )


def headers(pairs: Iterable[Pair] = CALL, *, stream: int = 1, flags: int = END_HEADERS, more: bytes = b"") -> bytes:
    """HEADERS with a block of *pairs*, and *more* bytes of the block behind them."""
    return frame(HEADERS, block(pairs) + more, flags=flags, stream=stream)


def data(body: bytes, *, stream: int = 1, last: bool = True) -> bytes:
    """DATA frames of at most 16 KiB."""
    pieces = [body[start : start + (1 << 14)] for start in range(0, len(body), 1 << 14)] or [b""]
    ends = [0] * (len(pieces) - 1) + [END_STREAM if last else 0]
    return b"".join(frame(DATA, piece, flags=end, stream=stream) for piece, end in zip(pieces, ends, strict=True))


def message(body: bytes, *, flag: int = 0, length: int | None = None) -> bytes:
    """A gRPC message behind its five bytes."""
    return bytes((flag,)) + (len(body) if length is None else length).to_bytes(4, "big") + body


def fields(*pairs: Pair, without: Iterable[bytes] = ()) -> tuple[Pair, ...]:
    """The headers of a call with *pairs* in the place of those of the same name, or behind them."""
    left_out, given, usual = set(without), dict(pairs), {name for name, _ in CALL}
    kept = ((name, given.get(name, value)) for name, value in CALL if name not in left_out)
    return (*kept, *(pair for pair in pairs if pair[0] not in usual))


def call(body: bytes, *pairs: Pair, stream: int = 1) -> bytes:
    """A whole call with one message."""
    return headers(fields(*pairs), stream=stream) + data(message(body), stream=stream)


@dataclass
class Seen:
    """
    What a server sent over one connection so far.

    Attributes:
        goaway: The error code of the last GOAWAY frame.
        resets: Error codes of RST_STREAM, by stream.
        fields: Headers and trailers, by stream.
        sizes: Bytes of DATA, by stream.
        settings: The server's settings, by number.
        greeted: Whether the server's settings have arrived.
        window: What the server gave to the connection besides the first window.
    """

    closed: bool = False
    goaway: int | None = None
    resets: dict[int, int] = field(default_factory=dict)
    fields: defaultdict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    sizes: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    settings: dict[int, int] = field(default_factory=dict)
    greeted: bool = False
    window: int = 0
    _rest: bytes = b""
    _block: bytes = b""
    _decoder: Decoder = field(default_factory=Decoder)

    def grpc(self, stream: int = 1) -> int | None:
        """The gRPC status of a call; None before its trailers came."""
        status = self.fields[stream].get("grpc-status")
        return None if status is None else int(status)

    def feed(self, received: bytes) -> bytes:
        """Read what came; gives the acknowledgements that are due."""
        self._rest += received
        due = b""
        while len(self._rest) >= HEAD_BYTES:
            end = HEAD_BYTES + int.from_bytes(self._rest[:3], "big")
            if len(self._rest) < end:
                break
            kind, flags, stream = self._rest[3], self._rest[4], int.from_bytes(self._rest[5:9], "big")
            payload, self._rest = self._rest[HEAD_BYTES:end], self._rest[end:]
            due += self._take(kind, flags, stream, payload)
        return due

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == DATA:
            self.sizes[stream] += len(payload)
        elif kind in {HEADERS, CONTINUATION}:
            self._block += payload
            if flags & END_HEADERS:
                self.fields[stream].update(self._decoder.decode(self._block))
                self._block = b""
        elif kind == RST_STREAM:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == WINDOW_UPDATE and not stream:
            self.window += int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            pairs = (payload[place : place + 6] for place in range(0, len(payload), 6))
            self.settings |= {int.from_bytes(pair[:2], "big"): int.from_bytes(pair[2:], "big") for pair in pairs}
            self.greeted = True
            return frame(SETTINGS, flags=ACK)
        elif kind == PING and not flags & ACK:
            return frame(PING, payload, flags=ACK)
        return b""
