"""The routes of the REST server, found by method and path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from mendel.errors import InvalidSettings
from mendel.serving import Kernel
from mendel.transports.door import Statistics
from mendel.transports.rest.http_messages import Request, Response
from mendel.transports.rest.rest_policy import RestPolicy
from mendel.values import Scope

METRICS_PATH = "/metrics"
_MOST_KNOWN, _KNOWN_CHARACTERS = 1_000, 200
"""So many paths, and none longer than this, are kept with their routes after the first request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestContext:
    """The objects that every endpoint receives besides the request; ``statistics`` is None without a hub."""

    kernel: Kernel
    routes: tuple[Route, ...]
    policy: RestPolicy
    statistics: Statistics | None = None


Endpoint = Callable[[RestContext, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    A route of the REST server.

    Attributes:
        pattern: The path, for example ``/v2/models/{name}/infer``; a placeholder in braces matches one segment.
        scope: The scope that the caller's API key needs; None means that no key is needed.
    """

    method: str
    pattern: str
    scope: Scope | None
    endpoint: Endpoint

    @property
    def segments(self) -> tuple[str, ...]:
        """The segments of the pattern between its slashes."""
        return tuple(self.pattern.split("/")[1:])


class RouteMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A route and the path segments that matched the placeholders of its pattern, by name."""

    route: Route
    params: Mapping[str, str]


class RouteTable:
    """Finds the route for a path; patterns without placeholders are tried first."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed = {
            (r.method, r.pattern): RouteMatch(route=r, params={}) for r in self.routes if "{" not in r.pattern
        }
        self._open: dict[tuple[str, int], list[Route]] = defaultdict(list)
        for route in self.routes:
            if "{" in route.pattern:
                self._open[route.method, len(route.segments)].append(route)
        self._known: dict[tuple[str, str], RouteMatch] = {}

    def find(self, method: str, path: str) -> RouteMatch | None:
        """Find the route for *method* and *path*; None without a route."""
        found = self._fixed.get((method, path)) or self._known.get((method, path))
        if found is None:
            found = self._search(method, path)
            if found is not None and len(path) <= _KNOWN_CHARACTERS:
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[method, path] = found
        return found

    def _search(self, method: str, path: str) -> RouteMatch | None:
        parts = path.split("/")[1:]
        for route in self._open.get((method, len(parts)), ()):
            params = _matched(route.segments, parts)
            if params is not None:
                return RouteMatch(route=route, params=params)
        return None

    def methods(self, path: str) -> tuple[str, ...]:
        """Give the methods of the routes for *path*, sorted."""
        return tuple(sorted(method for method in {r.method for r in self.routes} if self.find(method, path)))


def routes_for(policy: RestPolicy, known: tuple[Route, ...]) -> tuple[Route, ...]:
    """
    Give the routes *known* with the metrics route at the path ``policy.metrics``; None removes the metrics route.

    Raises:
        InvalidSettings: ``policy.metrics`` is not a path, or is the path of another route.
    """
    others = tuple(route for route in known if route.pattern != METRICS_PATH)
    path = policy.metrics
    if path is None:
        return others
    if not path.startswith("/") or any(c in path for c in "{}?# ") or path.endswith("/"):
        raise InvalidSettings(
            f"observability.metrics_endpoint {path!r} is not a path.", remedy="Write a path such as /metrics."
        )
    if any(route.pattern == path for route in others):
        raise InvalidSettings(
            f"observability.metrics_endpoint {path!r} is the path of another route.", remedy="Choose another path."
        )
    return tuple(replace(route, pattern=path) if route.pattern == METRICS_PATH else route for route in known)


def _matched(segments: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{") and part:
            params[segment[1:-1]] = part
        elif segment != part:
            return None
    return params
