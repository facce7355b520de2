"""Requests and responses as the REST door's endpoints see them."""

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
    One request; its body is read when it is asked for.

    Attributes:
        params: What the braces of the route's pattern matched.
        model: Filled in by the endpoint as soon as it is known, for the counts.
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
        """The header *name* (lower case), as text."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters; of repeated ones the last."""
        return dict(parse_qsl(self.query_string.decode("latin-1")))

    @property
    def credential(self) -> str | None:
        """The API key, from ``Authorization: Bearer`` or ``X-API-Key``."""
        bearer = self.header(b"authorization")
        if bearer is not None and bearer[:7].lower() == "bearer ":
            return bearer[7:].strip()
        return self.header(b"x-api-key")

    async def body(self, limit: int) -> bytes:
        """
        The whole body.

        Raises:
            TooLarge: It has more than *limit* bytes; no more than that are read.
            InvalidRequest: The caller went away in the middle.
        """
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise TooLarge(f"The body has {announced} bytes, more than {limit}.", remedy="Send fewer rows at once.")
        message = await self.receive()
        if not message.get("more_body") and message["type"] == "http.request":
            return bytes(message.get("body", b""))
        parts: list[bytes] = []
        size = 0
        while message["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise TooLarge(f"The body has more than {limit} bytes.", remedy="Send fewer rows at once.")
            if not message.get("more_body"):
                return b"".join(parts)
            message = await self.receive()
        raise InvalidRequest("The connection closed before the body was complete.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A status, a body and its type."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = JSON
    headers: Headers = ()

    async def send(self, send: Send, correlation_id: str) -> None:
        """Write it; every response carries the correlation id, where there is one."""
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
    """*document* as JSON; NaN and infinities as null."""
    return Response(status=status, body=orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS), headers=headers)
