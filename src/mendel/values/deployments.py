"""Desired state: what a model's servers shall serve, as the hub writes it and servers read it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mendel.errors import InvalidValue
from mendel.values.model_names import Digest, ModelName, VersionUuid
from mendel.values.signatures import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A version and its share of the traffic, a fraction in (0, 1]."""

    version: int
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidValue(f"A share of {self.share} is not in (0, 1].")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """
    The desired state of a model.

    Attributes:
        generation: Grows by one with every change; compare-and-set on it.
        routes: Shares sum to 1; the first is production, a second one a canary. Empty: serves nothing.
        keep: Former versions that stay loaded through the bake window, so that rolling back is a pointer.
        shadow: A version that sees a copy of the traffic and answers nobody.
        fallback: A version that answers while the breaker is open.
        restart_epoch: Grows when workers shall be restarted.
    """

    model: ModelName
    generation: int = 0
    routes: tuple[Route, ...] = ()
    keep: tuple[int, ...] = ()
    shadow: int | None = None
    fallback: int | None = None
    restart_epoch: int = 0

    def __post_init__(self) -> None:
        if self.routes and not math.isclose(sum(route.share for route in self.routes), 1):
            raise InvalidValue(f"The shares of {self.model} sum to {sum(route.share for route in self.routes)}, not 1.")

    @property
    def production(self) -> int | None:
        """The version on the first route."""
        return self.routes[0].version if self.routes else None

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version a server must hold, production first, each once."""
        extra = [v for v in (self.shadow, self.fallback) if v is not None]
        return tuple(dict.fromkeys([*(route.version for route in self.routes), *extra, *self.keep]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """
    What a server must know of a version to load it and to answer truthfully.

    ``image_digest`` is of the image that the registry has for the version, wherever it is served.
    """

    number: int
    uuid: VersionUuid
    artifact_digest: Digest
    flavor: str
    signature: Signature | None
    task: str
    registered_at: datetime
    release_tag: str | None = None
    code_digest: Digest | None = None
    lock_digest: Digest | None = None
    training_fingerprint: str | None = None
    image_digest: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredModel:
    """A deployment together with the versions it names."""

    deployment: Deployment
    versions: tuple[ServedVersion, ...]

    def version(self, number: int) -> ServedVersion:
        """The version *number*, which the deployment names."""
        return next(v for v in self.versions if v.number == number)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """
    All that servers shall serve.

    ``revision`` grows with every change of any deployment; servers long-poll from the one they have.
    ``key_hashes`` maps the SHA-256 (hex) of each API key to its scopes, so that servers can authorise alone.
    """

    revision: int
    models: tuple[DesiredModel, ...] = ()
    key_hashes: dict[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConvergence:
    """How far one server is with one model: desired and serving generation, and what went wrong loading."""

    model: ModelName
    generation_desired: int
    generation_serving: int
    version_serving: int | None
    failed_version: int | None = None
    error: str | None = None


LATENCY_BOUNDS_MS: tuple[float, ...] = (
    0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10000, 30000,
)  # fmt: skip
"""Upper bounds of the latency histogram's buckets in milliseconds; one more bucket holds what is above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCounters:
    """
    Counts of one version on one server since its epoch began; they only grow.

    Attributes:
        requests: Requests that reached the version, whatever became of them; caller's errors are not among them.
        model_errors: Requests the model failed, breaker refusals included.
        timeouts: Requests whose deadline passed.
        rejected: Requests turned away by a bulkhead.
        rows: Rows predicted.
        ood_rows: Rows outside the reference's ranges or categories.
        latency: Counts per bucket of ``LATENCY_BOUNDS_MS``, shape ``(len(bounds) + 1,)``.
    """

    model: ModelName
    version: int
    requests: int = 0
    model_errors: int = 0
    timeouts: int = 0
    rejected: int = 0
    rows: int = 0
    ood_rows: int = 0
    latency: tuple[int, ...] = (0,) * (len(LATENCY_BOUNDS_MS) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """
    What a server tells the hub every 2 s, idempotent by (server, epoch, seq).

    ``epoch`` changes when the server restarts and its counters begin again at 0; ``seq`` counts its reports.
    """

    server: str
    epoch: str
    seq: int
    at: datetime
    revision: int
    ready: bool
    convergence: tuple[ModelConvergence, ...] = ()
    counters: tuple[VersionCounters, ...] = ()
    spool: dict[str, Any]
