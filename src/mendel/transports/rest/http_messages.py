"""HTTP requests and responses of the REST server, independent of the form in which they arrive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

import msgspec
import orjson

from mendel.errors import DeadlineExceeded, Overloaded, TooLarge
from mendel.transports.content_encoding import QUICK_BYTES, decompressed, decompressed_parts, encoding_of
from mendel.values import Scope

Headers = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"
SMALL_BYTES = 1 << 16
"""Bodies up to this size do not count in :class:`BodyMemory`."""
_MOST_DIGITS = 18
_SOON = timedelta(seconds=1)
SINGLE = frozenset(
    {
        *(b"host", b"authorization", b"x-api-key", b"content-type", b"content-encoding", b"content-length"),
        *(b"inference-header-content-length", b"x-request-id", b"traceparent", b"x-routing-key", b"x-event-time"),
    }
)
"""The headers that a request may have only once."""


@dataclass(slots=True, kw_only=True)
class BodyMemory:
    """
    The memory of the request bodies of one worker: those that arrive, and those whose requests wait for an answer.

    Attributes:
        limit_bytes: The largest sum; bodies up to 64 KiB neither count nor are refused.
    """

    limit_bytes: int
    used_bytes: int = 0


class FoundRoute(Protocol):
    """The route of a request: the pattern of its path, the scope that the caller needs, and what answers."""

    @property
    def pattern(self) -> str: ...
    @property
    def scope(self) -> Scope | None: ...
    @property
    def endpoint(self) -> Callable[[Any, Any], Awaitable[Response]]: ...


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """
    One HTTP request; the body is read when :meth:`body` is called.

    Attributes:
        bodies: The memory in which the body counts until :meth:`release_body`.
        began: When the request began, in seconds of the kernel's monotonic clock.
        repeated: The header that the request has twice but may have only once; None without such a header.
        route: The route of the request; None until the route is known.
        params: The path segments that matched the placeholders of the route's pattern, by name.
        model: The model's name, which the endpoint sets for the metrics; None until then.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    bodies: BodyMemory
    began: float
    query_string: bytes = b""
    repeated: str | None = None
    route: FoundRoute | None = None
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

    @property
    def pattern(self) -> str:
        """The pattern of the route, for the metrics; empty without a route."""
        return "" if self.route is None else self.route.pattern

    @property
    def gone(self) -> bool:
        """True once nobody waits for the answer any more."""
        return False

    async def body(self, limit: int) -> bytes:
        """
        Read the whole body.

        Raises:
            TooLarge: The body has more than *limit* bytes, before or after decompression; the rest is not read.
            UnsupportedContent: The body is compressed in another way than gzip and deflate.
            InvalidRequest: The caller disconnected before the end of the body, or the compressed data are damaged.
            Overloaded: The bodies of too many requests are in memory.
            DeadlineExceeded: The body did not arrive within ``serving.body_timeout``.
        """
        encoding = self.announced_encoding(limit)
        body = await self._received(limit)
        if encoding is None:
            return body
        if len(body) <= QUICK_BYTES:
            return decompressed(body, encoding, limit)
        return await self._decompressed(body, encoding, limit)

    async def _decompressed(self, body: bytes, encoding: str, limit: int) -> bytes:
        """Decompress *body* part by part in a thread; each part counts before the next is made."""
        pieces = decompressed_parts(body, encoding, limit)
        parts, size = [], 0
        while (part := await asyncio.to_thread(next, pieces, None)) is not None:
            parts.append(part)
            size += len(part)
            self.hold_body(size)
        return b"".join(parts)

    def announced_encoding(self, limit: int) -> str | None:
        """
        Give the encoding of the body, ``gzip`` or ``deflate``; None means an uncompressed body.

        Raises:
            TooLarge: The header ``Content-Length`` announces more than *limit* bytes.
            UnsupportedContent: The encoding is another.
        """
        announced = decimal(self.header(b"content-length") or "0")
        if announced is None or announced > limit:
            raise too_large(limit)
        return encoding_of(self.header(b"content-encoding"))

    async def _received(self, limit: int) -> bytes:
        """Give the body as the caller sent it."""
        raise NotImplementedError

    def hold_body(self, size: int) -> None:
        """
        Count a body of *size* bytes.

        Raises:
            Overloaded: The bodies of too many requests are in memory.
        """
        more = 0 if size <= SMALL_BYTES else size - self._held_bytes
        if more > 0 and self.bodies.used_bytes + more > self.bodies.limit_bytes:
            raise Overloaded("The server is reading too many large request bodies.", retry_after=_SOON)
        self._held_bytes += more
        self.bodies.used_bytes += more

    def release_body(self) -> None:
        """Count the body no more, because the request was answered."""
        self.bodies.used_bytes -= self._held_bytes
        self._held_bytes = 0


def path_of(target: bytes) -> str:
    """
    Decode the path of a request; an encoded slash stays encoded, because it separates no segments.

    >>> path_of(b"/v2/models/a%20b/infer"), path_of(b"/v2%2Frepository")
    ('/v2/models/a b/infer', '/v2%2Frepository')
    """
    path = target.decode("ascii")
    return "/".join(map(_segment, path.split("/"))) if "%" in path else path


def _segment(encoded: str) -> str:
    segment = unquote(encoded)
    return encoded if "/" in segment else segment


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
        if name in seen and name in SINGLE:
            return name.decode("latin-1")
        seen.add(name)
    return None


def too_large(limit: int) -> TooLarge:
    """Build the error for a request body of more than *limit* bytes."""
    return TooLarge(f"The request body has more than {limit} bytes.", remedy="Send fewer rows per request.")


def late_body(seconds: float) -> DeadlineExceeded:
    """Build the error for a request body that did not arrive within *seconds*."""
    return DeadlineExceeded(f"The request body did not arrive within {seconds:g} s.")


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP response: status, body and content type."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = ()


def json_response(document: Any, *, status: int = 200, headers: Headers = ()) -> Response:
    """Encode *document* as a JSON response; NaN and infinities become null."""
    return Response(status=status, body=orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS), headers=headers)
