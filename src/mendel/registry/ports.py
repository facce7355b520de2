"""The ports of the registry: its database rows, and the artefact store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from mendel.registry.api_keys import ApiKey
from mendel.registry.history import GateRecord, ProductionPeriod
from mendel.registry.policies import PolicyDocument
from mendel.registry.registration import PendingRegistration
from mendel.registry.registry_state import NumberedPeriod
from mendel.registry.snapshots import ServerState, Snapshot
from mendel.registry.state_differences import RowKind
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

    A missing row is None or an empty tuple; no method raises ``NotFound``. Database constraints hold for every writer:
    one version per number, uuid and idempotency key; at most one production version and one open production period per
    model.
    """

    def models(self) -> tuple[ModelName, ...]:
        """Every model that has a version, by name."""

    def pending(self, model: ModelName, key: str) -> PendingRegistration | None:
        """Find the unfinished registration with *key*; None if no such registration exists."""

    def pending_before(self, moment: datetime) -> tuple[PendingRegistration, ...]:
        """Give the unfinished registrations requested before *moment*, oldest first."""

    def all_pending(self, model: ModelName) -> tuple[PendingRegistration, ...]:
        """Give the unfinished registrations of *model*, by key."""

    def put_pending(self, registration: PendingRegistration) -> None:
        """Write *registration*, replacing an earlier one of the same model and key."""

    def drop_pending(self, model: ModelName, key: str) -> None:
        """Delete the registration; no error if it does not exist."""

    def version(self, ref: VersionRef) -> VersionRecord | None:
        """Find the version of *ref*; None if it does not exist."""

    def version_by_uuid(self, uuid: VersionUuid) -> VersionRecord | None:
        """Find the version with *uuid* through an index; None if it does not exist."""

    def version_by_key(self, model: ModelName, key: str) -> VersionRecord | None:
        """Find the version that was registered with idempotency key *key*; None if no such version exists."""

    def version_by_digest(self, digest: Digest) -> VersionRecord | None:
        """Find a version whose served files have *digest*; None if no such version exists."""

    def versions_by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        """Give every version of any model contained in the image *digest*, by model and number."""

    def versions(self, model: ModelName) -> tuple[VersionRecord, ...]:
        """Give the versions of *model*, ascending by number."""

    def add_version(self, record: VersionRecord) -> None:
        """
        Insert a version.

        Raises:
            AlreadyExists: The version's number, uuid or idempotency key is in use.
        """

    def replace_version(self, record: VersionRecord) -> None:
        """
        Replace the stored version of ``record.ref``.

        Raises:
            Conflict: The model already has another production version.
        """

    def deployment(self, model: ModelName) -> Deployment | None:
        """Give the desired state of *model*; None before its first change."""

    def deployments(self) -> tuple[Deployment, ...]:
        """Give every deployment, sorted by model."""

    def put_deployment(self, deployment: Deployment) -> None:
        """
        Write *deployment*; its generation must be the stored generation (0 without one) plus one.

        Raises:
            GenerationConflict: The generation is not the stored generation plus one.
        """

    def revision(self) -> int:
        """Give the number of calls of :meth:`bump_revision` so far."""

    def bump_revision(self) -> int:
        """Increase the revision of the servers' desired state by one; gives the new revision."""

    def tenures(self, model: ModelName) -> tuple[ProductionPeriod, ...]:
        """Give every production period of *model*, oldest first."""

    def open_tenure(self, tenure: ProductionPeriod) -> None:
        """
        Begin a production period.

        Raises:
            Conflict: The model has an open production period.
        """

    def close_tenure(self, model: ModelName, *, end: datetime, event: str) -> None:
        """End the open production period; no error if no period is open."""

    def gate_records(self, ref: VersionRef) -> tuple[GateRecord, ...]:
        """Give the gate records of *ref* in the order they were added."""

    def add_gate_record(self, ref: VersionRef, record: GateRecord) -> None:
        """Add a gate record to *ref*."""

    def policies(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        """Give every stored policy version of *model*, ascending; the default policy is not stored."""

    def add_policy(self, document: PolicyDocument) -> None:
        """
        Insert a policy version.

        Raises:
            AlreadyExists: The policy's version number is in use.
        """

    def scan(self) -> Iterator[StoredRow]:
        """Give every row of versions, deployments, policies and production periods: kind by kind, each by key."""

    def api_keys(self) -> tuple[ApiKey, ...]:
        """Give every secret of every API key, oldest first; expired and revoked ones included."""

    def key(self, digest: str) -> ApiKey | None:
        """Find the secret of an API key by its SHA-256 (hex); None if no such secret exists."""

    def put_key(self, key: ApiKey) -> None:
        """Write the secret of an API key, replacing the one with the same SHA-256."""

    def add_report(self, report: ServerReport, *, received_at: datetime) -> None:
        """
        Store the counters of *report* once per (server, epoch, seq), and the report itself if it is the server's
        newest.

        The newest report has the later ``at``; within one epoch, the higher ``seq``. The report of a new epoch is also
        newer if its ``seq`` is lower: the server restarted, and its clock may have been set back.
        """

    def servers(self) -> tuple[ServerState, ...]:
        """Give the newest report of every server, by name."""

    def growth(self, ref: VersionRef, window: Window) -> tuple[VersionCounters, ...]:
        """
        Compute how much the counters of *ref* grew within *window*, one element per server and epoch.

        The growth is the last report that arrived at or before ``window.end`` minus the last that arrived at or before
        ``window.start``; the last report has the highest ``seq``. The servers' own clocks do not matter, and nothing is
        counted twice.
        """

    def prune_reports(self, before: datetime) -> None:
        """Delete the counters that are not needed for windows starting at or after *before*."""

    def put_snapshot(self, snapshot: Snapshot, *, recorded_at: datetime) -> None:
        """Write a snapshot, replacing an earlier one of the same version, window and source."""

    def snapshots(
        self, ref: VersionRef, *, ended_after: datetime, recorded_from: datetime | None = None
    ) -> tuple[Snapshot, ...]:
        """
        Give the snapshots whose window ends after *ended_after*, recorded at or after *recorded_from* (None for all),
        by end.
        """

    def fine_snapshots(
        self, source: str, *, shorter_than: timedelta, ended_by: datetime, limit: int
    ) -> Sequence[Snapshot]:
        """
        Give the oldest snapshots of *source* with a shorter window than *shorter_than* that ended by *ended_by*, by
        version and start.
        """

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        """Delete the snapshot with this version, window and source; no error if it does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """
    A row of the registry's tables as the database holds it.

    Attributes:
        name: The row's name, as in :class:`~mendel.registry.state_differences.RowDifference`.
        content: The content; None if it cannot be decoded.
        fault: Why columns of the row, by which it is found, contradict the content; else empty.
    """

    kind: RowKind
    name: str
    content: VersionRecord | Deployment | PolicyDocument | NumberedPeriod | None
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """The metadata with which an artefact store publishes files; ``key`` makes publishing idempotent."""

    key: str
    model: ModelName
    stage: Stage
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The published files in the artefact store, with the uuid and number that the store assigned."""

    key: str
    uuid: VersionUuid
    number: int
    run_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The state of a model as shown in the artefact store: the alias ``production`` and the tags."""

    production: int | None
    generation: int
    stages: Mapping[int, Stage]


@dataclass(frozen=True, slots=True, kw_only=True)
class MirroredAlias:
    """The alias ``production`` of a model and the generation in its tag, as the artefact store shows them."""

    production: int | None
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignVersion:
    """
    A version that was registered in the artefact store without Mendel; ``uuid`` is None if it has no logged model.
    """

    model: str
    number: int
    uuid: VersionUuid | None
    source: str
    run_id: str | None = None


class ArtifactStore(Protocol):
    """
    Stores directories of files as numbered versions; never interprets or unpickles the files.

    Published files are immutable. The store is not bound to a transaction. Threads may share it; callers must serialise
    :meth:`publish` per model.

    Raises:
        StoreUnavailable: Any method, if the store does not answer.
    """

    @property
    def mlflow_version(self) -> str | None:
        """The version of MLflow behind the store; None for another store."""

    def check(self) -> None:
        """
        Ask the store for an answer within milliseconds; a store that was not used yet is not opened.

        Raises:
            MendelError: The store does not answer, or the last attempt to open it failed.
        """

    def publish(self, publication: Publication, tree: Path, *, data: Path | None = None) -> Published:
        """
        Store a copy of *tree*, and of *data* as ``data/`` in it, under the next version number of the model.

        Publishing is idempotent: the same key gives the same result, and completes an interrupted call.
        """

    def find(self, key: str) -> Published | None:
        """Find the completely published files of *key*; None if there are none."""

    def discard(self, key: str, *, uuid: VersionUuid | None = None) -> None:
        """
        Delete what was published under *key*, completely or partly; with *uuid*, only that version. No error if nothing
        exists.
        """

    def tree(self, uuid: VersionUuid) -> Path:
        """
        Give the directory of the published files, including ``data/``, for reading only.

        Raises:
            ArtifactNotFound: No files were published as *uuid*.
        """

    def mirror(self, model: ModelName, state: Mirror) -> Mirror:
        """Set alias and tags to *state*, idempotently; gives the state as read afterwards."""

    def mirrored(self, model: ModelName, *, known: frozenset[int]) -> Mirror:
        """Read alias and tags of *model*, tags only of the versions *known*; an empty state for an unknown model."""

    def aliases(self) -> Mapping[str, MirroredAlias]:
        """Read the alias and the generation of every model in the store, by name."""

    def foreign(self, model: ModelName, *, known: frozenset[int]) -> tuple[ForeignVersion, ...]:
        """Give the versions of *model* in the store whose numbers are not in *known*, by number."""
