"""The REST application: find the route, check the key, answer, and count requests; for both forms of the server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from uuid import uuid4

import structlog

from mendel.errors import InvalidRequest, MendelError
from mendel.projects import Classifier
from mendel.resilience import fault_of
from mendel.serving import Kernel
from mendel.transports.door import Statistics
from mendel.transports.rest.cors import CrossOrigin
from mendel.transports.rest.errors import error_response
from mendel.transports.rest.http_messages import BodyMemory, Request, Response, json_response
from mendel.transports.rest.log_routes import MONITORING_ROUTES
from mendel.transports.rest.plain_routes import PLAIN_ROUTES
from mendel.transports.rest.prediction_endpoint import PredictionEndpoint
from mendel.transports.rest.rest_policy import RestPolicy
from mendel.transports.rest.route_table import RestContext, Route, RouteTable, routes_for
from mendel.transports.rest.server_info import ABOUT_ROUTES
from mendel.transports.rest.statistics_routes import STATISTICS_ROUTES
from mendel.transports.rest.v2_routes import V2_ROUTES

ROUTES: tuple[Route, ...] = (*ABOUT_ROUTES, *PLAIN_ROUTES, *V2_ROUTES, *STATISTICS_ROUTES, *MONITORING_ROUTES)
_SEND_KEY = "Send the API key in the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
_BODIES_IN_MEMORY = 4
"""So many of the largest bodies may be in memory at once; further large bodies are refused."""
_log = structlog.get_logger("mendel.rest")


class RestApplication:
    """
    Answers the requests of one worker.

    The steps of an answer are methods of their own, because a fast server takes them for many requests at once:
    :meth:`find`, :meth:`authorize`, the endpoint, :meth:`failure` in the place of an error; :meth:`granted` and
    :meth:`count` follow for every answer.

    Args:
        statistics: Fetches prediction statistics from the hub; None answers ``/monitoring/stats`` with 503.

    Raises:
        InvalidSettings: ``observability.metrics_endpoint`` is the path of another route.
    """

    def __init__(self, kernel: Kernel, *, statistics: Statistics | None = None, policy: RestPolicy) -> None:
        self.kernel = kernel
        self.bodies = BodyMemory(limit_bytes=_BODIES_IN_MEMORY * kernel.policy.max_body_bytes)
        self._log_requests = policy.log_requests
        self._cors = CrossOrigin(policy.cors) if policy.cors.allow_origins else None
        self._table = RouteTable(routes_for(policy, ROUTES))
        self.context = RestContext(kernel=kernel, routes=self._table.routes, policy=policy, statistics=statistics)

    def correlation_id(self, request: Request) -> str:
        """Give the correlation id of *request*: the caller's, or a new one; empty when there are none."""
        return self.kernel.correlation_id(request.header(b"x-request-id"), request.header(b"traceparent"))

    def preflight(self, request: Request) -> Response | None:
        """Give the response to a preflight request of the CORS protocol; None for any other request."""
        return None if self._cors is None else self._cors.preflight(request)

    async def answer(self, request: Request) -> Response:
        """Answer *request*, which is no preflight; an unexpected exception gives 500."""
        try:
            missing = self.find(request)
            if missing is not None:
                return missing
            self.authorize(request)
            assert request.route is not None  # noqa: S101 - found above
            return await request.route.endpoint(self.context, request)
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one request and not the server
            return self.failure(request, error)

    def find(self, request: Request) -> Response | None:
        """
        Set the route of *request*; gives the response 404 or 405 where no route fits.

        Raises:
            InvalidRequest: The request has a header twice that it may have only once.
        """
        if request.repeated is not None:
            raise InvalidRequest(f"The request has the header {request.repeated} twice.", remedy="Send it once.")
        found = self._table.find("GET" if request.method == "HEAD" else request.method, request.path)
        if found is None:
            return self._no_route(request)
        request.route, request.params = found.route, found.params
        if isinstance(found.route.endpoint, PredictionEndpoint):
            request.model = found.params.get("classifier", found.params.get("name"))
        return None

    def authorize(self, request: Request) -> None:
        """Raise Unauthenticated or Forbidden unless the API key of *request* may call its route."""
        assert request.route is not None  # noqa: S101 - callers find the route first
        self.kernel.authorize(request.credential, request.route.scope, remedy=_SEND_KEY)

    def failure(self, request: Request, error: Exception) -> Response:
        """Build the response for *error*; an unexpected one is logged with its location and the correlation id."""
        if isinstance(error, MendelError):
            return error_response(error)
        fault = fault_of(error)
        request.correlation_id = request.correlation_id or uuid4().hex
        _log.error(
            "rest_fault", route=request.pattern, fault=fault.kind, at=fault.at, correlation_id=request.correlation_id
        )
        text = f"Internal error; search the server's log for {request.correlation_id}."
        return json_response({"error": text}, status=500)

    def granted(self, request: Request, response: Response) -> Response:
        """Give *response* with the CORS headers for the origin of *request*."""
        return response if self._cors is None else self._cors.granted(request, response)

    def count(self, answered: Iterable[tuple[Request, int]]) -> None:
        """Count requests, which were answered with these statuses just now, in the metrics."""
        now = self.kernel.steady()
        seconds: defaultdict[tuple[str, str, int, str | None], list[float]] = defaultdict(list)
        for request, status in answered:
            seconds[request.method, request.pattern, status, request.model].append(now - request.began)
            if self._log_requests:
                _log.debug(
                    "request",
                    method=request.method,
                    route=request.pattern,
                    status=status,
                    ms=round((now - request.began) * 1000, 3),
                    correlation_id=request.correlation_id or None,
                )
        for (method, pattern, status, model), times in seconds.items():
            self.kernel.answered_many(method, pattern, str(status), model, times)

    def count_refusal(self, status: int) -> None:
        """Count the refusal of a connection, or of bytes that are no request of a route."""
        self.kernel.answered_many("", "", str(status), None, (0.0,))

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
