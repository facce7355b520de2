"""The registry's rows as the database holds them: content beside the columns by which a row is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Row, Table, select

from mendel.adapters.sql.registry_tables import deployments, policies, tenures, versions
from mendel.errors import MendelError
from mendel.registry import NumberedPeriod, PolicyDocument, ProductionPeriod, RowKind, StoredRow, VersionRecord
from mendel.values import Deployment, ModelName, from_json, from_micros


def stored_rows(connection: Connection) -> Iterator[StoredRow]:
    """Give every row of versions, deployments, policies and production periods: kind by kind, each by key."""
    for row in _all(connection, versions, "model", "number"):
        yield _row(RowKind.VERSION, f"{row.model}@{row.number}", row, VersionRecord, _version_key)
    for row in _all(connection, deployments, "model"):
        yield _row(RowKind.DEPLOYMENT, row.model, row, Deployment, _deployment_key)
    for row in _all(connection, policies, "model", "version"):
        yield _row(RowKind.POLICY, f"{row.model} {row.version}", row, PolicyDocument, _policy_key)
    yield from _periods(connection)


def version_columns(record: VersionRecord) -> dict[str, Any]:
    """Give the columns beside the content of a version's row that may change."""
    return {
        "stage": record.stage.value,
        "artifact_digest": record.artifact_digest,
        "image_digest": None if record.image is None else record.image.digest,
    }


def period_of(row: Row[Any]) -> ProductionPeriod:
    """Decode a row of the table ``tenures``."""
    return ProductionPeriod(
        model=ModelName(row.model),
        version=row.version,
        start=from_micros(row.start_at),
        end=None if row.end_at is None else from_micros(row.end_at),
        actor=row.actor,
        reason=row.reason,
        start_event=row.start_event,
        end_event=row.end_event,
    )


def _all(connection: Connection, table: Table, *keys: str) -> Iterator[Row[Any]]:
    yield from connection.execute(select(table).order_by(*(table.c[key] for key in keys)))


def _row(
    kind: RowKind, name: str, row: Row[Any], content: type[Any], columns: Callable[[Any], Mapping[str, Any]]
) -> StoredRow:
    try:
        found = from_json(row.body, content)
    except MendelError as error:
        return StoredRow(kind=kind, name=name, content=None, fault=f"the content cannot be decoded: {error.message}")
    held = row._mapping  # noqa: SLF001 - public, in spite of its name
    faults = (
        f"the column {column} is {held[column]!r}, but the content says {value!r}"
        for column, value in columns(found).items()
        if held[column] != value
    )
    return StoredRow(kind=kind, name=name, content=found, fault=next(faults, ""))


def _version_key(record: VersionRecord) -> dict[str, Any]:
    key = {"model": record.model, "number": record.number, "uuid": record.uuid, "key": record.idempotency_key}
    return {**key, **version_columns(record)}


def _deployment_key(deployment: Deployment) -> dict[str, Any]:
    return {"model": deployment.model, "generation": deployment.generation}


def _policy_key(document: PolicyDocument) -> dict[str, Any]:
    return {"model": document.model, "version": document.version}


def _periods(connection: Connection) -> Iterator[StoredRow]:
    model, number = "", 0
    for row in _all(connection, tenures, "model", "position"):
        number = number + 1 if row.model == model else 1
        model = row.model
        content = NumberedPeriod(number=number, period=period_of(row))
        yield StoredRow(kind=RowKind.PERIOD, name=f"{model} {number}", content=content)
