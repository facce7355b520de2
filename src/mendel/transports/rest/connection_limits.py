"""Limit what one HTTP connection, and all connections together, may take: header bytes, time, and their number."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mendel.serving import ServingPolicy

SWEEP_EVERY_S: Final = 1.0
"""How often :meth:`LimitedProtocol.expire` is called for each connection."""


_FRAMING: Final = 8
"""No chunked body needs more bytes per byte of content: a chunk of one byte has six bytes with its length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """The limits of the connections of one worker; times in seconds. The attributes are those of ServingPolicy."""

    header_bytes: int
    header_timeout: float
    body_timeout: float
    idle_timeout: float
    max_connections: int

    @classmethod
    def of(cls, policy: ServingPolicy) -> ConnectionLimits:
        """Take the limits from the server's *policy*, which is already divided among the workers."""
        return cls(
            header_bytes=policy.header_bytes,
            header_timeout=policy.header_timeout.total_seconds(),
            body_timeout=policy.body_timeout.total_seconds(),
            idle_timeout=policy.idle_timeout.total_seconds(),
            max_connections=policy.max_connections,
        )


class LimitedProtocol(HttpToolsProtocol):
    """
    A connection of uvicorn that refuses headers that are too large or too slow, and connections beyond the limit.

    When the limit of connections is reached, the connections without a request that have been idle for the longest time
    are closed for new ones.
    """

    def __init__(self, *, limits: ConnectionLimits, **given: Any) -> None:
        super().__init__(**given)
        self._limits = limits
        self._since = self.loop.time()
        self._in_head = self._in_body = False
        self._chunk_bytes = self._received_bytes = self._body_bytes = 0

    @property
    def idle_since(self) -> float | None:
        """The second of the loop's clock since which the connection has no request; None while it has one."""
        busy = self._in_head or self._in_body or (self.cycle is not None and not self.cycle.response_complete)
        return None if busy else self._since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or refuse it when the limit is reached and no connection is idle."""
        if len(self.connections) >= self._limits.max_connections:
            self._close_idle()
        full = len(self.connections) >= self._limits.max_connections
        super().connection_made(transport)
        if full:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The server has too many connections.")
            self.connections.discard(self)

    def _close_idle(self) -> None:
        """Close the connections that have been idle for the longest time, several at once because this is slow."""
        idle = [
            (one.idle_since, id(one), one)
            for one in self.connections
            if isinstance(one, LimitedProtocol) and one.idle_since is not None
        ]
        for _, _, one in heapq.nsmallest(1 + self._limits.max_connections // 20, idle):
            self.connections.discard(one)
            one.transport.close()

    def data_received(self, data: bytes) -> None:
        """Parse *data*; refuse headers, trailers and chunk lengths that are too large."""
        self._chunk_bytes = len(data)
        self._received_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head and self._received_bytes > self._limits.header_bytes:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._header_text())
        elif self._in_body and self._received_bytes > 2 * self._limits.header_bytes + _FRAMING * self._body_bytes:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Note the beginning of a request."""
        super().on_message_begin()
        self._since = self.loop.time()
        self._in_head, self._received_bytes = True, self._chunk_bytes

    def on_headers_complete(self) -> None:
        """Start the request, or answer 431 if its headers are too large."""
        self._in_head, self._in_body = False, True
        self._received_bytes, self._body_bytes = self._chunk_bytes, 0
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._limits.header_bytes:
            self.app = _answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, self._header_text())
        super().on_headers_complete()

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
                text = f"The headers of the request did not arrive within {self._limits.header_timeout:g} s."
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, text)
        elif self._in_body:
            if self.cycle.response_complete and waited > self._limits.body_timeout:
                self.transport.abort()
        elif self.idle_since is not None and waited > self._limits.idle_timeout:
            self.transport.close()

    def _header_text(self) -> str:
        return f"The headers of the request have more than {self._limits.header_bytes} bytes."

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        """Answer a connection without a request that runs, and close it; abort it while an answer is being sent."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        body = json.dumps({"error": text}).encode()
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", "content-type: application/json", "connection: close"]
        if status is HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append("retry-after: 1")
        head = "\r\n".join([*lines, f"content-length: {len(body)}", "\r\n"])
        self.transport.write(head.encode() + body)
        self.transport.close()


def _answer(status: HTTPStatus, text: str) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Make an ASGI application that answers every request so, and closes the connection."""
    body = json.dumps({"error": text}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]

    async def answer(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status.value, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
