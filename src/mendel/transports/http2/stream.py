"""The state of one HTTP/2 stream: a request and its response."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mendel.transports.http2.request_headers import Request


class Refusal(Enum):
    """Why the connection reads no more of a request."""

    HEADERS_TOO_LARGE = "headers too large"
    BODY_TOO_LARGE = "body too large"
    BODY_TOO_SLOW = "body too slow"
    TOO_MUCH_MEMORY = "too many bodies in memory"


class Responding(Protocol):
    """The connection of a stream, as an application sees it: every response goes through it."""

    def respond(self, stream: Stream, block: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole response: the header block, the body, and the block of trailers."""

    def respond_empty(self, stream: Stream, block: bytes) -> None:
        """Send a response that is only a header block."""

    def start(self, stream: Stream, block: bytes) -> None:
        """Send the header block of a response whose body follows."""

    def send(self, stream: Stream, part: bytes) -> None:
        """Send a part of a response's body."""

    def end(self, stream: Stream, trailers: bytes) -> None:
        """End a response with a block of trailers."""

    def hold(self, stream: Stream, size: int) -> bool:
        """Count *size* bytes as memory of the server until *stream* ends; gives False if that is too much memory."""

    def release(self, stream: Stream) -> None:
        """Count a stream no more that the peer has reset, because the application has ended its work for it."""


class Stream:
    """
    One request on a connection, and its response.

    Attributes:
        began: The second of the event loop's clock in which the headers arrived.
        body: The body as far as it has arrived; None before the first byte.
        complete: Whether the peer has ended its side.
        closed: Whether the response is sent, or the stream is reset.
        abandoned: Whether the peer has reset the stream while the application works on it.
        sink: Takes the parts of the body of a request whose application reads them as they arrive.
        window: How many bytes of DATA the peer allows.
        unacknowledged: Bytes that arrived and were not yet allowed again.
        held_bytes: How much of the body counts as memory of the server.
        pending: Parts of the response that wait for room; *trailers* follow them.
        on_room: Called when nothing waits any more, or the stream is closed.
        waited: Whether a part of the response has had to wait; it counts as memory of the server since then.
        moved_at: When a part of a waiting response of some size was last sent.
        work: The application's own state.
    """

    __slots__ = (
        *("connection", "id", "request", "began", "body", "complete", "closed", "abandoned", "sink", "window"),
        *("unacknowledged", "held_bytes", "pending", "trailers", "moved_at", "on_room", "waited", "work"),
    )

    def __init__(self, connection: Responding, number: int, request: Request, window: int, began: float) -> None:
        self.connection = connection
        self.id = number
        self.request = request
        self.began = began
        self.window = window
        self.body: bytes | bytearray | None = None
        self.complete = self.closed = self.abandoned = self.waited = False
        self.sink: Callable[[bytes], None] | None = None
        self.unacknowledged = self.held_bytes = 0
        self.pending: deque[memoryview] | None = None
        self.trailers: bytes | None = None
        self.moved_at = 0.0
        self.on_room: Callable[[], None] | None = None
        self.work: Any = None

    @property
    def gone(self) -> bool:
        """Whether the peer waits no more for a response."""
        return self.closed
