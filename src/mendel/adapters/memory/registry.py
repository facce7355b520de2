"""The registry's rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mendel.adapters.memory.tables import MemoryTables
from mendel.errors import AlreadyExists, Conflict, GenerationConflict
from mendel.registry import (
    ApiKey,
    CanaryRun,
    GateRecord,
    NumberedPeriod,
    PendingRegistration,
    PlannedChanges,
    PolicyDocument,
    ProductionPeriod,
    RegistryStore,
    RowKind,
    ServerState,
    Snapshot,
    StoredRow,
    VersionRecord,
    WaitingPromotion,
    WaitingState,
    grown,
    is_newer,
)
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

_Line = tuple[str, str, ModelName, int]  # (server, epoch, model, version): the counters of one such key never decrease


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    at: datetime
    seq: int
    counters: VersionCounters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    at: datetime
    snapshot: Snapshot


class MemoryRegistryStore:
    """Implements :class:`mendel.registry.RegistryStore` over one transaction's tables."""

    def __init__(self, tables: MemoryTables) -> None:
        self._pending: dict[tuple[ModelName, str], PendingRegistration] = tables.table("registrations")
        self._versions: dict[VersionRef, VersionRecord] = tables.table("versions")
        self._by_uuid: dict[VersionUuid, VersionRef] = tables.table("versions_by_uuid")
        self._by_key: dict[tuple[ModelName, str], VersionRef] = tables.table("versions_by_key")
        self._deployments: dict[ModelName, Deployment] = tables.table("deployments")
        self._revision: dict[str, int] = tables.table("revision")
        self._tenures: dict[ModelName, tuple[ProductionPeriod, ...]] = tables.table("tenures")
        self._gates: dict[VersionRef, tuple[GateRecord, ...]] = tables.table("gate_records")
        self._policies: dict[ModelName, tuple[PolicyDocument, ...]] = tables.table("policies")
        self._keys: dict[str, ApiKey] = tables.table("api_keys")
        self._servers: dict[str, ServerState] = tables.table("servers")
        self._counters: dict[_Line, tuple[_Counted, ...]] = tables.table("counters")
        self._snapshots: dict[tuple[VersionRef, str, Window], _Recorded] = tables.table("snapshots")

    def models(self) -> tuple[ModelName, ...]:
        return tuple(sorted({ref.model for ref in self._versions}))

    def pending(self, model: ModelName, key: str) -> PendingRegistration | None:
        return self._pending.get((model, key))

    def pending_before(self, moment: datetime) -> tuple[PendingRegistration, ...]:
        found = [p for p in self._pending.values() if p.requested_at < moment]
        return tuple(sorted(found, key=lambda p: (p.requested_at, p.model, p.idempotency_key)))

    def all_pending(self, model: ModelName) -> tuple[PendingRegistration, ...]:
        return tuple(self._pending[where] for where in sorted(self._pending) if where[0] == model)

    def put_pending(self, registration: PendingRegistration) -> None:
        self._pending[registration.model, registration.idempotency_key] = registration

    def drop_pending(self, model: ModelName, key: str) -> None:
        self._pending.pop((model, key), None)

    def version(self, ref: VersionRef) -> VersionRecord | None:
        return self._versions.get(ref)

    def version_by_uuid(self, uuid: VersionUuid) -> VersionRecord | None:
        ref = self._by_uuid.get(uuid)
        return None if ref is None else self._versions[ref]

    def version_by_key(self, model: ModelName, key: str) -> VersionRecord | None:
        ref = self._by_key.get((model, key))
        return None if ref is None else self._versions[ref]

    def version_by_digest(self, digest: Digest) -> VersionRecord | None:
        return next((r for r in self._versions.values() if r.artifact_digest == digest), None)

    def versions_by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        found = [r for r in self._versions.values() if r.image is not None and r.image.digest == digest]
        return tuple(sorted(found, key=lambda r: r.ref))

    def versions(self, model: ModelName) -> tuple[VersionRecord, ...]:
        return tuple(sorted((r for r in self._versions.values() if r.model == model), key=lambda r: r.number))

    def add_version(self, record: VersionRecord) -> None:
        key = (record.model, record.idempotency_key)
        if record.ref in self._versions or record.uuid in self._by_uuid or key in self._by_key:
            raise AlreadyExists(f"The version {record.ref}, its uuid or its idempotency key is already registered.")
        self._refuse_second_production(record)
        self._versions[record.ref] = record
        self._by_uuid[record.uuid] = record.ref
        self._by_key[key] = record.ref

    def replace_version(self, record: VersionRecord) -> None:
        self._refuse_second_production(record)
        self._versions[record.ref] = record

    def deployment(self, model: ModelName) -> Deployment | None:
        return self._deployments.get(model)

    def deployments(self) -> tuple[Deployment, ...]:
        return tuple(self._deployments[model] for model in sorted(self._deployments))

    def put_deployment(self, deployment: Deployment) -> None:
        known = self._deployments.get(deployment.model)
        actual = 0 if known is None else known.generation
        if deployment.generation != actual + 1:
            raise GenerationConflict(
                f"The deployment of {deployment.model} is at generation {actual}: another call changed it first.",
                expected=deployment.generation - 1,
                actual=actual,
            )
        self._deployments[deployment.model] = deployment

    def revision(self) -> int:
        return self._revision.get("revision", 0)

    def bump_revision(self) -> int:
        self._revision["revision"] = self.revision() + 1
        return self.revision()

    def tenures(self, model: ModelName) -> tuple[ProductionPeriod, ...]:
        return self._tenures.get(model, ())

    def open_tenure(self, tenure: ProductionPeriod) -> None:
        known = self.tenures(tenure.model)
        if any(t.end is None for t in known):
            raise Conflict(f"The model {tenure.model} already has a version in production.")
        self._tenures[tenure.model] = (*known, tenure)

    def close_tenure(self, model: ModelName, *, end: datetime, event: str) -> None:
        self._tenures[model] = tuple(
            replace(t, end=end, end_event=event) if t.end is None else t for t in self.tenures(model)
        )

    def gate_records(self, ref: VersionRef) -> tuple[GateRecord, ...]:
        return self._gates.get(ref, ())

    def add_gate_record(self, ref: VersionRef, record: GateRecord) -> None:
        self._gates[ref] = (*self.gate_records(ref), record)

    def policies(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        return self._policies.get(model, ())

    def add_policy(self, document: PolicyDocument) -> None:
        known = self.policies(document.model)
        if any(p.version == document.version for p in known):
            raise AlreadyExists(f"The model {document.model} already has a policy with version {document.version}.")
        self._policies[document.model] = tuple(sorted((*known, document), key=lambda p: p.version))

    def scan(self) -> Iterator[StoredRow]:
        for ref in sorted(self._versions):
            yield StoredRow(kind=RowKind.VERSION, name=str(ref), content=self._versions[ref])
        for deployment in self.deployments():
            yield StoredRow(kind=RowKind.DEPLOYMENT, name=deployment.model, content=deployment)
        for model in sorted(self._policies):
            for document in self._policies[model]:
                yield StoredRow(kind=RowKind.POLICY, name=f"{model} {document.version}", content=document)
        for model in sorted(self._tenures):
            for number, period in enumerate(self._tenures[model], 1):
                numbered = NumberedPeriod(number=number, period=period)
                yield StoredRow(kind=RowKind.PERIOD, name=f"{model} {number}", content=numbered)

    def api_keys(self) -> tuple[ApiKey, ...]:
        return tuple(sorted(self._keys.values(), key=lambda k: (k.added_at, k.digest)))

    def key(self, digest: str) -> ApiKey | None:
        return self._keys.get(digest)

    def put_key(self, key: ApiKey) -> None:
        self._keys[key.digest] = key

    def add_report(self, report: ServerReport, *, received_at: datetime) -> None:
        for counters in report.counters:
            line = (report.server, report.epoch, counters.model, counters.version)
            known = self._counters.get(line, ())
            if all(c.seq != report.seq for c in known):
                added = _Counted(at=received_at, seq=report.seq, counters=counters)
                self._counters[line] = tuple(sorted((*known, added), key=lambda c: c.seq))
        last = self._servers.get(report.server)
        if last is None or is_newer(report, last.report):
            self._servers[report.server] = ServerState(report=report, received_at=received_at)

    def servers(self) -> tuple[ServerState, ...]:
        return tuple(self._servers[name] for name in sorted(self._servers))

    def growth(self, ref: VersionRef, window: Window) -> tuple[VersionCounters, ...]:
        found = []
        for (_, _, model, version), counted in sorted(self._counters.items(), key=lambda item: item[0]):
            if (model, version) == (ref.model, ref.number) and (after := _last(counted, window.end)) is not None:
                before = _last(counted, window.start)
                found.append(grown(None if before is None else before.counters, after.counters))
        return tuple(found)

    def prune_reports(self, before: datetime) -> None:
        for line, counted in list(self._counters.items()):
            server = self._servers.get(line[0])
            later = tuple(c for c in counted if c.at > before)
            alive = bool(later) or (server is not None and server.report.epoch == line[1])
            base = _last(counted, before) if alive else None
            kept = later if base is None else tuple(sorted((base, *later), key=lambda c: c.seq))
            if kept:
                self._counters[line] = kept
            else:
                del self._counters[line]

    def put_snapshot(self, snapshot: Snapshot, *, recorded_at: datetime) -> None:
        self._snapshots[snapshot.ref, snapshot.source, snapshot.window] = _Recorded(at=recorded_at, snapshot=snapshot)

    def snapshots(
        self, ref: VersionRef, *, ended_after: datetime, recorded_from: datetime | None = None
    ) -> tuple[Snapshot, ...]:
        found = [
            recorded.snapshot
            for (of, _, window), recorded in self._snapshots.items()
            if of == ref and window.end > ended_after and (recorded_from is None or recorded.at >= recorded_from)
        ]
        return tuple(sorted(found, key=lambda s: (s.window.end, s.window.start, s.source)))

    def fine_snapshots(
        self, source: str, *, shorter_than: timedelta, ended_by: datetime, limit: int
    ) -> tuple[Snapshot, ...]:
        found = [
            recorded.snapshot
            for (_, of, window), recorded in self._snapshots.items()
            if of == source and window.length < shorter_than and window.end <= ended_by
        ]
        return tuple(sorted(found, key=lambda s: (s.ref.model, s.ref.number, s.window.start))[:limit])

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        self._snapshots.pop((snapshot.ref, snapshot.source, snapshot.window), None)

    def _refuse_second_production(self, record: VersionRecord) -> None:
        if record.stage is Stage.PRODUCTION:
            for other in self.versions(record.model):
                if other.stage is Stage.PRODUCTION and other.ref != record.ref:
                    raise Conflict(f"The model {record.model} already has a production version: {other.ref}.")


def _last(counted: tuple[_Counted, ...], moment: datetime) -> _Counted | None:
    return max((c for c in counted if c.at <= moment), key=lambda c: c.seq, default=None)


class MemoryPlannedChanges:
    """Implements :class:`mendel.registry.PlannedChanges` over one transaction's tables."""

    def __init__(self, tables: MemoryTables) -> None:
        self._promotions: dict[ModelName, WaitingPromotion] = tables.table("planned_promotions")
        self._runs: dict[ModelName, CanaryRun] = tables.table("canary_runs")

    def promotion(self, model: ModelName) -> WaitingPromotion | None:
        return self._promotions.get(model)

    def promotions(self, *, waiting: bool) -> tuple[WaitingPromotion, ...]:
        found = (self._promotions[model] for model in sorted(self._promotions))
        return tuple(one for one in found if not waiting or one.state is WaitingState.WAITING)

    def put_promotion(self, promotion: WaitingPromotion) -> None:
        self._promotions[promotion.ref.model] = promotion

    def canary_run(self, model: ModelName) -> CanaryRun | None:
        return self._runs.get(model)

    def canary_runs(self) -> tuple[CanaryRun, ...]:
        return tuple(self._runs[model] for model in sorted(self._runs))

    def put_canary_run(self, run: CanaryRun) -> None:
        self._runs[run.ref.model] = run

    def drop_canary_run(self, model: ModelName) -> None:
        self._runs.pop(model, None)


STORES: dict[type, Callable[[MemoryTables], object]] = {
    RegistryStore: MemoryRegistryStore,
    PlannedChanges: MemoryPlannedChanges,
}
