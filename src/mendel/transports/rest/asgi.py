"""The REST application as an ASGI application, the form in which uvicorn runs it (``serving.doors: standard``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from mendel.errors import InvalidRequest
from mendel.transports.rest.application import RestApplication
from mendel.transports.rest.http_messages import Request, Response, late_body, path_of, repeated_header, too_large

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(slots=True, kw_only=True, eq=False)
class AsgiRequest(Request):
    """
    A request whose body arrives in messages of ASGI; the whole body must arrive within *body_timeout* seconds.

    Attributes:
        unasked: True when the caller waits for ``100 Continue``, which reading the body sends.
    """

    receive: Receive
    body_timeout: float
    unasked: bool

    async def _received(self, limit: int) -> bytes:
        self.unasked = False
        try:
            async with asyncio.timeout(self.body_timeout):
                return await self._joined(limit)
        except TimeoutError:
            raise late_body(self.body_timeout) from None

    async def _joined(self, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        while (message := await self.receive())["type"] == "http.request":
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > limit:
                raise too_large(limit)
            self.hold_body(size)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)
        raise InvalidRequest("The caller closed the connection before the request body was complete.")


class AsgiApplication:
    """The ASGI application that answers requests with *application*."""

    def __init__(self, application: RestApplication) -> None:
        self._application = application
        self._body_timeout = application.kernel.policy.body_timeout.total_seconds()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"The REST server does not support the ASGI protocol {scope['type']!r}.")
        application = self._application
        headers = dict(scope["headers"])
        request = AsgiRequest(
            method=scope["method"],
            path=path_of(scope["raw_path"]),
            headers=headers,
            bodies=application.bodies,
            began=application.kernel.steady(),
            query_string=scope["query_string"],
            repeated=None if len(headers) == len(scope["headers"]) else repeated_header(scope["headers"]),
            receive=receive,
            body_timeout=self._body_timeout,
            unasked=headers.get(b"expect", b"").lower() == b"100-continue" and scope["http_version"] != "1.0",
        )
        preflight = application.preflight(request)
        if preflight is not None:
            await _send(preflight, send, "", closing=request.unasked)
            return
        request.correlation_id = application.correlation_id(request)
        try:
            response = application.granted(request, await application.answer(request))
        finally:
            request.release_body()
        await _send(response, send, request.correlation_id, closing=request.unasked)
        application.count([(request, response.status)])


async def _send(response: Response, send: Send, correlation_id: str, *, closing: bool) -> None:
    """
    Send *response* with the header ``X-Request-ID``; an empty *correlation_id* sends no such header.

    *closing* ends the connection, because what follows may be the body of this request or the next request.
    """
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *response.headers,
    ]
    if correlation_id:
        headers.append((b"x-request-id", correlation_id.encode()))
    if closing:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
