"""The registry's rows in the state database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from mendel.adapters.sql.planned_changes import SqlPlannedChanges
from mendel.adapters.sql.registry_tables import (
    api_keys,
    counters,
    deployments,
    gate_records,
    policies,
    registrations,
    revision,
    servers,
    snapshots,
    tenures,
    versions,
)
from mendel.adapters.sql.stored_rows import period_of, stored_rows, version_columns
from mendel.errors import AlreadyExists, Conflict, GenerationConflict
from mendel.registry import (
    ApiKey,
    GateRecord,
    PendingRegistration,
    PlannedChanges,
    PolicyDocument,
    ProductionPeriod,
    RegistryStore,
    ServerState,
    Snapshot,
    StoredRow,
    VersionRecord,
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
    from_json,
    from_micros,
    to_json,
    to_micros,
)

T = TypeVar("T")
_ONLY = 1  # the id of the only row of the table revision


class SqlRegistryStore:
    """Implements :class:`mendel.registry.RegistryStore` over one transaction's connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def models(self) -> tuple[ModelName, ...]:
        found = self._connection.execute(select(versions.c.model).distinct().order_by(versions.c.model))
        return tuple(ModelName(name) for name in found.scalars())

    def pending(self, model: ModelName, key: str) -> PendingRegistration | None:
        where = (registrations.c.model == model) & (registrations.c.key == key)
        return self._one(PendingRegistration, registrations, where)

    def pending_before(self, moment: datetime) -> tuple[PendingRegistration, ...]:
        query = (
            select(registrations.c.body)
            .where(registrations.c.requested_at < to_micros(moment))
            .order_by(registrations.c.requested_at, registrations.c.model, registrations.c.key)
        )
        return tuple(from_json(body, PendingRegistration) for body in self._connection.execute(query).scalars())

    def all_pending(self, model: ModelName) -> tuple[PendingRegistration, ...]:
        query = select(registrations.c.body).where(registrations.c.model == model).order_by(registrations.c.key)
        return tuple(from_json(body, PendingRegistration) for body in self._connection.execute(query).scalars())

    def put_pending(self, registration: PendingRegistration) -> None:
        self._put(
            registrations,
            {"model": registration.model, "key": registration.idempotency_key},
            {"requested_at": to_micros(registration.requested_at), "body": _text(registration)},
        )

    def drop_pending(self, model: ModelName, key: str) -> None:
        where = (registrations.c.model == model) & (registrations.c.key == key)
        self._connection.execute(delete(registrations).where(where))

    def version(self, ref: VersionRef) -> VersionRecord | None:
        return self._one(VersionRecord, versions, _is(ref))

    def version_by_uuid(self, uuid: VersionUuid) -> VersionRecord | None:
        return self._one(VersionRecord, versions, versions.c.uuid == uuid)

    def version_by_key(self, model: ModelName, key: str) -> VersionRecord | None:
        return self._one(VersionRecord, versions, (versions.c.model == model) & (versions.c.key == key))

    def version_by_digest(self, digest: Digest) -> VersionRecord | None:
        return self._one(VersionRecord, versions, versions.c.artifact_digest == digest)

    def versions_by_image(self, digest: Digest) -> tuple[VersionRecord, ...]:
        query = (
            select(versions.c.body)
            .where(versions.c.image_digest == digest)
            .order_by(versions.c.model, versions.c.number)
        )
        return tuple(from_json(body, VersionRecord) for body in self._connection.execute(query).scalars())

    def versions(self, model: ModelName) -> tuple[VersionRecord, ...]:
        query = select(versions.c.body).where(versions.c.model == model).order_by(versions.c.number)
        return tuple(from_json(body, VersionRecord) for body in self._connection.execute(query).scalars())

    def add_version(self, record: VersionRecord) -> None:
        taken = or_(
            _is(record.ref),
            versions.c.uuid == record.uuid,
            and_(versions.c.model == record.model, versions.c.key == record.idempotency_key),
        )
        if self._connection.execute(select(versions.c.number).where(taken)).first() is not None:
            raise AlreadyExists(f"The version {record.ref}, its uuid or its idempotency key is already registered.")
        self._refuse_second_production(record)
        row = {"model": record.model, "number": record.number, "uuid": record.uuid, "key": record.idempotency_key}
        self._connection.execute(insert(versions), {**row, **version_columns(record), "body": _text(record)})

    def replace_version(self, record: VersionRecord) -> None:
        self._refuse_second_production(record)
        changed = {**version_columns(record), "body": _text(record)}
        self._connection.execute(update(versions).where(_is(record.ref)).values(**changed))

    def deployment(self, model: ModelName) -> Deployment | None:
        return self._one(Deployment, deployments, deployments.c.model == model)

    def deployments(self) -> tuple[Deployment, ...]:
        bodies = self._connection.execute(select(deployments.c.body).order_by(deployments.c.model)).scalars()
        return tuple(from_json(body, Deployment) for body in bodies)

    def put_deployment(self, deployment: Deployment) -> None:
        model, generation = deployment.model, deployment.generation
        row = {"generation": generation, "body": _text(deployment)}
        change = (
            update(deployments)
            .where(deployments.c.model == model, deployments.c.generation == generation - 1)
            .values(**row)
        )
        if self._connection.execute(change).rowcount:
            return
        where = deployments.c.model == model
        actual = self._connection.execute(select(deployments.c.generation).where(where)).scalar()
        if actual is not None or generation != 1:
            raise GenerationConflict(
                f"The deployment of {model} is at generation {actual or 0}: another call changed it first.",
                expected=generation - 1,
                actual=actual or 0,
            )
        self._connection.execute(insert(deployments), {"model": model, **row})

    def revision(self) -> int:
        return self._connection.execute(select(revision.c.revision)).scalar() or 0

    def bump_revision(self) -> int:
        change = update(revision).values(revision=revision.c.revision + 1)
        if not self._connection.execute(change).rowcount:
            self._connection.execute(insert(revision), {"id": _ONLY, "revision": 1})
        return self.revision()

    def tenures(self, model: ModelName) -> tuple[ProductionPeriod, ...]:
        query = select(tenures).where(tenures.c.model == model).order_by(tenures.c.position)
        return tuple(period_of(row) for row in self._connection.execute(query))

    def open_tenure(self, tenure: ProductionPeriod) -> None:
        standing = (tenures.c.model == tenure.model) & tenures.c.end_at.is_(None)
        if self._connection.execute(select(tenures.c.position).where(standing)).first() is not None:
            raise Conflict(f"The model {tenure.model} already has a version in production.")
        row = {
            "model": tenure.model,
            "version": tenure.version,
            "start_at": to_micros(tenure.start),
            "end_at": None if tenure.end is None else to_micros(tenure.end),
            "actor": tenure.actor,
            "reason": tenure.reason,
            "start_event": tenure.start_event,
            "end_event": tenure.end_event,
        }
        self._connection.execute(insert(tenures), row)

    def close_tenure(self, model: ModelName, *, end: datetime, event: str) -> None:
        change = update(tenures).where(tenures.c.model == model, tenures.c.end_at.is_(None))
        self._connection.execute(change.values(end_at=to_micros(end), end_event=event))

    def gate_records(self, ref: VersionRef) -> tuple[GateRecord, ...]:
        query = (
            select(gate_records.c.body)
            .where(gate_records.c.model == ref.model, gate_records.c.version == ref.number)
            .order_by(gate_records.c.position)
        )
        return tuple(from_json(body, GateRecord) for body in self._connection.execute(query).scalars())

    def add_gate_record(self, ref: VersionRef, record: GateRecord) -> None:
        row = {"model": ref.model, "version": ref.number, "body": _text(record)}
        self._connection.execute(insert(gate_records), row)

    def policies(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        query = select(policies.c.body).where(policies.c.model == model).order_by(policies.c.version)
        return tuple(from_json(body, PolicyDocument) for body in self._connection.execute(query).scalars())

    def add_policy(self, document: PolicyDocument) -> None:
        where = (policies.c.model == document.model) & (policies.c.version == document.version)
        if self._connection.execute(select(policies.c.version).where(where)).first() is not None:
            raise AlreadyExists(f"The model {document.model} already has a policy with version {document.version}.")
        row = {"model": document.model, "version": document.version, "body": _text(document)}
        self._connection.execute(insert(policies), row)

    def scan(self) -> Iterator[StoredRow]:
        return stored_rows(self._connection)

    def api_keys(self) -> tuple[ApiKey, ...]:
        query = select(api_keys.c.body).order_by(api_keys.c.added_at, api_keys.c.digest)
        return tuple(from_json(body, ApiKey) for body in self._connection.execute(query).scalars())

    def key(self, digest: str) -> ApiKey | None:
        return self._one(ApiKey, api_keys, api_keys.c.digest == digest)

    def put_key(self, key: ApiKey) -> None:
        row = {"digest": key.digest, "added_at": to_micros(key.added_at), "body": _text(key)}
        self._connection.execute(delete(api_keys).where(api_keys.c.digest == key.digest))
        self._connection.execute(insert(api_keys), row)

    def add_report(self, report: ServerReport, *, received_at: datetime) -> None:
        this = (counters.c.server == report.server) & (counters.c.epoch == report.epoch)
        known = select(counters.c.seq).where(this, counters.c.seq == report.seq).limit(1)
        if report.counters and self._connection.execute(known).first() is None:
            rows = [_counted(report, counted, received_at) for counted in report.counters]
            self._connection.execute(insert(counters), rows)
        last = self._one(ServerReport, servers, servers.c.server == report.server)
        if last is None or is_newer(report, last):
            row = {"epoch": report.epoch, "received_at": to_micros(received_at), "body": _text(report)}
            self._put(servers, {"server": report.server}, row)

    def servers(self) -> tuple[ServerState, ...]:
        rows = self._connection.execute(select(servers.c.body, servers.c.received_at).order_by(servers.c.server))
        return tuple(
            ServerState(report=from_json(row.body, ServerReport), received_at=from_micros(row.received_at))
            for row in rows
        )

    def growth(self, ref: VersionRef, window: Window) -> tuple[VersionCounters, ...]:
        before = dict(self._counted_at(ref, window.start))
        after = self._counted_at(ref, window.end)
        return tuple(grown(before.get(line), counted) for line, counted in after)

    def prune_reports(self, before: datetime) -> None:
        limit, other = to_micros(before), counters.alias()
        line = and_(*(other.c[name] == counters.c[name] for name in ("server", "epoch", "model", "version")))
        newest = select(func.max(other.c.seq)).where(line, other.c.at <= limit).scalar_subquery()
        goes_on = exists().where(line, other.c.at > limit)
        alive = exists().where(servers.c.server == counters.c.server, servers.c.epoch == counters.c.epoch)
        is_base = and_(counters.c.seq == newest, or_(goes_on, alive))
        self._connection.execute(delete(counters).where(counters.c.at <= limit, ~is_base))

    def put_snapshot(self, snapshot: Snapshot, *, recorded_at: datetime) -> None:
        self._put(snapshots, _snapshot_key(snapshot), {"recorded_at": to_micros(recorded_at), "body": _text(snapshot)})

    def snapshots(
        self, ref: VersionRef, *, ended_after: datetime, recorded_from: datetime | None = None
    ) -> tuple[Snapshot, ...]:
        query = (
            select(snapshots.c.body)
            .where(snapshots.c.model == ref.model, snapshots.c.version == ref.number)
            .where(snapshots.c.end_at > to_micros(ended_after))
            .order_by(snapshots.c.end_at, snapshots.c.start_at, snapshots.c.source)
        )
        if recorded_from is not None:
            query = query.where(snapshots.c.recorded_at >= to_micros(recorded_from))
        return tuple(from_json(body, Snapshot) for body in self._connection.execute(query).scalars())

    def fine_snapshots(
        self, source: str, *, shorter_than: timedelta, ended_by: datetime, limit: int
    ) -> tuple[Snapshot, ...]:
        table, longest = snapshots.c, shorter_than // timedelta(microseconds=1)
        query = (
            select(table.body)
            .where(table.source == source, table.end_at <= to_micros(ended_by))
            .where(table.end_at - table.start_at < longest)
            .order_by(table.model, table.version, table.start_at)
            .limit(limit)
        )
        return tuple(from_json(body, Snapshot) for body in self._connection.execute(query).scalars())

    def drop_snapshot(self, snapshot: Snapshot) -> None:
        where = (snapshots.c[name] == value for name, value in _snapshot_key(snapshot).items())
        self._connection.execute(delete(snapshots).where(*where))

    def _one(self, kind: type[T], table: Table, where: ColumnElement[bool]) -> T | None:
        body = self._connection.execute(select(table.c.body).where(where).limit(1)).scalar()
        return None if body is None else from_json(body, kind)

    def _put(self, table: Table, key: dict[str, Any], row: dict[str, Any]) -> None:
        where = and_(*(table.c[name] == value for name, value in key.items()))
        if not self._connection.execute(update(table).where(where).values(**row)).rowcount:
            self._connection.execute(insert(table), {**key, **row})

    def _refuse_second_production(self, record: VersionRecord) -> None:
        if record.stage is Stage.PRODUCTION:
            rival = (
                select(versions.c.number)
                .where(versions.c.model == record.model, versions.c.stage == Stage.PRODUCTION.value)
                .where(versions.c.number != record.number)
            )
            number = self._connection.execute(rival).scalar()
            if number is not None:
                raise Conflict(f"The model {record.model} already has a production version: {record.model}@{number}.")

    def _counted_at(self, ref: VersionRef, moment: datetime) -> Iterable[tuple[tuple[str, str], VersionCounters]]:
        mine = (counters.c.model == ref.model) & (counters.c.version == ref.number)
        newest = (
            select(counters.c.server, counters.c.epoch, func.max(counters.c.seq).label("seq"))
            .where(mine, counters.c.at <= to_micros(moment))
            .group_by(counters.c.server, counters.c.epoch)
            .subquery()
        )
        same = and_(*(counters.c[name] == newest.c[name] for name in ("server", "epoch", "seq")))
        query = select(counters.c.server, counters.c.epoch, counters.c.body).join(newest, same).where(mine)
        rows = self._connection.execute(query.order_by(counters.c.server, counters.c.epoch))
        return [((row.server, row.epoch), from_json(row.body, VersionCounters)) for row in rows]


def _is(ref: VersionRef) -> ColumnElement[bool]:
    return (versions.c.model == ref.model) & (versions.c.number == ref.number)


def _counted(report: ServerReport, counted: VersionCounters, received_at: datetime) -> dict[str, Any]:
    return {
        "server": report.server,
        "epoch": report.epoch,
        "model": counted.model,
        "version": counted.version,
        "seq": report.seq,
        "at": to_micros(received_at),
        "body": _text(counted),
    }


def _snapshot_key(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "model": snapshot.ref.model,
        "version": snapshot.ref.number,
        "source": snapshot.source,
        "start_at": to_micros(snapshot.window.start),
        "end_at": to_micros(snapshot.window.end),
    }


def _text(noun: object) -> str:
    return to_json(noun).decode()


STORES: dict[type, Callable[[Connection], object]] = {
    RegistryStore: SqlRegistryStore,
    PlannedChanges: SqlPlannedChanges,
}
