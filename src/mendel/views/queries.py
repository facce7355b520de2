"""The queries behind console, API and CLI: pure assembly of what registry, healing and ledger answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mendel.durable import Ledger, LedgerEntry, Transaction, UnitOfWork
from mendel.healing import HealingStore, Incident, PlaybookRun, RunState, following
from mendel.registry import Registry, ServerState
from mendel.values import Health, ModelName
from mendel.views.read_models import FleetView, HistoryRow, IncidentView, ModelRow, ModelView

_WORST_FIRST = (Health.CRITICAL, Health.DEGRADED, Health.UNKNOWN, Health.HEALTHY)
_TOLD = ("title", "reason", "reasons", "why", "how", "text", "verdict", "playbook", "run", "state", "to_version")


class Views:
    """Reads; changes nothing."""

    def __init__(self, unit: UnitOfWork, registry: Registry) -> None:
        self._unit = unit
        self._registry = registry

    def fleet(self, now: datetime) -> FleetView:
        """Every model in a row."""
        servers = self._registry.performance.servers()
        rows = [self._row(model, servers, now) for model in self._registry.versions.models()]
        pauses = self._unit.read(lambda tx: tx.store(HealingStore).pauses())
        return FleetView(at=now, models=tuple(sorted(rows, key=_urgency)), pauses=pauses)

    def model(self, model: ModelName, now: datetime) -> ModelView:
        """
        One model in full.

        Raises:
            ModelNotFound: No such model.
        """
        versions = self._registry.versions.of(model)
        incidents, runs = self._unit.read(lambda tx: _of_model(tx, model))
        return ModelView(
            row=self._row(model, self._registry.performance.servers(), now),
            versions=tuple(reversed(versions)),
            deployment=self._registry.lifecycle.deployment(model),
            history=tuple(reversed(self._registry.lifecycle.history(model))),
            policy=self._registry.policies.of(model),
            incidents=incidents,
            runs=tuple(reversed(runs)),
        )

    def incident(self, incident_id: str) -> IncidentView:
        """
        One incident in full.

        Raises:
            IncidentNotFound: No such incident.
        """

        def read(tx: Transaction) -> IncidentView:
            store = tx.store(HealingStore)
            return IncidentView(
                incident=store.incident(incident_id),
                decisions=store.decisions(incident_id),
                runs=store.runs(incident=incident_id),
            )

        return self._unit.read(read)

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        """The newest incidents, newest first."""
        return self._unit.read(lambda tx: tx.store(HealingStore).incidents(model, limit=limit))

    def inbox(self) -> tuple[PlaybookRun, ...]:
        """Every run that waits for somebody, oldest first."""
        runs = self._unit.read(lambda tx: tx.store(HealingStore).runs())
        return tuple(run for run in runs if run.state in {RunState.PROPOSED, RunState.HELD})

    def history(
        self, subject: str | None = None, *, after: int = 0, limit: int = 100, types: Sequence[str] = ()
    ) -> tuple[HistoryRow, ...]:
        """
        Events above sequence *after*, ascending.

        Args:
            subject: A version, or a model and all its versions; None: everything.
        """
        entries = self._unit.read(
            lambda tx: tx.store(Ledger).entries(after=after, limit=limit, types=types, subject=subject)
        )
        return tuple(_history_row(entry) for entry in entries)

    def _row(self, model: ModelName, servers: Sequence[ServerState], now: datetime) -> ModelRow:
        deployment, health = (
            self._registry.lifecycle.deployment(model),
            self._registry.performance.health(model, now=now),
        )
        incidents, runs = self._unit.read(lambda tx: _open_of_model(tx, model))
        return ModelRow(
            model=model,
            versions=len(self._registry.versions.of(model)),
            production=deployment.production,
            stage=health.stage,
            deployed_at=health.deployed_at,
            health=health.health_status,
            reasons=health.reasons,
            metrics=health.metrics,
            generation=deployment.generation,
            following=following(deployment, servers, now),
            open_incidents=len(incidents),
            worst=max((one.severity for one in incidents), key=lambda severity: severity.rank, default=None),
            waiting=sum(run.state in {RunState.PROPOSED, RunState.HELD} for run in runs),
        )


def _of_model(tx: Transaction, model: ModelName) -> tuple[tuple[Incident, ...], tuple[PlaybookRun, ...]]:
    store = tx.store(HealingStore)
    return store.incidents(model), store.runs(model)


def _open_of_model(tx: Transaction, model: ModelName) -> tuple[tuple[Incident, ...], tuple[PlaybookRun, ...]]:
    store = tx.store(HealingStore)
    return store.open_incidents(model), store.runs(model)


def _urgency(row: ModelRow) -> tuple[int, int, str]:
    worst = 0 if row.worst is None else row.worst.rank + 1
    return -worst, _WORST_FIRST.index(row.health), row.model


def _history_row(entry: LedgerEntry) -> HistoryRow:
    event = entry.event
    return HistoryRow(
        sequence=entry.sequence,
        time=event.time,
        type=event.type,
        subject=event.subject,
        actor=event.actor,
        summary=_summary(event.data),
        data=event.data,
        hash=entry.hash,
    )


def _summary(said: dict[str, Any]) -> str:
    parts = [(name, said[name]) for name in _TOLD if said.get(name)]
    return "; ".join(
        ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value) for _, value in parts
    )
