"""What a project says of its REST door."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mendel.errors import InvalidSettings
from mendel.projects import Classifier, Cors
from mendel.transports.rest.route_table import Route


@dataclass(frozen=True, slots=True, kw_only=True)
class RestPolicy:
    """
    Attributes:
        title: Of the documentation.
        cors: Which pages of other origins may ask; without origins none, and nothing is said about it.
        metrics: Where metrics are told, or None.
        log_requests: Each request is a line of the log.
    """

    title: str = "Mendel"
    cors: Cors = field(default_factory=Cors)
    metrics: str | None = "/metrics"
    log_requests: bool = False

    @classmethod
    def of(cls, classifier: Classifier, *, log_requests: bool = False) -> RestPolicy:
        """The policy that the sections ``server`` and ``observability`` of *classifier* make."""
        told = classifier.observability
        return cls(
            title=classifier.server.title or str(classifier.name),
            cors=classifier.server.cors,
            metrics=told.metrics_endpoint if told.metrics else None,
            log_requests=log_requests,
        )

    def routes(self, known: tuple[Route, ...]) -> tuple[Route, ...]:
        """
        *known*, with the route of the metrics where it is wanted, or without it.

        Raises:
            InvalidSettings: Something else is told there, or it is no path.
        """
        others = tuple(route for route in known if route.pattern != _METRICS)
        if self.metrics is None:
            return others
        if not self.metrics.startswith("/") or any(c in self.metrics for c in "{}?# ") or self.metrics.endswith("/"):
            raise InvalidSettings(
                f"observability.metrics_endpoint {self.metrics!r} is no path.", remedy="Write /metrics or the like."
            )
        if any(route.pattern == self.metrics for route in others):
            raise InvalidSettings(f"observability.metrics_endpoint {self.metrics!r} is another route's.")
        return tuple(replace(r, pattern=self.metrics) if r.pattern == _METRICS else r for r in known)


_METRICS = "/metrics"
