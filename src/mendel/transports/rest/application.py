"""The ASGI application of the REST server: find the route, authorise, answer, and count requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import structlog

from mendel.errors import InvalidRequest, MendelError
from mendel.projects import Classifier
from mendel.resilience import fault_of
from mendel.serving import Kernel
from mendel.transports.door import Statistics
from mendel.transports.rest.errors import error_response
from mendel.transports.rest.http_messages import (
    BodyMemory,
    Receive,
    Request,
    Response,
    Send,
    json_response,
    repeated_header,
)
from mendel.transports.rest.log_routes import MONITORING_ROUTES
from mendel.transports.rest.plain_routes import PLAIN_ROUTES
from mendel.transports.rest.rest_policy import RestPolicy
from mendel.transports.rest.route_table import RestContext, Route, RouteTable, routes_for
from mendel.transports.rest.server_info import ABOUT_ROUTES
from mendel.transports.rest.v2_routes import V2_ROUTES

ROUTES: tuple[Route, ...] = (*ABOUT_ROUTES, *PLAIN_ROUTES, *V2_ROUTES, *MONITORING_ROUTES)
_SEND_KEY = "Send the API key in the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
_BODIES_IN_MEMORY = 4
"""So many of the largest bodies may be in memory at once; further large bodies are refused."""
_log = structlog.get_logger("mendel.rest")


class RestApplication:
    """
    The ASGI application of the REST server.

    Args:
        statistics: Fetches prediction statistics from the hub; None answers ``/monitoring/stats`` with 503.

    Raises:
        InvalidSettings: ``observability.metrics_endpoint`` is the path of another route.
    """

    def __init__(self, kernel: Kernel, *, statistics: Statistics | None = None, policy: RestPolicy) -> None:
        self._kernel = kernel
        self._policy = policy
        self._bodies = BodyMemory(limit_bytes=_BODIES_IN_MEMORY * kernel.policy.max_body_bytes)
        self._table = RouteTable(routes_for(policy, ROUTES))
        self._context = RestContext(kernel=kernel, routes=self._table.routes, policy=policy, statistics=statistics)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"The REST server does not support the ASGI protocol {scope['type']!r}.")
        began = self._kernel.steady()
        request = Request(
            method=scope["method"],
            path=scope["path"],
            headers=dict(scope["headers"]),
            receive=receive,
            bodies=self._bodies,
            body_timeout=self._kernel.policy.body_timeout,
            query_string=scope["query_string"],
        )
        request.correlation_id = self._kernel.correlation_id(
            request.header(b"x-request-id"), request.header(b"traceparent")
        )
        try:
            pattern, response = await self._supervised(request, scope["headers"])
        finally:
            request.release_body()
        await response.send(send, request.correlation_id)
        took = self._kernel.steady() - began
        self._kernel.answered(request.method, pattern, str(response.status), request.model, took)
        if self._policy.log_requests:
            _log.debug(
                "request",
                method=request.method,
                route=pattern,
                status=response.status,
                ms=round(took * 1000, 3),
                correlation_id=request.correlation_id or None,
            )

    async def _supervised(self, request: Request, headers: Sequence[tuple[bytes, bytes]]) -> tuple[str, Response]:
        """Answer a request; an unexpected exception gives 500, and the log records its location and correlation id."""
        pattern = ""
        try:
            if len(headers) != len(request.headers) and (repeated := repeated_header(headers)):
                raise InvalidRequest(f"The request has the header {repeated} twice.", remedy="Send it once.")  # noqa: TRY301
            method = "GET" if request.method == "HEAD" else request.method
            found = self._table.find(method, request.path)
            if found is None:
                return "", self._no_route(request)
            pattern, request.params = found.route.pattern, found.params
            self._kernel.authorize(request.credential, found.route.scope, remedy=_SEND_KEY)
            return pattern, await found.route.endpoint(self._context, request)
        except MendelError as error:
            return pattern, error_response(error)
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one request and not the server
            fault = fault_of(error)
            request.correlation_id = request.correlation_id or uuid4().hex
            _log.error(
                "rest_fault", route=pattern, fault=fault.kind, at=fault.at, correlation_id=request.correlation_id
            )
            text = f"Internal error; search the server's log for {request.correlation_id}."
            return pattern, json_response({"error": text}, status=500)

    def _no_route(self, request: Request) -> Response:
        methods = self._table.methods(request.path)
        if methods:
            allow = ((b"allow", ", ".join(methods).encode()),)
            text = f"{request.path} does not support {request.method}; use {', '.join(methods)}."
            return json_response({"error": text}, status=405, headers=allow)
        text = f"This server has no route {request.path}; see /docs for the routes."
        return json_response({"error": text}, status=404)


def check_project(classifier: Classifier) -> None:
    """
    Check the sections ``server`` and ``observability`` of a classifier before the server starts.

    Raises:
        InvalidSettings: ``observability.metrics_endpoint`` is not a path, or is the path of another route.
    """
    policy = RestPolicy.of(classifier)
    routes_for(policy, ROUTES)
    if policy.cors.allow_credentials and "*" in policy.cors.allow_origins:
        _log.warning(
            "cors_without_credentials",
            reason="server.cors.allow_credentials has no effect while allow_origins contains '*'",
            remedy="List the origins in server.cors.allow_origins.",
        )
