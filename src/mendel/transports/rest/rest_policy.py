"""The settings of the REST server from a project's mlserver.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field

from mendel.projects import Classifier, Cors


@dataclass(frozen=True, slots=True, kw_only=True)
class RestPolicy:
    """
    The settings of the REST server.

    Attributes:
        title: The title of the page ``/docs``.
        cors: The origins, methods and headers that CORS allows; without origins, no CORS headers are sent.
        metrics: The path of the metrics; None serves no metrics.
        log_requests: When True, each request is written to the server's log.
    """

    title: str = "Mendel"
    cors: Cors = field(default_factory=Cors)
    metrics: str | None = "/metrics"
    log_requests: bool = False

    @classmethod
    def of(cls, classifier: Classifier | None, *, log_requests: bool = False) -> RestPolicy:
        """Read the settings from the sections ``server`` and ``observability`` of *classifier*; None gives defaults."""
        if classifier is None:
            return cls(log_requests=log_requests)
        observability = classifier.observability
        return cls(
            title=classifier.server.title or str(classifier.name),
            cors=classifier.server.cors,
            metrics=observability.metrics_endpoint if observability.metrics else None,
            log_requests=log_requests,
        )
