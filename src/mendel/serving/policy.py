"""Widths, bounds and timeouts of the data plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from mendel.errors import InvalidValue
from mendel.resilience import BreakerPolicy, BulkheadPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPolicy:
    """
    How one server serves; what is per server is divided among its workers before a kernel sees it.

    Attributes:
        workers: Processes; 0 is one per core, at most ``max_workers``.
        max_batch_rows: Rows of several requests that share a predict call; one request's rows are never divided.
        request_timeout: How long a caller waits who does not say.
        drain_timeout: How long requests in flight may take when a version or the server goes.
        max_connection_age: After which a gRPC connection is asked to come again, so that long-lived ones spread.
        max_rows: Rows of one request.
        max_body_bytes: Bytes of one request.
        memory_budget_bytes: Bound on the files of all loaded versions; None is no bound.
        max_shadow_queue: Copies waiting for a shadow version; above it they are shed.
        correlation_ids: Each request has an id, the caller's or a new one, that is returned, logged and stored.
        log_payloads: What is asked and answered stands in the server's own log, too.
        repository_control: ``explicit`` lets callers of the doors load and unload models; ``none`` refuses them.
        logging_required: Refuse what cannot be logged, instead of answering ``logged: false``.
    """

    workers: int = 1
    max_workers: int = 16
    max_batch_rows: int = 1024
    request_timeout: timedelta = timedelta(seconds=30)
    drain_timeout: timedelta = timedelta(seconds=30)
    max_connection_age: timedelta = timedelta(minutes=5)
    max_rows: int = 10_000
    max_body_bytes: int = 100 << 20
    memory_budget_bytes: int | None = None
    max_shadow_queue: int = 64
    repository_control: Literal["none", "explicit"] = "none"
    logging_required: bool = False
    correlation_ids: bool = True
    log_payloads: bool = False
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    bulkhead: BulkheadPolicy = field(default_factory=BulkheadPolicy)

    def __post_init__(self) -> None:
        if self.max_batch_rows < 1 or self.max_rows < 1 or self.max_body_bytes < 1:
            raise InvalidValue("max_batch_rows, max_rows and max_body_bytes are at least 1.")
