"""Read models in memory, computed from the stores of the other rooms."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from datetime import datetime

from mendel.adapters.memory.durable import MemoryLedger
from mendel.adapters.memory.healing import MemoryHealingStore
from mendel.adapters.memory.registry import MemoryRegistryStore
from mendel.adapters.memory.tables import MemoryTables
from mendel.durable import LedgerEntry
from mendel.healing import Incident, PlaybookRun
from mendel.registry import PolicyDocument, PresenceOf, in_production_since, presence_at, unknown_model
from mendel.values import Deployment, ModelName, VersionRef
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


class MemoryViews:
    """Implements :class:`mendel.views.Views`."""

    def __init__(self, tables: MemoryTables) -> None:
        self._registry = MemoryRegistryStore(tables)
        self._healing = MemoryHealingStore(tables)
        self._ledger = MemoryLedger(tables)

    def fleet(self, now: datetime, *, presence: PresenceOf = presence_at) -> FleetView:
        facts = [self._facts(model) for model in self._registry.models()]
        measured = {one.serving.ref: self._measured(one, now) for one in facts if one.serving is not None}
        return fleet_view(facts, measured, self._registry.servers(), self._healing.pauses(), now, presence=presence)

    def model(self, model: ModelName, now: datetime, *, presence: PresenceOf = presence_at) -> ModelView:
        if model not in self._registry.models():
            raise unknown_model(model)
        facts = self._facts(model)
        servers = servers_by_model(self._registry.servers()).get(model, ())
        return ModelView(
            row=model_row(facts, self._measured(facts, now), servers, now, presence),
            versions=tuple(reversed(self._registry.versions(model))),
            deployment=facts.deployment,
            history=tuple(reversed(self._registry.tenures(model))),
            policy=facts.policy,
            incidents=self._healing.incidents(model),
            runs=self._healing.runs(model),
        )

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        return self._healing.incidents(model, limit=limit)

    def incident(self, incident_id: str) -> IncidentView:
        return IncidentView(
            incident=self._healing.incident(incident_id),
            decisions=self._healing.decisions(incident_id),
            runs=self._healing.runs(incident=incident_id),
        )

    def runs(
        self, model: ModelName | None = None, *, waiting: bool = False, limit: int = 1000
    ) -> tuple[PlaybookRun, ...]:
        found = self._healing.runs(model, limit=sys.maxsize)
        return tuple(run for run in found if run.state.waiting or not waiting)[-limit:]

    def history(
        self, subject: str | None = None, *, after: int = 0, limit: int = 1000, types: Sequence[str] = ()
    ) -> tuple[LedgerEntry, ...]:
        return self._ledger.entries(after=after, limit=limit, types=types, subject=subject)

    def _facts(self, model: ModelName) -> ModelFacts:
        registry, healing = self._registry, self._healing
        deployment = registry.deployment(model) or Deployment(model=model)
        number = deployment.production
        policies = registry.policies(model)
        return ModelFacts(
            deployment=deployment,
            versions=len(registry.versions(model)),
            policy=policies[-1] if policies else PolicyDocument(model=model),
            serving=None if number is None else registry.version(VersionRef(model, number)),
            since=in_production_since(registry.tenures(model)),
            open_severities=tuple(incident.severity for incident in healing.open_incidents(model)),
            waiting=len(self.runs(model, waiting=True)),
        )

    def _measured(self, facts: ModelFacts, now: datetime) -> Measurements:
        window = facts.window(now)
        if window is None:
            return Measurements()
        return Measurements(
            counted=self._registry.growth(window.ref, window.counters),
            recorded=self._registry.snapshots(
                window.ref, ended_after=window.ended_after, recorded_from=window.recorded_from
            ),
        )


STORES: dict[type, Callable[[MemoryTables], object]] = {Views: MemoryViews}
