"""The control API as one application."""

from __future__ import annotations

from importlib.metadata import version
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mendel.errors import Forbidden, InvalidInput, MendelError, NotFound, TooLarge, Unavailable
from mendel.transports.hub.answers import NounResponse
from mendel.transports.hub.care import care_routes
from mendel.transports.hub.models import model_routes
from mendel.transports.hub.monitoring import monitoring_routes
from mendel.transports.hub.parts import HubParts
from mendel.transports.hub.problems import MEDIA_TYPE, status_of, to_problem
from mendel.transports.hub.proof import proof_routes
from mendel.transports.hub.servers import server_routes

OPEN_PATHS = frozenset({"/health", "/live", "/ready", "/docs", "/openapi.json"})
"""What anyone who can reach the port may read."""


def create_app(parts: HubParts, *, hosts: frozenset[str] = frozenset()) -> FastAPI:
    """
    Build the application.

    Args:
        hosts: Names under which it may be addressed, beside the local ones; guards against DNS rebinding.
    """
    app = FastAPI(title="Mendel hub", version=version("mendel"), redoc_url=None, swagger_ui_oauth2_redirect_url=None)
    app.state.keys = parts.registry.keys
    allowed = hosts | {"127.0.0.1", "localhost", "::1", "mendel.local"}
    app.add_middleware(SameHost, allowed=allowed)
    app.add_exception_handler(MendelError, _told)
    app.add_exception_handler(RequestValidationError, _misread)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(Exception, _unforeseen)
    for routes in (server_routes, model_routes, care_routes, monitoring_routes, proof_routes):
        app.include_router(routes(parts), prefix="/api/v1")
    _add_health(app, parts)
    return app


def _add_health(app: FastAPI, parts: HubParts) -> None:
    @app.get("/health", tags=["health"])
    def health() -> Response:
        """Every service, probed; 503 when the state database is away."""
        told = parts.health()
        return NounResponse(told, status_code=503 if told["status"] == "unhealthy" else 200)

    @app.get("/live", tags=["health"])
    async def live() -> Response:
        """The event loop turns."""
        return NounResponse({"status": "alive"})

    @app.get("/ready", tags=["health"])
    def ready() -> Response:
        """The state database answers."""
        parts.registry.lifecycle.revision()
        return NounResponse({"status": "ready"})


class SameHost:
    """Refuses requests addressed to, or coming from, other hosts: the guard against DNS rebinding."""

    def __init__(self, app: ASGIApp, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let it pass, or answer 403."""
        if scope["type"] == "http" and (stranger := self._stranger(Headers(scope=scope))) is not None:
            refusal = Forbidden(f"This hub is not addressed as {stranger!r}.", remedy="Name it in hub.host or hub.url.")
            await _problem(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _stranger(self, headers: Headers) -> str | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if _host_of(f"//{host}") not in self._allowed:
            return host
        return None if origin is None or _host_of(origin) in self._allowed else origin


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # brackets that hold no address
        return ""


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, MendelError)  # noqa: S101 - registered for this class only
    return _problem(error)


async def _misread(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _problem(InvalidInput(f"{where}: {first['msg']}."))


async def _unrouted(_: Request, error: Exception) -> Response:
    """What the framework refuses before any route of ours: no such path or method, a body it cannot read."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    kind = {404: NotFound, 413: TooLarge}.get(error.status_code, InvalidInput)
    answer = _problem(kind(f"{error.detail}."), status=error.status_code)
    answer.headers.update(error.headers or {})
    return answer


async def _unforeseen(_: Request, error: Exception) -> Response:
    """A defect of the hub: the caller learns its type, and the server, to which it is raised again, logs the rest."""
    return _problem(MendelError(f"The hub failed: {type(error).__name__}.", remedy="Its log says more; report it."))


def _problem(error: MendelError, *, status: int | None = None) -> JSONResponse:
    headers = {}
    if isinstance(error, Unavailable) and error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after.total_seconds())))
    status = status or status_of(error)
    return JSONResponse(to_problem(error) | {"status": status}, status, headers=headers, media_type=MEDIA_TYPE)
