"""Desired state, which the hub writes and servers read, and the reports that servers send back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from mendel.errors import InvalidValue
from mendel.values.model_names import Digest, ModelName, VersionUuid
from mendel.values.signatures import Signature
from mendel.values.time import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A version and its share of the traffic, a fraction in (0, 1]."""

    version: int
    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InvalidValue(f"The traffic share {self.share} is not in (0, 1].")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """
    The desired state of a model.

    Attributes:
        generation: Grows by one with every change; writers compare and set it. For a model that a caller loaded by
            path it is negative and falls with every load, so that it is never the generation of a deployment.
        routes: The first route is production, a second route is the canary; the shares sum to 1. Empty when the model
            serves nothing.
        keep: Former production versions that stay loaded during the bake window, so that a rollback loads nothing.
        shadow: The version that receives a copy of the traffic and whose answers are not returned.
        fallback: The version that answers while the circuit breaker of the production version is open.
        restart_epoch: Grows to make servers restart their workers.
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
            total = sum(route.share for route in self.routes)
            raise InvalidValue(f"The traffic shares of {self.model}'s routes sum to {total}, not 1.")

    @property
    def production(self) -> int | None:
        """The number of the version on the first route; None when the model serves nothing."""
        return self.routes[0].version if self.routes else None

    @property
    def versions(self) -> tuple[int, ...]:
        """The numbers of all versions that a server must load, production first, each once."""
        extra = [v for v in (self.shadow, self.fallback) if v is not None]
        return tuple(dict.fromkeys([*(route.version for route in self.routes), *extra, *self.keep]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """
    The facts about a version that a server needs to load it and to describe it in answers.

    ``image_digest`` is the digest of the image that the registry recorded for the version, even when the version is
    served without an image. ``accepted_difference`` is the digest of the differences between served answers and the
    model's own answers that a person accepted. ``carries_code`` is True when the artefact contains the files of the
    release, whose commit is ``git_commit``, and ``locked`` when the model was also trained in the environment of the
    release's lock.
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
    accepted_difference: str | None = None
    carries_code: bool = False
    git_commit: str | None = None
    locked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredModel:
    """A deployment and the versions that it names."""

    deployment: Deployment
    versions: tuple[ServedVersion, ...]

    def version(self, number: int) -> ServedVersion:
        """
        Look up a version by its number.

        Raises:
            StopIteration: The deployment does not name *number*.
        """
        return next(v for v in self.versions if v.number == number)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredState:
    """
    The deployments of all models.

    ``revision`` grows with every change of any deployment; servers long-poll for a revision above the one they have.
    ``key_hashes`` maps the SHA-256 (hex) of each API key to its scopes, so that servers authorise without the hub.
    ``key_expiries`` maps some of them to the time from which servers refuse the key.
    """

    revision: int
    models: tuple[DesiredModel, ...] = ()
    key_hashes: dict[str, tuple[str, ...]]
    key_expiries: dict[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConvergence:
    """
    The state of one model on one server.

    Attributes:
        generation_desired: The generation of the deployment that the server received last.
        generation_serving: The newest generation of which the server serves every version that gets traffic.
        version_serving: The production version that the server serves; None when it serves none.
        failed_version: The version that could not be loaded; None when loading succeeded.
        error: Why ``failed_version`` could not be loaded: the type and the code location of the exception, without its
            message and without values of rows.
        detail: The full message, for callers with the scope ``deploy``; None if ``error`` already contains everything.
        difference_id: The digest of the differences between its answers and the fitted model's; else empty.
        version_at_fault: True if ``failed_version`` itself failed: its files were complete, but could not be loaded, or
            the loaded model could not predict. False if the server, its disk or a store failed, or if the cause is
            unknown.
        failed_loads: The number of consecutive failed loads of ``failed_version`` with the same ``version_at_fault``;
            1 if the reporter does not count.
        ended_workers: True if worker processes ended while ``failed_version`` was being called, so that the server
            loads the version no more.
        unloaded: True if a client, or the server to stay within its memory budget, unloaded the model; the server then
            serves none of its versions.
    """

    model: ModelName
    generation_desired: int
    generation_serving: int
    version_serving: int | None
    failed_version: int | None = None
    error: str | None = None
    detail: str | None = None
    difference_id: str = ""
    version_at_fault: bool = False
    failed_loads: int = 1
    ended_workers: bool = False
    unloaded: bool = False


LATENCY_BOUNDS_MS: tuple[float, ...] = (
    0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 2000, 5000, 10000, 30000,
)  # fmt: skip
"""Upper bounds of the latency histogram's buckets, in milliseconds; one more bucket counts all slower calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionCounters:
    """
    Counts for one version on one server since the server started; they only grow.

    Attributes:
        requests: Requests that reached the version, answered or not; requests with invalid input are not counted.
        model_errors: Requests on which the model failed, and requests refused by the open circuit breaker.
        timeouts: Requests whose deadline passed.
        rejected: Requests that the bulkhead refused.
        rows: Rows predicted.
        ood_rows: Rows outside the reference's ranges or categories (out of distribution).
        latency: Requests per bucket of ``LATENCY_BOUNDS_MS``, shape ``(len(bounds) + 1,)``.
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
class ExternalServer:
    """
    A server of a remote model, as a worker process of the server that asks it sees it.

    Attributes:
        status: ``healthy`` if it is ready, ``degraded`` while an answer to a health check is late, else ``unhealthy``.
        detail: Why it is not healthy; else empty.
        calls: The number of calls of this worker process that it is answering.
    """

    address: str
    status: Literal["healthy", "degraded", "unhealthy"]
    detail: str = ""
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """
    The report that a server sends to the hub every 2 s, idempotent by (server, epoch, seq).

    ``epoch`` changes when the server restarts and its counters begin again at 0. ``seq`` numbers the reports of one
    epoch. ``leaving`` says that the server is stopping on purpose; ``convergence`` is then the last from before.
    ``external_api`` gives each server of a remote model once, as the worker process with the worst view sees it.
    """

    server: str
    epoch: str
    seq: int
    at: Moment
    revision: int
    ready: bool
    convergence: tuple[ModelConvergence, ...] = ()
    counters: tuple[VersionCounters, ...] = ()
    spool: dict[str, Any]
    leaving: bool = False
    external_api: tuple[ExternalServer, ...] = ()
