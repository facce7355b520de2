"""What a project says of its REST door."""

from __future__ import annotations

from dataclasses import dataclass, field

from mendel.projects import Classifier, Cors


@dataclass(frozen=True, slots=True, kw_only=True)
class RestPolicy:
    """
    Attributes:
        title: Of the documentation.
        cors: Which pages of other origins may ask; without origins none, and nothing is said about it.
        metrics: The path of the metrics; None serves none.
        log_requests: Each request is a line of the log.
    """

    title: str = "Mendel"
    cors: Cors = field(default_factory=Cors)
    metrics: str | None = "/metrics"
    log_requests: bool = False

    @classmethod
    def of(cls, classifier: Classifier | None, *, log_requests: bool = False) -> RestPolicy:
        """The policy that the sections ``server`` and ``observability`` of *classifier* make."""
        if classifier is None:
            return cls(log_requests=log_requests)
        observability = classifier.observability
        return cls(
            title=classifier.server.title or str(classifier.name),
            cors=classifier.server.cors,
            metrics=observability.metrics_endpoint if observability.metrics else None,
            log_requests=log_requests,
        )
