"""Incidents, decisions, playbook runs and pauses of healing in the state database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    Select,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from mendel.adapters.sql.table_metadata import metadata
from mendel.errors import AlreadyExists, IncidentNotFound, RunNotFound
from mendel.healing import (
    DecisionRecord,
    HealingStore,
    Incident,
    IncidentStatus,
    Look,
    LookKind,
    LookVolume,
    Pause,
    PlaybookRun,
    RunState,
    pack_look,
    unpack_look,
)
from mendel.values import ModelName, from_json, from_micros, to_json, to_micros

UNRESOLVED = [status.value for status in IncidentStatus if status.unresolved]
WAITING = [state.value for state in RunState if state.waiting]
_DAY = 86_400_000_000
_UNREADABLE = 0
"""The schema version of looks that this version of Mendel cannot read."""
_OVER = [state.value for state in RunState if state.over]
_OPEN = text(f"status IN ({', '.join(repr(status) for status in UNRESOLVED)})")
_RUNNING = text(f"state = '{RunState.RUNNING.value}'")


def _position() -> Column[int]:
    return Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


numbers = Table(
    "healing_numbers",
    metadata,
    Column("series", String(100), primary_key=True),
    Column("last", Integer, nullable=False),
)
incidents = Table(
    "incidents",
    metadata,
    _position(),
    Column("id", String(100), nullable=False, unique=True),
    Column("model", String(128), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("cause", String(50), nullable=False),
    Column("status", String(50), nullable=False),
    Column("body", Text, nullable=False),
    Column("server", String(200), nullable=False, server_default=text("''")),  # empty: about the version
)
Index(
    "one_open_incident",
    incidents.c.model,
    incidents.c.version,
    incidents.c.cause,
    incidents.c.server,
    unique=True,
    sqlite_where=_OPEN,
    postgresql_where=_OPEN,
)
decisions = Table(
    "decisions",
    metadata,
    _position(),
    Column("id", String(100), nullable=False, unique=True),
    Column("incident", String(100), nullable=False, index=True),
    Column("body", Text, nullable=False),
)
looks = Table(
    "looks",
    metadata,
    _position(),
    Column("id", String(100), nullable=False, unique=True),
    Column("model", String(128), nullable=False),
    Column("kind", String(50), nullable=False),
    Column("incident", String(100), nullable=False, index=True),  # empty: a check
    Column("at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False, index=True),
    Column("body", LargeBinary, nullable=False),
    Index("looks_of_model", "model", "kind", "incident", "position"),
)
runs = Table(
    "playbook_runs",
    metadata,
    _position(),
    Column("id", String(100), nullable=False, unique=True),
    Column("incident", String(100), index=True),
    Column("model", String(128), nullable=False, index=True),
    Column("state", String(50), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
Index("one_active_run", runs.c.model, unique=True, sqlite_where=_RUNNING, postgresql_where=_RUNNING)
pauses = Table(
    "healing_pauses",
    metadata,
    Column("scope", String(128), primary_key=True),  # empty: all models
    Column("body", Text, nullable=False),
)


class SqlHealingStore:
    """Implements :class:`mendel.healing.HealingStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def next_number(self, series: str) -> int:
        here = numbers.c.series == series
        last = self._connection.execute(select(numbers.c.last).where(here).with_for_update()).scalar()
        if last is None:
            self._connection.execute(insert(numbers), {"series": series, "last": 1})
            return 1
        self._connection.execute(update(numbers).where(here).values(last=last + 1))
        return int(last) + 1

    def add_incident(self, incident: Incident) -> None:
        if self._has(incidents, incident.id):
            raise AlreadyExists(f"The incident {incident.id} already exists.")
        self._require_single(incident)
        self._connection.execute(insert(incidents), _incident_row(incident))

    def put_incident(self, incident: Incident) -> None:
        self._require_single(incident)
        change = update(incidents).where(incidents.c.id == incident.id).values(**_incident_row(incident))
        if self._connection.execute(change).rowcount == 0:
            raise IncidentNotFound(f"No incident has the id {incident.id!r}.")

    def incident(self, incident_id: str) -> Incident:
        found = self._connection.execute(select(incidents.c.body).where(incidents.c.id == incident_id)).scalar()
        if found is None:
            raise IncidentNotFound(f"No incident has the id {incident_id!r}.")
        return from_json(found, Incident)

    def open_incidents(self, model: ModelName | None = None) -> tuple[Incident, ...]:
        query = select(incidents.c.body).where(incidents.c.status.in_(UNRESOLVED)).order_by(incidents.c.position)
        return self._read_incidents(query, model)

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        return self._read_incidents(select(incidents.c.body).order_by(incidents.c.position.desc()).limit(limit), model)

    def add_decision(self, record: DecisionRecord) -> None:
        row = {"id": record.id, "incident": record.incident, "body": _body(record)}
        self._connection.execute(insert(decisions), row)

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        query = select(decisions.c.body).where(decisions.c.incident == incident_id).order_by(decisions.c.position)
        return tuple(from_json(body, DecisionRecord) for body in self._bodies(query))

    def add_look(self, look: Look) -> None:
        row = {
            "id": look.id,
            "model": str(look.model),
            "kind": look.kind.value,
            "incident": look.incident or "",
            "at": to_micros(look.at),
            "until": to_micros(look.until),
            "body": pack_look(look),
        }
        self._connection.execute(insert(looks), row)

    def extend_look(self, look_id: str, until: datetime) -> None:
        self._connection.execute(update(looks).where(looks.c.id == look_id).values(until=to_micros(until)))

    def last_look(
        self, model: ModelName, kind: LookKind, *, incident: str | None = None, by: datetime | None = None
    ) -> Look | None:
        query = (
            select(looks)
            .where(looks.c.model == str(model), looks.c.kind == kind.value, looks.c.incident == (incident or ""))
            .order_by(looks.c.position.desc())
            .limit(1)
        )
        if by is not None:
            query = query.where(looks.c.at <= to_micros(by))
        return next(self._read_looks(query), None)

    def looks(
        self,
        model: ModelName | None = None,
        *,
        incident: str | None = None,
        since: datetime,
        after: str | None = None,
        limit: int,
    ) -> tuple[Look, ...]:
        query = select(looks).where(looks.c.until >= to_micros(since))
        if model is not None:
            query = query.where(looks.c.model == str(model))
        if incident is not None:
            query = query.where(looks.c.incident == incident)
        if after is not None:
            last = select(looks.c.position).where(looks.c.id == after).scalar_subquery()
            query = query.where(looks.c.position > last)
        return tuple(self._read_looks(query.order_by(looks.c.position).limit(limit)))

    def look_volumes(self, model: ModelName | None = None) -> tuple[LookVolume, ...]:
        day = (looks.c.at - looks.c.at % _DAY).label("day")
        size = func.sum(func.length(looks.c.body)).label("bytes")
        query = (
            select(looks.c.model, day, func.count().label("looks"), size)
            .group_by(looks.c.model, day)
            .order_by(looks.c.model, day)
        )
        if model is not None:
            query = query.where(looks.c.model == str(model))
        return tuple(
            LookVolume(
                model=ModelName(row.model), day=from_micros(row.day).date(), looks=row.looks, size_bytes=int(row.bytes)
            )
            for row in self._connection.execute(query)
        )

    def prune_looks(self, before: datetime) -> int:
        return self._connection.execute(delete(looks).where(looks.c.until < to_micros(before))).rowcount

    def _read_looks(self, query: Select[Any]) -> Iterator[Look]:
        for row in self._connection.execute(query):
            look = unpack_look(row.body) or Look(
                id=row.id,
                model=ModelName(row.model),
                kind=LookKind(row.kind),
                at=from_micros(row.at),
                until=from_micros(row.until),
                policy_hash="",
                schema=_UNREADABLE,
            )
            yield replace(look, until=from_micros(row.until))

    def put_run(self, run: PlaybookRun) -> None:
        if run.state is RunState.RUNNING:
            self._require_only(run)
        row = _run_row(run)
        if self._has(runs, run.id):
            self._connection.execute(update(runs).where(runs.c.id == run.id).values(**row))
        else:
            self._connection.execute(insert(runs), row)

    def run(self, run_id: str) -> PlaybookRun:
        found = self._connection.execute(select(runs.c.body).where(runs.c.id == run_id)).scalar()
        if found is None:
            raise RunNotFound(f"No healing run has the id {run_id!r}.")
        return from_json(found, PlaybookRun)

    def runs(
        self,
        model: ModelName | None = None,
        *,
        incident: str | None = None,
        since: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[PlaybookRun, ...]:
        query = select(runs.c.body).order_by(runs.c.position.desc()).limit(limit)
        if model is not None:
            query = query.where(runs.c.model == model)
        if incident is not None:
            query = query.where(runs.c.incident == incident)
        if since is not None:
            query = query.where(or_(runs.c.created_at >= to_micros(since), runs.c.state.not_in(_OVER)))
        return tuple(from_json(body, PlaybookRun) for body in reversed(self._bodies(query)))

    def put_pause(self, pause: Pause) -> None:
        self.lift_pause(pause.model)
        self._connection.execute(insert(pauses), {"scope": pause.model or "", "body": _body(pause)})

    def lift_pause(self, model: ModelName | None) -> bool:
        return self._connection.execute(delete(pauses).where(pauses.c.scope == (model or ""))).rowcount > 0

    def pauses(self) -> tuple[Pause, ...]:
        return tuple(from_json(body, Pause) for body in self._bodies(select(pauses.c.body).order_by(pauses.c.scope)))

    def _read_incidents(self, query: Select[tuple[str]], model: ModelName | None) -> tuple[Incident, ...]:
        if model is not None:
            query = query.where(incidents.c.model == model)
        return tuple(from_json(body, Incident) for body in self._bodies(query))

    def _bodies(self, query: Select[tuple[str]]) -> tuple[str, ...]:
        return tuple(row.body for row in self._connection.execute(query))

    def _has(self, table: Table, row_id: str) -> bool:
        return self._connection.execute(select(table.c.id).where(table.c.id == row_id)).first() is not None

    def _require_single(self, incident: Incident) -> None:
        if not incident.status.unresolved:
            return
        same = (
            (incidents.c.model == incident.ref.model)
            & (incidents.c.version == incident.ref.number)
            & (incidents.c.cause == incident.cause.value)
            & (incidents.c.server == (incident.server or ""))
            & incidents.c.status.in_(UNRESOLVED)
            & (incidents.c.id != incident.id)
        )
        if (other := self._connection.execute(select(incidents.c.id).where(same)).scalar()) is not None:
            raise AlreadyExists(f"The incident {other} is already open for {incident.ref} and {incident.cause}.")

    def _require_only(self, run: PlaybookRun) -> None:
        rival = (runs.c.model == run.ref.model) & (runs.c.state == RunState.RUNNING.value) & (runs.c.id != run.id)
        if (other := self._connection.execute(select(runs.c.id).where(rival)).scalar()) is not None:
            raise AlreadyExists(f"Run {other} of {run.ref.model} is active; a model has only one active run at a time.")


def _incident_row(incident: Incident) -> dict[str, Any]:
    return {
        "id": incident.id,
        "model": str(incident.ref.model),
        "version": incident.ref.number,
        "cause": incident.cause.value,
        "status": incident.status.value,
        "server": incident.server or "",
        "body": _body(incident),
    }


def _run_row(run: PlaybookRun) -> dict[str, Any]:
    return {
        "id": run.id,
        "incident": run.incident,
        "model": str(run.ref.model),
        "state": run.state.value,
        "created_at": to_micros(run.created_at),
        "body": _body(run),
    }


def _body(noun: object) -> str:
    return to_json(noun).decode()


STORES: dict[type, Callable[[Connection], object]] = {HealingStore: SqlHealingStore}
