"""The ASGI application of the REST server: find the route, authorise, answer, and count requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from mendel.errors import MendelError
from mendel.projects import Classifier
from mendel.serving import Kernel
from mendel.transports.door import Statistics
from mendel.transports.rest.errors import error_response
from mendel.transports.rest.http_messages import Receive, Request, Response, Send, json_response
from mendel.transports.rest.log_routes import MONITORING_ROUTES
from mendel.transports.rest.plain_routes import PLAIN_ROUTES
from mendel.transports.rest.rest_policy import RestPolicy
from mendel.transports.rest.route_table import RestContext, Route, RouteTable, routes_for
from mendel.transports.rest.server_info import ABOUT_ROUTES
from mendel.transports.rest.v2_routes import V2_ROUTES

ROUTES: tuple[Route, ...] = (*ABOUT_ROUTES, *PLAIN_ROUTES, *V2_ROUTES, *MONITORING_ROUTES)
_SEND_KEY = "Send the API key in the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
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
        self._table = RouteTable(routes_for(policy, ROUTES))
        self._context = RestContext(kernel=kernel, routes=self._table.routes, policy=policy, statistics=statistics)

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise ValueError(f"The REST server does not support the ASGI protocol {scope['type']!r}.")
        began = self._kernel.steady()
        headers = dict(scope["headers"])
        request = Request(
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            receive=receive,
            query_string=scope["query_string"],
        )
        request.correlation_id = self._kernel.correlation_id(
            request.header(b"x-request-id"), request.header(b"traceparent")
        )
        pattern, response = await self._respond(request)
        await response.send(send, request.correlation_id)
        took = self._kernel.steady() - began
        self._kernel.answered(request.method, pattern, str(response.status), request.model, took)
        if self._policy.log_requests:
            _log.debug(
                "request",
                method=request.method,
                path=request.path,
                status=response.status,
                ms=round(took * 1000, 3),
                correlation_id=request.correlation_id or None,
            )

    async def _respond(self, request: Request) -> tuple[str, Response]:
        method = "GET" if request.method == "HEAD" else request.method
        found = self._table.find(method, request.path)
        if found is None:
            return "", self._no_route(request)
        request.params = found.params
        try:
            self._kernel.authorize(request.credential, found.route.scope, remedy=_SEND_KEY)
            return found.route.pattern, await found.route.endpoint(self._context, request)
        except MendelError as error:
            return found.route.pattern, error_response(error)
        except Exception:  # noqa: BLE001 - a defect of Mendel fails one request and not the server
            _log.exception("rest.fault", path=found.route.pattern, correlation_id=request.correlation_id)
            text = f"Internal error; search the server's log for {request.correlation_id}."
            return found.route.pattern, json_response({"error": text}, status=500)

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
