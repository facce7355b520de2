"""What the registry needs of a database and of an artefact store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mendel.registry.api_keys import ApiKey
from mendel.registry.history import GateRecord, ProductionPeriod
from mendel.registry.policies import PolicyDocument
from mendel.registry.registration import PendingRegistration
from mendel.registry.snapshots import ServerState, Snapshot
from mendel.registry.version_records import VersionRecord
from mendel.values import (
    Deployment,
    Digest,
    ModelName,
    ServerReport,
    Stage,
    VersionCounters,
    VersionRef,
    VersionUuid,
    Window,
)


class RegistryStore(Protocol):
    """
    The registry's rows, bound to one transaction (``tx.store(RegistryStore)``).

    What is absent is None or an empty tuple; nothing here raises ``NotFound``. Its constraints hold the invariants
    whoever writes: one version per number, uuid and idempotency key, at most one production version per model, at most
    one open tenure per model.
    """

    def models(self) -> tuple[ModelName, ...]:
        """Every model that has a version, by name."""

    def pending(self, model: ModelName, key: str) -> PendingRegistration | None:
        """The registration under way for *key*."""

    def pending_before(self, moment: datetime) -> tuple[PendingRegistration, ...]:
        """Registrations requested before *moment* and not ended, oldest first."""

    def put_pending(self, registration: PendingRegistration) -> None:
        """Write or replace the registration of its model and key."""

    def drop_pending(self, model: ModelName, key: str) -> None:
        """Forget it; no error when it is gone."""

    def version(self, ref: VersionRef) -> VersionRecord | None:
        """The version of that number."""

    def version_by_uuid(self, uuid: VersionUuid) -> VersionRecord | None:
        """The version of that uuid, by an index."""

    def version_by_key(self, model: ModelName, key: str) -> VersionRecord | None:
        """The version that was registered under *key*."""

    def version_by_digest(self, digest: Digest) -> VersionRecord | None:
        """Some version whose served tree has that digest."""

    def versions_by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        """Every version of any model that is delivered in that image, by model and number."""

    def versions(self, model: ModelName) -> tuple[VersionRecord, ...]:
        """Its versions, ascending by number."""

    def add_version(self, record: VersionRecord) -> None:
        """
        Insert it.

        Raises:
            AlreadyExists: Its number, uuid or idempotency key is taken.
        """

    def replace_version(self, record: VersionRecord) -> None:
        """
        Write the version of ``record.ref`` anew.

        Raises:
            Conflict: It would be the model's second production version.
        """

    def deployment(self, model: ModelName) -> Deployment | None:
        """The desired state of *model*; None before its first change."""

    def deployments(self) -> tuple[Deployment, ...]:
        """Every deployment, by model."""

    def put_deployment(self, deployment: Deployment) -> None:
        """
        Write it, if its generation follows the stored one (0 where there is none) by one.

        Raises:
            GenerationConflict: It does not follow.
        """

    def revision(self) -> int:
        """How often :meth:`bump_revision` was called, ever."""

    def bump_revision(self) -> int:
        """Count one more change of what servers follow, and give the new revision."""

    def tenures(self, model: ModelName) -> tuple[ProductionPeriod, ...]:
        """Every stretch in production, oldest first."""

    def open_tenure(self, tenure: ProductionPeriod) -> None:
        """
        Begin it.

        Raises:
            Conflict: One is open.
        """

    def close_tenure(self, model: ModelName, *, end: datetime, event: str) -> None:
        """End the open one; no error when there is none."""

    def gate_records(self, ref: VersionRef) -> tuple[GateRecord, ...]:
        """Its gate records in the order they were added."""

    def add_gate_record(self, ref: VersionRef, record: GateRecord) -> None:
        """Append it."""

    def policies(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        """Every version of the policy, ascending; without the default."""

    def add_policy(self, document: PolicyDocument) -> None:
        """
        Insert it.

        Raises:
            AlreadyExists: Its version is taken.
        """

    def api_keys(self) -> tuple[ApiKey, ...]:
        """Every key that holds, oldest first."""

    def key(self, digest: str) -> ApiKey | None:
        """The key of that SHA-256 (hex)."""

    def add_key(self, key: ApiKey) -> None:
        """Insert it."""

    def drop_key(self, digest: str) -> None:
        """Forget it; no error when it is gone."""

    def add_report(self, report: ServerReport, *, received_at: datetime) -> None:
        """
        Keep its counters, idempotent by (server, epoch, seq), and the report itself when it is its server's newest.

        Newest is the higher ``at``; within one epoch the higher ``seq``.
        """

    def servers(self) -> tuple[ServerState, ...]:
        """Every server as it last reported, by name."""

    def growth(self, ref: VersionRef, window: Window) -> tuple[VersionCounters, ...]:
        """
        By how much the counters of *ref* grew within *window*, one element per server and epoch.

        That is the last report at or before ``window.end``, minus the last at or before ``window.start``; last is by
        ``seq``. A late report changes what later calls answer, and nothing twice.
        """

    def prune_reports(self, before: datetime) -> None:
        """Forget counters that no window starting at or after *before* needs."""

    def put_snapshot(self, snapshot: Snapshot, *, recorded_at: datetime) -> None:
        """Write it; the same version, window and source again replaces it."""

    def snapshots(
        self, ref: VersionRef, *, ended_after: datetime, recorded_from: datetime | None = None
    ) -> tuple[Snapshot, ...]:
        """Recorded snapshots whose window ends after *ended_after*, recorded at or after *recorded_from*, by end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What an artefact store is told of a tree, beside its files; ``key`` makes publishing idempotent."""

    key: str
    model: ModelName
    stage: Stage
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A tree as the artefact store keeps it: it gives uuid and number."""

    key: str
    uuid: VersionUuid
    number: int
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """What others see of a model's state machine in the artefact store: alias ``production`` and tags."""

    production: int | None
    generation: int
    stages: Mapping[int, Stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignVersion:
    """A version in the artefact store that was not born here; ``uuid`` None when it is no logged model."""

    model: str
    number: int
    uuid: VersionUuid | None
    source: str


class ArtifactStore(Protocol):
    """
    Keeps trees of files as numbered versions; never reads what is in them, and never unpickles.

    Trees are immutable once published. Not bound to a transaction. Safe to share between threads; callers serialise
    :meth:`publish` per model.

    Raises:
        StoreUnavailable: From any method, when it does not answer.
    """

    @property
    def mlflow_version(self) -> str | None:
        """Of the MLflow behind it, if that is what it is."""

    def publish(self, publication: Publication, tree: Path, *, data: Path | None = None) -> Published:
        """
        Keep a copy of *tree*, and of *data* below it as ``data/``, under the next number of the model.

        Looks up before it creates: the same key gives the same answer, and finishes what was begun.
        """

    def find(self, key: str) -> Published | None:
        """What was published whole under *key*."""

    def discard(self, key: str, *, uuid: VersionUuid | None = None) -> None:
        """Delete what stands under *key*, whole or begun; only *uuid* where it is given; no error when nothing does."""

    def tree(self, uuid: VersionUuid) -> Path:
        """
        The directory of the published files, ``data/`` included, to read only.

        Raises:
            ArtifactNotFound: Nothing was published as *uuid*.
        """

    def mirror(self, model: ModelName, state: Mirror) -> Mirror:
        """Make alias and tags agree with *state*, idempotently, and give back what is read afterwards."""

    def foreign(self, model: ModelName, *, known: frozenset[int]) -> tuple[ForeignVersion, ...]:
        """Versions of *model* in the store whose numbers are not *known*, by number."""
