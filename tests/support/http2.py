"""An HTTP/2 connection in memory: an echo, a transport that keeps bytes, and the library h2 as client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any

import h2.config
import h2.connection
import h2.events

from mendel.transports.http2.application import Limits, Shared
from mendel.transports.http2.connection import Connection
from mendel.transports.http2.frames import FRAME, PREFACE, settings_frame
from mendel.transports.http2.header_blocks import encode_block
from mendel.transports.http2.request_headers import Request
from mendel.transports.http2.stream import Refusal, Stream

HEADERS = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "x")]
BLOCK = encode_block([(b":status", b"200"), (b"content-type", b"text/plain")])
TRAILERS = encode_block([(b"grpc-status", b"0")])


def limits(**given: Any) -> Limits:
    """Limits of a server, all of them one second or more."""
    usual = {
        "header_bytes": 1 << 16,
        "header_timeout": 10.0,
        "body_bytes": 1 << 27,
        "body_timeout": 30.0,
        "memory_bytes": 1 << 29,
        "idle_timeout": 75.0,
        "max_age": 300.0,
        "drain_timeout": 30.0,
        "max_connections": 100,
    }
    return Limits(**(usual | given))


class Head:
    """What the echo makes of headers."""

    def __init__(self, path: bytes) -> None:
        self.streams = path == b"/streams"
        self.held = path == b"/held"
        self.refusal = encode_block([(b":status", b"404")]) if path == b"/refused" else None


class Echo:
    """Answers a request with its body; ``/held`` waits for :meth:`let_go`, and ``/streams`` echoes part by part."""

    def __init__(self) -> None:
        self.held: list[Stream] = []
        self.cancelled_streams: list[Stream] = []
        self.refusals: list[Refusal] = []

    def head(self, request: Request) -> Head:
        return Head(request.path)

    def rejected(self, stream: Stream) -> None:
        stream.connection.respond_empty(stream, stream.request.head.refusal)

    def admits(self, stream: Stream) -> bool:
        if stream.request.path != b"/denied":
            return True
        stream.connection.respond_empty(stream, encode_block([(b":status", b"401")]))
        return False

    def opened(self, stream: Stream) -> None:
        stream.connection.start(stream, BLOCK)
        stream.sink = lambda part: stream.connection.send(stream, part)

    def completed(self, stream: Stream) -> None:
        if stream.sink is not None:
            stream.connection.end(stream, TRAILERS)
        elif stream.request.head.held:
            self.held.append(stream)
        else:
            stream.connection.respond(stream, BLOCK, bytes(stream.body or b""), TRAILERS)

    def refused(self, stream: Stream, refusal: Refusal) -> None:
        self.refusals.append(refusal)
        stream.connection.respond_empty(stream, encode_block([(b":status", b"413")]))

    def cancelled(self, stream: Stream) -> None:
        self.cancelled_streams.append(stream)

    def let_go(self) -> None:
        """Answer the requests that are held."""
        for stream in self.held:
            stream.connection.respond(stream, BLOCK, bytes(stream.body or b""), TRAILERS)
        self.held.clear()


class MemoryTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = self.ended = self.aborted = self.paused = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Link:
    """
    A connection of a server over a transport in memory, driven without a running event loop.

    It belongs to the server of *beside*, or to a server of its own with limits as *given*.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, beside: Link | None = None, **given: Any) -> None:
        self.echo = Echo() if beside is None else beside.echo
        self.shared = Shared(self.echo, limits(**given), loop, time.monotonic) if beside is None else beside.shared
        self.transport = MemoryTransport()
        self.connection = Connection(self.shared, admit=lambda _: True, left=lambda _: None)
        self.connection.connection_made(self.transport)
        self._loop = loop

    def receive(self, *parts: bytes) -> None:
        """Give *parts* to the server, each as one read."""
        for part in parts:
            if not self.transport.closed:
                self.connection.data_received(part)
        self.turn()

    def turn(self) -> None:
        """Run what was scheduled on the event loop."""
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.run_until_complete(asyncio.sleep(0))

    def sent(self) -> bytes:
        """Take what the server has sent."""
        self.turn()
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return data

    def greet(self) -> None:
        """Send the preface and settings, and drop the server's greeting."""
        self.receive(PREFACE + settings_frame(()))
        self.sent()

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """Take the frames that the server has sent: type, flags, stream and payload."""
        return list(split(self.sent()))


def split(data: bytes) -> Iterable[tuple[int, int, int, bytes]]:
    """Cut *data* into frames."""
    place = 0
    while place < len(data):
        upper, lower, kind, flags, number = FRAME.unpack_from(data, place)
        start = place + FRAME.size
        place = start + (upper << 8 | lower)
        yield kind, flags, number, data[start:place]


def request_block(path: bytes = b"/echo", *more: tuple[bytes, bytes]) -> bytes:
    """The header block of a request, without the dynamic table."""
    pseudo = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x")]
    return b"".join(
        b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value for name, value in (*pseudo, *more)
    )


class H2Client:
    """The library h2 as the client of a link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self.bodies: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.unread: list[tuple[int, int]] = []
        self.events: list[Any] = []

    def listen(self) -> None:
        """Read what the server has sent."""
        for event in self.h2.receive_data(self.link.sent()):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.bodies.setdefault(event.stream_id, bytearray()).extend(event.data)
                self.unread.append((event.stream_id, event.flow_controlled_length))
            elif isinstance(event, h2.events.StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, h2.events.StreamReset):
                self.resets[event.stream_id] = event.error_code
