"""Routes: a method, a pattern, the scope it needs, and what answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mendel.transports.rest.http_messages import Request, Response
from mendel.values import Scope

if TYPE_CHECKING:
    from mendel.transports.rest.application import RestApplication

Endpoint = Callable[["RestApplication", Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """
    Attributes:
        pattern: ``/v2/models/{name}/infer``; braces match one segment.
        scope: What a key must have; None is open to all, and said so on purpose.
    """

    method: str
    pattern: str
    scope: Scope | None
    endpoint: Endpoint

    @property
    def segments(self) -> tuple[str, ...]:
        """The pattern, split."""
        return tuple(self.pattern.split("/")[1:])


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A route and what its braces matched."""

    route: Route
    params: Mapping[str, str]


class RouteTable:
    """Finds the route of a path; fixed patterns before those with braces."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._fixed = {(r.method, r.pattern): Found(route=r, params={}) for r in self.routes if "{" not in r.pattern}
        self._open: dict[tuple[str, int], list[Route]] = defaultdict(list)
        for route in self.routes:
            if "{" in route.pattern:
                self._open[route.method, len(route.segments)].append(route)

    def find(self, method: str, path: str) -> Found | None:
        """The route for *method* and *path*, or None."""
        found = self._fixed.get((method, path))
        if found is not None:
            return found
        parts = path.split("/")[1:]
        for route in self._open.get((method, len(parts)), ()):
            params = _matched(route.segments, parts)
            if params is not None:
                return Found(route=route, params=params)
        return None

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods under which *path* is known."""
        return tuple(sorted(method for method in {r.method for r in self.routes} if self.find(method, path)))


def _matched(segments: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    params: dict[str, str] = {}
    for segment, part in zip(segments, parts, strict=True):
        if segment.startswith("{") and part:
            params[segment[1:-1]] = part
        elif segment != part:
            return None
    return params
