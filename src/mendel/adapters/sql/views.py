"""Read models from the state database: one query for the rows, one for measurements of all production versions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    CTE,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Connection,
    Integer,
    Row,
    Select,
    String,
    Text,
    and_,
    cast,
    column,
    func,
    literal,
    null,
    select,
    true,
    union_all,
    values,
)

from mendel.adapters.sql.durable import SqlLedger
from mendel.adapters.sql.healing import UNRESOLVED, WAITING, SqlHealingStore, decisions, incidents, pauses, runs
from mendel.adapters.sql.registry import SqlRegistryStore
from mendel.adapters.sql.registry_tables import (
    counters,
    deployments,
    policies,
    servers,
    snapshots,
    tenures,
    versions,
)
from mendel.durable import LedgerEntry
from mendel.errors import IncidentNotFound
from mendel.healing import DecisionRecord, Incident, Pause, PlaybookRun
from mendel.registry import (
    PolicyDocument,
    PresenceOf,
    ServerState,
    ServingWindow,
    Snapshot,
    VersionRecord,
    grown,
    presence_at,
    unknown_model,
)
from mendel.values import (
    Deployment,
    ModelName,
    ServerReport,
    Stage,
    VersionCounters,
    VersionRef,
    from_json,
    from_micros,
    to_micros,
)
from mendel.views import (
    FleetView,
    IncidentView,
    Measurements,
    ModelFacts,
    ModelView,
    Views,
    fleet_view,
    model_row,
    servers_by_model,
)

_NO_NUMBER, _NO_TEXT = cast(null(), BigInteger), cast(null(), Text)
_MOST_WINDOWS = 5000
"""The maximum number of windows in one query: a window takes six parameters, and SQLite allows 32,766."""
_INCIDENTS, _RUNS = 100, 1000

T = TypeVar("T")
_Rows = dict[str, list[Row[Any]]]


class SqlViews:
    """Implements :class:`mendel.views.Views`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def fleet(self, now: datetime, *, presence: PresenceOf = presence_at) -> FleetView:
        rows = self._gathered(*_state(None), _kind("pause", "", None, pauses.c.body))
        facts = [_facts(ModelName(model), rows_of_it) for model, rows_of_it in _by_model(rows)]
        halted = sorted((from_json(row.body, Pause) for row in rows["pause"]), key=lambda pause: pause.model or "")
        return fleet_view(facts, self._measured(facts, now), _servers(rows), tuple(halted), now, presence=presence)

    def model(self, model: ModelName, now: datetime, *, presence: PresenceOf = presence_at) -> ModelView:
        rows = self._gathered(
            *_state(model),
            _kind("version", versions.c.model, versions.c.number, versions.c.body).where(versions.c.model == model),
            _newest("incident", incidents, incidents.c.model == model, _INCIDENTS),
            _newest("run", runs, runs.c.model == model, _RUNS),
        )
        if not rows["versions"]:
            raise unknown_model(model)
        facts = _facts(model, rows)
        measured = self._measured([facts], now)
        return ModelView(
            row=model_row(
                facts,
                next(iter(measured.values()), Measurements()),
                servers_by_model(_servers(rows)).get(model, ()),
                now,
                presence,
            ),
            versions=tuple(reversed(_read(rows["version"], VersionRecord))),
            deployment=facts.deployment,
            history=tuple(reversed(SqlRegistryStore(self._connection).tenures(model))),
            policy=facts.policy,
            incidents=tuple(reversed(_read(rows["incident"], Incident))),
            runs=_read(rows["run"], PlaybookRun),
        )

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        return SqlHealingStore(self._connection).incidents(model, limit=limit)

    def incident(self, incident_id: str) -> IncidentView:
        rows = self._gathered(
            _newest("incident", incidents, incidents.c.id == incident_id, 1),
            _kind("decision", "", decisions.c.position, decisions.c.body).where(decisions.c.incident == incident_id),
            _newest("run", runs, runs.c.incident == incident_id, _RUNS),
        )
        if not rows["incident"]:
            raise IncidentNotFound(f"No incident has the id {incident_id!r}.")
        return IncidentView(
            incident=from_json(rows["incident"][0].body, Incident),
            decisions=_read(rows["decision"], DecisionRecord),
            runs=_read(rows["run"], PlaybookRun),
        )

    def runs(
        self, model: ModelName | None = None, *, waiting: bool = False, limit: int = 1000
    ) -> tuple[PlaybookRun, ...]:
        where = true() if model is None else runs.c.model == model
        query = _newest("run", runs, where & runs.c.state.in_(WAITING) if waiting else where, limit)
        return _read(self._gathered(query)["run"], PlaybookRun)

    def history(
        self, subject: str | None = None, *, after: int = 0, limit: int = 1000, types: Sequence[str] = ()
    ) -> tuple[LedgerEntry, ...]:
        return SqlLedger(self._connection).entries(after=after, limit=limit, types=types, subject=subject)

    def _gathered(self, *queries: Select[Any]) -> _Rows:
        """Run all *queries* as one statement; gives the rows by kind, each kind sorted by number."""
        rows: _Rows = defaultdict(list)
        for row in sorted(self._connection.execute(union_all(*queries)), key=lambda row: row.number or 0):
            rows[row.kind].append(row)
        return rows

    def _measured(self, facts: Sequence[ModelFacts], now: datetime) -> dict[VersionRef, Measurements]:
        windows = [window for one in facts if (window := one.window(now)) is not None]
        found: dict[VersionRef, Measurements] = {}
        for start in range(0, len(windows), _MOST_WINDOWS):
            found |= _measurements(self._connection.execute(_measuring(windows[start : start + _MOST_WINDOWS])))
        return found


