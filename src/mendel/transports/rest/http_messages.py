"""HTTP requests and responses of the REST server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from mendel.errors import InvalidRequest, TooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
JSON = b"application/json"


@dataclass(slots=True, kw_only=True)
class Request:
    """
    One HTTP request; the body is read when :meth:`body` is called.

    Attributes:
        params: The path segments that matched the placeholders of the route's pattern, by name.
        model: The model's name, which the endpoint sets for the metrics; None until then.
    """

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    receive: Receive
    query_string: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str = ""
    model: str | None = None

    def header(self, name: bytes) -> str | None:
        """Give the value of the header *name*, in lower case; None without the header."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; of a repeated parameter, the last value."""
        return dict(parse_qsl(self.query_string.decode("latin-1")))

    @property
    def credential(self) -> str | None:
        """The API key in ``Authorization: Bearer`` or ``X-API-Key``; None without either header."""
        bearer = self.header(b"authorization")
        if bearer is not None and bearer[:7].lower() == "bearer ":
            return bearer[7:].strip()
        return self.header(b"x-api-key")

    async def body(self, limit: int) -> bytes:
        """
        Read the whole body.

        Raises:
            TooLarge: The body has more than *limit* bytes; the rest is not read.
            InvalidRequest: The caller disconnected before the end of the body.
        """
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise TooLarge(
                f"The request body has {announced} bytes; at most {limit} are allowed.",
                remedy="Send fewer rows per request.",
            )
        message = await self.receive()
        if not message.get("more_body") and message["type"] == "http.request":
            return bytes(message.get("body", b""))
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise TooLarge(f"The request body has more than {limit} bytes.", remedy="Send fewer rows per request.")
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()
        raise InvalidRequest("The caller closed the connection before the request body was complete.")


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
