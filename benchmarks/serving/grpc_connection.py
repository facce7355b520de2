"""
Ask over gRPC with as little work per call as possible, so that a load generator leaves the cores to the server.

A call of `grpc.aio` costs its client more than it costs a fast server. Here the header block and the message are
encoded once, and a call copies them with its stream number. Only what a client of one constant request needs is here.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
INITIAL_WINDOW, MAX_CONCURRENT = 4, 3
OWN_WINDOW, FIRST_WINDOW = 1 << 30, (1 << 16) - 1
FRAME_HEADER_BYTES = 9
FAILED = -1
Answer = tuple[int, float, bytes]
"""A status (-1: the call was lost), the seconds after which to try again, and the message with its five bytes."""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class Question:
    """One constant request: its header block, which touches no dynamic table, and its message."""

    def __init__(self, path: str, metadata: Iterable[tuple[str, str]], message: bytes) -> None:
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "127.0.0.1"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        ]
        encoder = hpack.Encoder()
        self._block = b"".join(encoder.encode([hpack.NeverIndexedHeaderTuple(*pair)]) for pair in headers)
        self._data = b"\0" + struct.pack(">I", len(message)) + message

    @property
    def size(self) -> int:
        """The bytes that count against windows."""
        return len(self._data)

    def frames(self, stream: int) -> bytes:
        """The whole request on *stream*."""
        return _frame(HEADERS, END_HEADERS, stream, self._block) + _frame(DATA, END_STREAM, stream, self._data)


class Connection(asyncio.Protocol):
    """A connection of HTTP/2 on which calls of one question run side by side."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._transport: Any = None
        self._decoder = hpack.Decoder()
        self._received = b""
        self._next, self._window, self._stream_window, self._most = 1, FIRST_WINDOW, FIRST_WINDOW, 100
        self._asked: dict[int, tuple[asyncio.Future[Answer], bytearray]] = {}
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        self._closing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        settings = struct.pack(">HIHI", 1, 0, INITIAL_WINDOW, OWN_WINDOW)
        update = _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", OWN_WINDOW))
        self._transport.write(PREFACE + _frame(SETTINGS, 0, 0, settings) + update)

    def connection_lost(self, _: Exception | None) -> None:
        self._closing = True
        for asked in [*(future for future, _ in self._asked.values()), *self._waiting]:
            self._end(asked, FAILED, 0.0, b"")
        self._asked.clear()
        self._waiting.clear()

    @property
    def free(self) -> bool:
        """Whether a call would be sent at once."""
        return not self._closing and not self._waiting and self._may_send()

    def _may_send(self) -> bool:
        return len(self._asked) < self._most and min(self._window, self._stream_window) >= self._question.size

    def ask(self) -> asyncio.Future[Answer]:
        """Send the question; it waits in the client while the server allows no more."""
        asked: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        if self._closing:
            self._end(asked, FAILED, 0.0, b"")
            return asked
        self._waiting.append(asked)
        self._send()
        return asked

    def _send(self) -> None:
        written = []
        while self._waiting and self._may_send() and not self._closing:
            self._asked[self._next] = self._waiting.popleft(), bytearray()
            written.append(self._question.frames(self._next))
            self._next += 2
            self._window -= self._question.size
        if written:
            self._transport.write(b"".join(written))

    def data_received(self, data: bytes) -> None:
        data, place = self._received + data, 0
        while len(data) - place >= FRAME_HEADER_BYTES:
            size = int.from_bytes(data[place : place + 3], "big")
            end = place + FRAME_HEADER_BYTES + size
            if len(data) < end:
                break
            kind, flags, stream = struct.unpack_from(">BBI", data, place + 3)
            self._frame_received(kind, flags, stream, data[place + FRAME_HEADER_BYTES : end])
            place = end
        self._received = data[place:]
        self._send()

    def _frame_received(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            if stream in self._asked:
                self._asked[stream][1].extend(payload)
        elif kind == HEADERS:
            self._headers_received(flags, stream, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._settings_received(payload)
        elif kind == PING and not flags & ACK:
            self._transport.write(_frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self._closing = True
            while self._waiting:
                self._end(self._waiting.popleft(), FAILED, 0.0, b"")
        elif kind == RESET and stream in self._asked:
            self._end(self._asked.pop(stream)[0], FAILED, 0.0, b"")

    def _settings_received(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW:
                self._stream_window = value
            elif name == MAX_CONCURRENT:
                self._most = value
        self._transport.write(_frame(SETTINGS, ACK, 0, b""))

    def _headers_received(self, flags: int, stream: int, block: bytes) -> None:
        if not flags & END_HEADERS:
            raise ValueError("the server sent a header block of several frames")
        headers = dict(self._decoder.decode(block))
        if flags & END_STREAM and stream in self._asked:
            asked, message = self._asked.pop(stream)
            retry_s = int(headers.get("retry-after-ms", "0")) / 1000
            self._end(asked, int(headers.get("grpc-status", FAILED)), retry_s, bytes(message))

    @staticmethod
    def _end(asked: asyncio.Future[Answer], status: int, retry_s: float, message: bytes) -> None:
        if not asked.done():
            asked.set_result((status, retry_s, message))


def asking(question: Question, port: int) -> Callable[[], Awaitable[Answer]]:
    """Ask over as many connections as the server's bounds make necessary."""
    connections: deque[Connection] = deque()
    opening = asyncio.Lock()

    async def free() -> Connection:
        for _ in range(len(connections)):
            connections.rotate(1)
            if connections[0].free:
                return connections[0]
        async with opening:
            if connections and connections[0].free:
                return connections[0]
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(question), "127.0.0.1", port)
            connections.appendleft(connection)
            return connection

    async def ask() -> Answer:
        try:
            return await (await free()).ask()
        except OSError:
            return FAILED, 0.0, b""

    return ask
