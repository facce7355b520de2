"""Incidents, decisions, runs and pauses in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

from mendel.adapters.memory.tables import MemoryTables
from mendel.errors import AlreadyExists, IncidentNotFound, RunNotFound
from mendel.healing import (
    DecisionRecord,
    HealingStore,
    Incident,
    Look,
    LookKind,
    LookVolume,
    Pause,
    PlaybookRun,
    RunState,
    pack_look,
)
from mendel.values import ModelName


class MemoryHealingStore:
    """Implements :class:`mendel.healing.HealingStore`."""

    def __init__(self, tables: MemoryTables) -> None:
        self._numbers: dict[str, int] = tables.table("healing_numbers")
        self._incidents: dict[str, Incident] = tables.table("incidents")
        self._decisions: dict[str, DecisionRecord] = tables.table("decisions")
        self._looks: dict[str, Look] = tables.table("looks")
        self._runs: dict[str, PlaybookRun] = tables.table("playbook_runs")
        self._pauses: dict[ModelName | None, Pause] = tables.table("pauses")

    def next_number(self, series: str) -> int:
        self._numbers[series] = self._numbers.get(series, 0) + 1
        return self._numbers[series]

    def add_incident(self, incident: Incident) -> None:
        if incident.id in self._incidents:
            raise AlreadyExists(f"The incident {incident.id} already exists.")
        self._require_single(incident)
        self._incidents[incident.id] = incident

    def put_incident(self, incident: Incident) -> None:
        self.incident(incident.id)
        self._require_single(incident)
        self._incidents[incident.id] = incident

    def incident(self, incident_id: str) -> Incident:
        if incident_id not in self._incidents:
            raise IncidentNotFound(f"No incident has the id {incident_id!r}.")
        return self._incidents[incident_id]

    def open_incidents(self, model: ModelName | None = None) -> tuple[Incident, ...]:
        return tuple(
            one
            for one in self._incidents.values()
            if one.status.unresolved and (model is None or one.ref.model == model)
        )

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        found = [one for one in self._incidents.values() if model is None or one.ref.model == model]
        return tuple(reversed(found))[:limit]

    def add_decision(self, record: DecisionRecord) -> None:
        self._decisions[record.id] = record

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        return tuple(one for one in self._decisions.values() if one.incident == incident_id)

    def add_look(self, look: Look) -> None:
        self._looks[look.id] = look

    def extend_look(self, look_id: str, until: datetime) -> None:
        if look_id in self._looks:
            self._looks[look_id] = replace(self._looks[look_id], until=until)

    def last_look(
        self, model: ModelName, kind: LookKind, *, incident: str | None = None, by: datetime | None = None
    ) -> Look | None:
        wanted = (model, kind, incident)
        found = (one for one in reversed(self._looks.values()) if (one.model, one.kind, one.incident) == wanted)
        return next((one for one in found if by is None or one.at <= by), None)

    def looks(
        self,
        model: ModelName | None = None,
        *,
        incident: str | None = None,
        since: datetime,
        after: str | None = None,
        limit: int,
    ) -> tuple[Look, ...]:
        begin = 0 if after is None else list(self._looks).index(after) + 1
        found = [
            one
            for one in list(self._looks.values())[begin:]
            if one.until >= since
            and (model is None or one.model == model)
            and (incident is None or one.incident == incident)
        ]
        return tuple(found[:limit])

    def look_volumes(self, model: ModelName | None = None) -> tuple[LookVolume, ...]:
        sizes: dict[tuple[ModelName, date], list[int]] = {}
        for one in self._looks.values():
            if model is None or one.model == model:
                sizes.setdefault((one.model, one.at.astimezone(UTC).date()), []).append(len(pack_look(one)))
        return tuple(
            LookVolume(model=of, day=day, looks=len(found), size_bytes=sum(found))
            for (of, day), found in sorted(sizes.items())
        )

    def prune_looks(self, before: datetime) -> int:
        old = [one.id for one in self._looks.values() if one.until < before]
        for look_id in old:
            del self._looks[look_id]
        return len(old)

    def put_run(self, run: PlaybookRun) -> None:
        for other in self._runs.values():
            both = RunState.RUNNING is run.state is other.state and other.ref.model == run.ref.model
            if both and other.id != run.id:
                raise AlreadyExists(
                    f"Run {other.id} of {run.ref.model} is active; a model has only one active run at a time."
                )
        self._runs[run.id] = run

    def run(self, run_id: str) -> PlaybookRun:
        if run_id not in self._runs:
            raise RunNotFound(f"No healing run has the id {run_id!r}.")
        return self._runs[run_id]

    def runs(
        self,
        model: ModelName | None = None,
        *,
        incident: str | None = None,
        since: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[PlaybookRun, ...]:
        found = [
            run
            for run in self._runs.values()
            if (model is None or run.ref.model == model)
            and (incident is None or run.incident == incident)
            and (since is None or run.created_at >= since or not run.state.over)
        ]
        return tuple(found[-limit:])

    def put_pause(self, pause: Pause) -> None:
        self._pauses[pause.model] = pause

    def lift_pause(self, model: ModelName | None) -> bool:
        return self._pauses.pop(model, None) is not None

    def pauses(self) -> tuple[Pause, ...]:
        return tuple(sorted(self._pauses.values(), key=lambda pause: pause.model or ""))

    def _require_single(self, incident: Incident) -> None:
        for other in self._incidents.values():
            same = (other.ref, other.cause, other.server) == (incident.ref, incident.cause, incident.server)
            if same and other.id != incident.id and other.status.unresolved and incident.status.unresolved:
                raise AlreadyExists(f"The incident {other.id} is already open for {incident.ref} and {incident.cause}.")


STORES: dict[type, Callable[[MemoryTables], object]] = {HealingStore: MemoryHealingStore}
