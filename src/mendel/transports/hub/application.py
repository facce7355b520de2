"""The control API as one application."""

from __future__ import annotations

from importlib.metadata import version
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mendel.errors import Forbidden, InvalidInput, MendelError, Unavailable
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
    app = FastAPI(title="Mendel hub", version=version("mendel"), redoc_url=None)
    app.state.keys = parts.registry
    allowed = hosts | {"127.0.0.1", "localhost", "::1", "mendel.local"}
    app.add_middleware(SameHost, allowed=allowed)
    app.add_exception_handler(MendelError, _told)
    app.add_exception_handler(RequestValidationError, _misread)
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
        parts.registry.revision()
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
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if host not in self._allowed:
            return host
        origin = headers.get("origin")
        from_host = host if origin is None else urlsplit(origin).hostname or ""
        return None if from_host in self._allowed else from_host


async def _told(_: Request, error: Exception) -> Response:
    assert isinstance(error, MendelError)  # noqa: S101 - registered for this class only
    return _problem(error)


async def _misread(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _problem(InvalidInput(f"{where}: {first['msg']}."))


def _problem(error: MendelError) -> JSONResponse:
    headers = {}
    if isinstance(error, Unavailable) and error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after.total_seconds())))
    return JSONResponse(to_problem(error), status_code=status_of(error), headers=headers, media_type=MEDIA_TYPE)
