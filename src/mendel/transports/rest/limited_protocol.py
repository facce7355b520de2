"""The connections of the standard server: uvicorn's, with limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mendel.transports.rest.connection_limits import FULL, HEADER_OVERHEAD, MALFORMED, ConnectionLimits
from mendel.transports.rest.http_messages import Response
from mendel.transports.rest.wire_format import CLOSE, head_of


class LimitedProtocol(HttpToolsProtocol):
    """
    A connection of uvicorn that refuses headers that are too large or too slow, and connections beyond the limit.

    When the limit of connections is reached, the connections without a request that have been idle for the longest time
    are closed for new ones.

    Args:
        refused: Called with the status of each refusal.
    """

    def __init__(self, *, limits: ConnectionLimits, refused: Callable[[int], None], **given: Any) -> None:
        super().__init__(**given)
        self._limits, self._refused = limits, refused
        self._since = self.loop.time()
        self._in_head = self._in_body = False
        self._chunk_bytes = self._received_bytes = self._body_bytes = 0

    @property
    def idle_since(self) -> float | None:
        """The second of the loop's clock since which the connection has no request; None while it has one."""
        busy = self._in_head or self._in_body or self._answering
        return None if busy else self._since

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it when the limit is reached and no connection is idle."""
        if len(self.connections) >= self._limits.max_connections:
            for one in self._limits.evicted(c for c in self.connections if isinstance(c, LimitedProtocol)):
                self.connections.discard(one)
                one.transport.close()
        full = len(self.connections) >= self._limits.max_connections
        super().connection_made(transport)
        if full:
            self._refuse(FULL)
            self.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        """Parse *data*; refuse headers, trailers and chunk lengths that are too large."""
        self._chunk_bytes = len(data)
        self._received_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._received_bytes > self._limits.header_bytes:
            self._refuse(self._limits.large_headers)
        elif self._in_body and self._limits.is_padded(received_bytes=self._received_bytes, body_bytes=self._body_bytes):
            self.transport.abort()

    def send_400_response(self, _: str) -> None:
        """Refuse bytes that are no request."""
        if self._in_body and not self.cycle.response_started:
            self._end(MALFORMED)
        else:
            self._refuse(MALFORMED)

    def on_message_begin(self) -> None:
        """Note the beginning of a request."""
        super().on_message_begin()
        self._since = self.loop.time()
        self._in_head, self._received_bytes = True, self._chunk_bytes

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the trailers of a body are none."""
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Start the request, or refuse it if its headers are too large, or do not name the host."""
        size = len(self.url) + sum(len(name) + len(value) + HEADER_OVERHEAD for name, value in self.headers)
        version = self.parser.get_http_version()
        if size > self._limits.header_bytes:
            self._refuse_request(self._limits.large_headers)
        elif version == "1.1" and all(name != b"host" for name, _ in self.headers):
            self._refuse_request(MALFORMED)
        self.expect_100_continue = self.expect_100_continue and version != "1.0"
        super().on_headers_complete()
        self._in_head, self._in_body = False, True
        self._received_bytes, self._body_bytes = self._chunk_bytes, 0

    def on_body(self, body: bytes) -> None:
        """Pass on a part of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        self._in_body, self._received_bytes = False, 0
        self._chunk_bytes = 0  # how much of the next request this chunk has is not known
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note the end of a response."""
        self._since = self.loop.time()
        super().on_response_complete()

    def expire(self, now: float) -> None:
        """Close the connection if its headers, or the rest of a body that nobody reads, take too long, or if idle."""
        waited = now - self._since
        if self.transport.is_closing():
            if waited > self._limits.idle_timeout + self._limits.body_timeout:
                self.transport.abort()  # the caller does not read its last answer
        elif self._in_head:
            if waited > self._limits.header_timeout:
                self._refuse(self._limits.slow_headers)
        elif self._in_body:
            if self.cycle.response_complete and waited > self._limits.body_timeout:
                self.transport.abort()
        elif self.idle_since is not None and waited > self._limits.idle_timeout:
            self.transport.close()

    def _refuse_request(self, response: Response) -> None:
        """Answer the request that begins with *response*, and close the connection behind it."""
        self._refused(response.status)
        self.app = _answer(response)

    def _refuse(self, response: Response) -> None:
        """Answer a connection without a request that runs, and close it; abort it while an answer is being made."""
        if self._answering:
            self.transport.abort()
        else:
            self._end(response)

    def _end(self, response: Response) -> None:
        self._refused(response.status)
        self.transport.write(head_of(response) + CLOSE + response.body)
        self.transport.close()


def _answer(response: Response) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Make an ASGI application that answers every request so, and closes the connection."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        (b"connection", b"close"),
    ]

    async def answer(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    return answer