def _state(model: ModelName | None) -> tuple[Select[Any], ...]:
    """Make the queries for the fleet view: for every model, or only for *model*."""

    def kind(name: str, of: ColumnElement[str], number: Any, body: Any) -> Select[Any]:
        query = _kind(name, of, number, body)
        return query if model is None else query.where(of == model)

    newest = select(policies.c.model, func.max(policies.c.version).label("version")).group_by(policies.c.model)
    latest = newest.subquery()
    is_latest = and_(policies.c.model == latest.c.model, policies.c.version == latest.c.version)
    return (
        kind("versions", versions.c.model, func.count(), None).group_by(versions.c.model),
        kind("serving", versions.c.model, versions.c.number, versions.c.body).where(
            versions.c.stage == Stage.PRODUCTION.value
        ),
        kind("deployment", deployments.c.model, None, deployments.c.body),
        kind("policy", policies.c.model, policies.c.version, policies.c.body).join(latest, is_latest),
        kind("since", tenures.c.model, tenures.c.start_at, None).where(tenures.c.end_at.is_(None)),
        kind("open", incidents.c.model, incidents.c.position, incidents.c.body).where(
            incidents.c.status.in_(UNRESOLVED)
        ),
        kind("waiting", runs.c.model, func.count(), None).where(runs.c.state.in_(WAITING)).group_by(runs.c.model),
        _kind("server", servers.c.server, servers.c.received_at, servers.c.body),
    )


def _kind(name: str, model: ColumnElement[str] | str, number: Any, body: Any) -> Select[Any]:
    return select(
        literal(name, String).label("kind"),
        (literal(model, String) if isinstance(model, str) else model).label("model"),
        cast(_NO_NUMBER if number is None else number, BigInteger).label("number"),
        (_NO_TEXT if body is None else body).label("body"),
    )


def _newest(name: str, table: Any, where: ColumnElement[bool], limit: int) -> Select[Any]:
    rows = select(table.c.position, table.c.body).where(where).order_by(table.c.position.desc()).limit(limit).subquery()
    return _kind(name, "", rows.c.position, rows.c.body)


def _facts(model: ModelName, rows: _Rows) -> ModelFacts:
    deployment = from_json(rows["deployment"][0].body, Deployment) if rows["deployment"] else Deployment(model=model)
    serving = [from_json(row.body, VersionRecord) for row in rows["serving"] if row.number == deployment.production]
    return ModelFacts(
        deployment=deployment,
        versions=rows["versions"][0].number,
        policy=from_json(rows["policy"][0].body, PolicyDocument) if rows["policy"] else PolicyDocument(model=model),
        serving=serving[0] if serving else None,
        since=from_micros(rows["since"][0].number) if rows["since"] else None,
        open_severities=tuple(from_json(row.body, Incident).severity for row in rows["open"]),
        waiting=rows["waiting"][0].number if rows["waiting"] else 0,
    )


