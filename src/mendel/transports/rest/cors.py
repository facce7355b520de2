"""Answer cross-origin requests of browsers, as the CORS protocol of the Fetch standard (section 3.2) defines."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mendel.projects import Cors
from mendel.transports.rest.http_messages import Headers, Message, Receive, Response, Send, json_response

Asgi = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]
_METHODS = "GET, HEAD, OPTIONS, POST"
_EXPOSED = (b"access-control-expose-headers", b"retry-after, x-request-id")
_MAX_AGE_S = b"600"
_ANY = "*"


class CrossOrigin:
    """
    Adds CORS headers to the answers of *app*, so that web pages of the allowed origins can read them.

    Requests without the header ``Origin`` are passed on unchanged. For an origin that is not allowed, a preflight is
    refused with 400, and other answers lack the CORS headers. With the origin ``*``, credentials are not allowed.
    """

    def __init__(self, app: Asgi, cors: Cors) -> None:
        self._app, self._cors = app, cors
        self._anybody = _ANY in cors.allow_origins
        self._credentials = cors.allow_credentials and not self._anybody
        self._methods = _METHODS if _ANY in cors.allow_methods else ", ".join(cors.allow_methods)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a preflight request, or let *app* answer and add the CORS headers."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin")
        if origin is None:
            await self._app(scope, receive, send)
            return
        wanted = headers.get(b"access-control-request-method")
        if scope["method"] == "OPTIONS" and wanted is not None:
            asked = headers.get(b"access-control-request-headers", b"")
            await self._preflight(origin, wanted.decode("latin-1"), asked.decode("latin-1")).send(send, "")
            return
        more = self._grant(origin)

        async def send_granted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *more]
            await send(message)

        await self._app(scope, receive, send_granted)

    def _allowed(self, origin: bytes) -> bool:
        return self._anybody or origin.decode("latin-1") in self._cors.allow_origins

    def _grant(self, origin: bytes) -> Headers:
        if not self._allowed(origin):
            return ((b"vary", b"Origin"),)
        if self._anybody:
            return ((b"access-control-allow-origin", b"*"), _EXPOSED)
        with_credentials = ((b"access-control-allow-credentials", b"true"),) if self._credentials else ()
        return ((b"access-control-allow-origin", origin), (b"vary", b"Origin"), _EXPOSED, *with_credentials)

    def _preflight(self, origin: bytes, method: str, asked: str) -> Response:
        refused = self._refusal(origin, method, asked)
        if refused is not None:
            return json_response({"error": refused}, status=400, headers=((b"vary", b"Origin"),))
        granted: Headers = (
            *(header for header in self._grant(origin) if header is not _EXPOSED),
            (b"access-control-allow-methods", self._methods.encode()),
            (b"access-control-max-age", _MAX_AGE_S),
        )
        if asked:
            granted = (*granted, (b"access-control-allow-headers", asked.encode("latin-1")))
        return Response(status=200, headers=granted)

    def _refusal(self, origin: bytes, method: str, asked: str) -> str | None:
        cors = self._cors
        if not self._allowed(origin):
            return f"The origin {origin.decode('latin-1')} is not in server.cors.allow_origins."
        if _ANY not in cors.allow_methods and method not in cors.allow_methods:
            return f"The method {method} is not in server.cors.allow_methods."
        known = {name.lower() for name in cors.allow_headers}
        strange = [name for part in asked.split(",") if (name := part.strip().lower()) and name not in known]
        if strange and _ANY not in known:
            return f"The header {strange[0]} is not in server.cors.allow_headers."
        return None
