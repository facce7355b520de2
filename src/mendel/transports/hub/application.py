"""The ASGI application of the hub's control API."""

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import uuid4

import structlog
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mendel.errors import Forbidden, InvalidInput, MendelError, NotFound, TooLarge, Unavailable
from mendel.operations import OPERATIONS, HubParts
from mendel.operations.openapi import openapi_document
from mendel.operations.problems import MEDIA_TYPE, status_of, to_problem
from mendel.resilience import fault_of
from mendel.transports.hub.routes import routes_of
from mendel.values import Principal
from mendel.version import __version__

_log = structlog.get_logger("mendel.hub")
OPEN_PATHS = frozenset({"/docs", "/openapi.json"} | {one.url for one in OPERATIONS.values() if one.scope is None})
"""The paths that need no API key."""


def create_app(hub: HubParts, *, hosts: frozenset[str] = frozenset(), opener: Principal | None = None) -> FastAPI:
    """
    Build the ASGI application of the hub.

    Args:
        hosts: Host names that requests may use besides ``localhost``, ``127.0.0.1``, ``::1`` and ``mendel.local``;
            requests for other hosts are refused to prevent DNS rebinding.
        opener: The user who is meant by the key of the data directory; None takes the owner of the key's file.
    """
    app = FastAPI(title="Mendel hub", version=__version__, redoc_url=None, swagger_ui_oauth2_redirect_url=None)
    described = openapi_document(tuple(OPERATIONS.values()), version=__version__)
    app.openapi = lambda: described  # type: ignore[method-assign]
    app.add_middleware(FaultSupervisor)
    app.add_middleware(Gate, allowed=hosts | {"127.0.0.1", "localhost", "::1", "mendel.local"})
    app.add_exception_handler(MendelError, _mendel_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.router.routes.extend(routes_of(OPERATIONS.values(), hub, opener=opener))
    return app


class Gate:
    """
    Refuses requests before they are routed.

    A request is refused with 403 when its ``Host`` or ``Origin`` is not among the allowed hosts, which prevents DNS
    rebinding, and with 404 when its path contains an encoded slash, which would decode to the path of another route.
    """

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the application, or answer 403 or 404."""
        if scope["type"] == "http" and (refusal := self._refusal(scope)) is not None:
            await _problem(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> MendelError | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        known = _host_of(f"//{host}") in self._allowed
        if not known or not (origin is None or _host_of(origin) in self._allowed):
            stranger = origin if known else host
            return Forbidden(
                f"The host name {stranger!r} of the request is not allowed.",
                remedy="Set hub.host or hub.url to that name to allow it.",
            )
        if b"%2f" in scope.get("raw_path", b"").lower():
            return NotFound("The path contains an encoded slash (%2F), but names never contain a slash.")
        return None


class FaultSupervisor:
    """
    Answers a request with 500 and a correlation id when the application raises an unexpected exception.

    The log records the exception's type and code location under that id, and nothing of the request. If sending the
    answer has already begun, the answer ends early.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request to the application, and answer 500 if the application raises."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:  # noqa: BLE001 - the supervisor of the control API: a defect ends one request
            correlation, fault = uuid4().hex, fault_of(error)
            _log.error("hub_fault", fault=fault.kind, at=fault.at, correlation_id=correlation)
            if not begun:
                failed = MendelError(
                    f"The hub failed with {fault.kind}.", remedy=f"Search the hub's log for {correlation}."
                )
                await _problem(failed)(scope, receive, send)


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets without an IPv6 address
        return ""


async def _mendel_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, MendelError)  # noqa: S101 - registered for this class only
    return _problem(error)


async def _http_error(_: Request, error: Exception) -> Response:
    """Answer an error of the web framework: unknown path or method, or an unreadable body."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    kind = {404: NotFound, 413: TooLarge}.get(error.status_code, InvalidInput)
    answer = _problem(kind(f"{error.detail}."), status=error.status_code)
    answer.headers.update(error.headers or {})
    return answer


def _problem(error: MendelError, *, status: int | None = None) -> JSONResponse:
    headers = {}
    if isinstance(error, Unavailable) and error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after.total_seconds())))
    status = status or status_of(error)
    return JSONResponse(to_problem(error) | {"status": status}, status, headers=headers, media_type=MEDIA_TYPE)