def _by_model(rows: _Rows) -> Iterator[tuple[str, _Rows]]:
    """
    Group the rows by model; models without a version are skipped, because a policy can exist before the first version.
    """
    sorted_out: dict[str, _Rows] = {row.model: defaultdict(list) for row in rows["versions"]}
    for kind in ("versions", "serving", "deployment", "policy", "since", "open", "waiting"):
        for row in rows[kind]:
            if row.model in sorted_out:
                sorted_out[row.model][kind].append(row)
    return iter(sorted(sorted_out.items()))


def _servers(rows: _Rows) -> tuple[ServerState, ...]:
    return tuple(
        ServerState(report=from_json(row.body, ServerReport), received_at=from_micros(row.number))
        for row in sorted(rows["server"], key=lambda row: row.model)
    )


def _read(rows: Sequence[Row[Any]], kind: type[T]) -> tuple[T, ...]:
    return tuple(from_json(row.body, kind) for row in rows)


def _measuring(windows: Sequence[ServingWindow]) -> CompoundSelect[Any]:
    """Make the query for the counters at start and end of every window, and the snapshots in it."""
    asked = _asked(windows)
    return union_all(
        _counted("before", asked, asked.c.start_at),
        _counted("after", asked, asked.c.end_at),
        select(
            literal("snapshot", String).label("kind"),
            snapshots.c.model,
            snapshots.c.version,
            literal("", String).label("server"),
            literal("", String).label("epoch"),
            snapshots.c.body,
        )
        .join(asked, and_(snapshots.c.model == asked.c.model, snapshots.c.version == asked.c.version))
        .where(snapshots.c.end_at > asked.c.ended_after, snapshots.c.recorded_at >= asked.c.recorded_from),
    )


def _asked(windows: Sequence[ServingWindow]) -> CTE:
    moments = [column(name, BigInteger) for name in ("start_at", "end_at", "ended_after", "recorded_from")]
    rows = [
        (
            window.ref.model,
            window.ref.number,
            *map(to_micros, (window.counters.start, window.counters.end, window.ended_after, window.recorded_from)),
        )
        for window in windows
    ]
    return values(column("model", String), column("version", Integer), *moments, name="asked").data(rows).cte("asked")


def _counted(kind: str, asked: CTE, moment: ColumnElement[int]) -> Select[Any]:
    line = [counters.c[name] for name in ("model", "version", "server", "epoch")]
    newest = (
        select(*line, func.max(counters.c.seq).label("seq"))
        .join(asked, and_(counters.c.model == asked.c.model, counters.c.version == asked.c.version))
        .where(counters.c.at <= moment)
        .group_by(*line)
        .subquery()
    )
    same = and_(*(counters.c[name] == newest.c[name] for name in ("model", "version", "server", "epoch", "seq")))
    return select(literal(kind, String).label("kind"), *line, counters.c.body).join(newest, same)


def _measurements(rows: Iterable[Row[Any]]) -> dict[VersionRef, Measurements]:
    before: dict[tuple[VersionRef, str, str], VersionCounters] = {}
    after: dict[tuple[VersionRef, str, str], VersionCounters] = {}
    recorded: defaultdict[VersionRef, list[Snapshot]] = defaultdict(list)
    for row in rows:
        ref = VersionRef(ModelName(row.model), row.version)
        if row.kind == "snapshot":
            recorded[ref].append(from_json(row.body, Snapshot))
        else:
            ends = before if row.kind == "before" else after
            ends[ref, row.server, row.epoch] = from_json(row.body, VersionCounters)
    counted: defaultdict[VersionRef, list[VersionCounters]] = defaultdict(list)
    for line in sorted(after):
        counted[line[0]].append(grown(before.get(line), after[line]))
    return {
        ref: Measurements(
            counted=tuple(counted[ref]),
            recorded=tuple(sorted(recorded[ref], key=lambda one: (one.window.end, one.window.start, one.source))),
        )
        for ref in {*counted, *recorded}
    }


STORES: dict[type, Callable[[Connection], object]] = {Views: SqlViews}
