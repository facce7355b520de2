"""Incidents, decisions, runs and pauses in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from mendel.adapters.memory.tables import MemoryTables
from mendel.errors import AlreadyExists, IncidentNotFound, RunNotFound
from mendel.healing import DecisionRecord, HealingStore, Incident, Pause, PlaybookRun, RunState
from mendel.values import ModelName


class MemoryHealingStore:
    """Implements :class:`mendel.healing.HealingStore`."""

    def __init__(self, tables: MemoryTables) -> None:
        self._numbers: dict[str, int] = tables.table("healing_numbers")
        self._incidents: dict[str, Incident] = tables.table("incidents")
        self._decisions: dict[str, DecisionRecord] = tables.table("decisions")
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
