"""An httpx transport that calls an ASGI application in this process instead of sending requests over a socket."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from typing import Any

import anyio
import anyio.from_thread
import httpx

AsgiApp = Callable[..., Coroutine[Any, Any, None]]


class InProcessTransport(httpx.BaseTransport):
    """
    Answers each request by running the ASGI application *app* on an event loop in a separate thread.

    Request and response bodies are read completely into memory. :meth:`close` stops the thread.
    """

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._starting: AbstractContextManager[anyio.from_thread.BlockingPortal] = (
            anyio.from_thread.start_blocking_portal()
        )
        self._portal = self._starting.__enter__()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Call the application for *request*, and give its response."""
        body = b"".join(_chunks(request.stream))
        return self._portal.call(self._call, request, body)

    def close(self) -> None:
        """Stop the event loop and its thread."""
        self._starting.__exit__(None, None, None)

    async def _call(self, request: httpx.Request, body: bytes) -> httpx.Response:
        url = request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 0),
        }
        messages = [{"type": "http.request", "body": body, "more_body": False}]
        status, headers, parts = 500, [], []

        async def receive() -> dict[str, Any]:
            if not messages:
                await anyio.sleep_forever()  # a caller in the same process never disconnects
            return messages.pop()

        async def send(message: dict[str, Any]) -> None:
            nonlocal status, headers
            if message["type"] == "http.response.start":
                status, headers = message["status"], message.get("headers", [])
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        return httpx.Response(status, headers=headers, content=b"".join(parts), request=request)


def _chunks(stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> Iterator[bytes]:
    if isinstance(stream, httpx.AsyncByteStream) and not isinstance(stream, httpx.SyncByteStream):
        raise TypeError("InProcessTransport needs a synchronous request body")
    yield from stream
