"""HTTP requests and responses of the REST server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import orjson

from mendel.errors import DeadlineExceeded, InvalidRequest, Overloaded, TooLarge
from mendel.transports.rest.content_encoding import decompressed, encoding_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"
_MOST_DIGITS = 18
_SMALL_BYTES = 1 << 16
_SOON = timedelta(seconds=1)
_SINGLE = frozenset(
    {
        *(b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"content-length"),
        *(b"inference-header-content-length", b"x-request-id", b"traceparent", b"x-routing-key", b"x-event-time"),
    }
)


@dataclass(slots=True, kw_only=True)
class BodyMemory:
    """
    The memory of the request bodies of one worker: those that arrive, and those whose requests wait for an answer.

    Attributes:
        limit_bytes: The largest sum; bodies up to 64 KiB neither count nor are refused.
    """

    limit_bytes: int
    used_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Request:
    """
    One HTTP request; the body is read when :meth:`body` is called.

    Attributes:
        params: The path segments that matched the placeholders of the route's pattern, by name.
        model: The model's name, which the endpoint sets for the metrics; None until then.
        bodies: The memory in which :meth:`body` counts the body until :meth:`release_body`.
        body_timeout: The time in which the whole body must arrive.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive
    bodies: BodyMemory
    body_timeout: timedelta
    query_string: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str = ""
    model: str | None = None
    _held_bytes: int = 0

    def header(self, name: bytes) -> str | None:
        """Give the value of the header *name*, in lower case; None without the header."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query parameters by name; a repeated parameter has its last value."""
        return dict(parse_qsl(self.query_string.decode("latin-1")))

    @property
    def credential(self) -> str | None:
        """The API key in ``Authorization: Bearer`` or ``X-API-Key``; None without either header."""
        bearer = self.header(b"authorization")
        if bearer is not None and bearer[:7].lower() == "bearer ":
            return bearer[7:].strip()
        return self.header(b"x-api-key")

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters; empty without the header ``Content-Type``."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    async def body(self, limit: int) -> bytes:
        """
        Read the whole body.

        Raises:
            TooLarge: The body has more than *limit* bytes, before or after decompression; the rest is not read.
            UnsupportedContent: The body is compressed in another way than gzip and deflate.
            InvalidRequest: The caller disconnected before the end of the body, or the compressed data are damaged.
            Overloaded: The bodies of too many requests are in memory.
            DeadlineExceeded: The body did not arrive within ``body_timeout``.
        """
        announced = decimal(self.header(b"content-length") or "0")
        if announced is None or announced > limit:
            raise _too_large(limit)
        encoding = encoding_of(self.header(b"content-encoding"))
        try:
            async with asyncio.timeout(self.body_timeout.total_seconds()):
                body = await self._received(limit)
        except TimeoutError:
            raise DeadlineExceeded(
                f"The request body did not arrive within {self.body_timeout.total_seconds():g} s."
            ) from None
        if encoding is not None:
            body = await asyncio.to_thread(decompressed, body, encoding, limit)
            self._hold(len(body))
        return body

    def release_body(self) -> None:
        """Count the body no more, because the request was answered."""
        self.bodies.used_bytes -= self._held_bytes
        self._held_bytes = 0

    def _hold(self, size: int) -> None:
        """Count a body of *size* bytes."""
        more = 0 if size <= _SMALL_BYTES else size - self._held_bytes
        if more > 0 and self.bodies.used_bytes + more > self.bodies.limit_bytes:
            raise Overloaded("The server is reading too many large request bodies.", retry_after=_SOON)
        self._held_bytes += more
        self.bodies.used_bytes += more

    async def _received(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while (message := await self.receive())["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise _too_large(limit)
            self._hold(size)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)
        raise InvalidRequest("The caller closed the connection before the request body was complete.")


def decimal(text: str) -> int | None:
    """
    Parse a whole number of at most 18 ASCII digits; any other text gives None.

    >>> decimal("12"), decimal("\u00b2"), decimal("+1"), decimal("9" * 19)
    (12, None, None, None)
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def repeated_header(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Give the name of the first header that occurs twice but may occur only once; None without such a header."""
    seen = set()
    for name, _ in headers:
        if name in seen and name in _SINGLE:
            return name.decode("latin-1")
        seen.add(name)
    return None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The request body has more than {limit} bytes.", remedy="Send fewer rows per request.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An HTTP response: status, body and content type."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = ()

    async def send(self, send: Send, correlation_id: str) -> None:
        """Send the response with the header ``X-Request-ID``; an empty *correlation_id* sends no such header."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        if correlation_id:
            headers.append((b"x-request-id", correlation_id.encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def json_response(document: Any, *, status: int = 200, headers: Headers = ()) -> Response:
    """Encode *document* as a JSON response; NaN and infinities become null."""
    return Response(status=status, body=orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS), headers=headers)
