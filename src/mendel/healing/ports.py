"""What healing needs: its store, and what it uses of other rooms."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from mendel.healing.decision_records import DecisionRecord
from mendel.healing.entities import (
    Effect,
    Incident,
    Pause,
)
from mendel.healing.playbook_runs import (
    PlaybookRun,
)
from mendel.registry import PolicyDocument
from mendel.retraining import LabelSupply
from mendel.values import ModelName


class Training(Protocol):
    """What healing uses of :class:`mendel.retraining.Retraining`, which specifies it."""

    def supply(
        self, model: ModelName, document: PolicyDocument, now: datetime, *, since: datetime | None = None
    ) -> LabelSupply:
        """What a training of *model* could use now, of the rows answered *since*."""


class EffectMonitor(Protocol):
    """Judges for a playbook whether the change it made has helped."""

    def effect(self, incident: Incident, *, since: datetime, now: datetime) -> Effect:
        """Whether the incident's signals are gone, judged on what the serving version did from *since* to *now*."""


class HealingStore(Protocol):
    """
    Incidents, decisions, runs and pauses (``tx.store(HealingStore)``), bound to one transaction.

    Constraints, not callers, hold that a model version has one unresolved incident of one cause, and that a model has
    one running run.
    """

    def next_number(self, series: str) -> int:
        """The next number of *series* (``INC-2026``), from 1, gapless over committed transactions."""

    def add_incident(self, incident: Incident) -> None:
        """
        Keep a new incident.

        Raises:
            AlreadyExists: An unresolved one of that version and cause, or one of that id, is there.
        """

    def put_incident(self, incident: Incident) -> None:
        """
        Replace the incident of that id.

        Raises:
            IncidentNotFound: There is none.
        """

    def incident(self, incident_id: str) -> Incident:
        """
        The incident.

        Raises:
            IncidentNotFound: There is none.
        """

    def open_incidents(self, model: ModelName | None = None) -> tuple[Incident, ...]:
        """Every unresolved incident (of *model*), oldest first."""

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        """The newest *limit* incidents (of *model*), newest first."""

    def add_decision(self, record: DecisionRecord) -> None:
        """Keep a decision."""

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        """The decisions about an incident, oldest first."""

    def put_run(self, run: PlaybookRun) -> None:
        """
        Keep or replace the run of that id.

        Raises:
            AlreadyExists: Another run of the model is running, and this one would be too.
        """

    def run(self, run_id: str) -> PlaybookRun:
        """
        The run.

        Raises:
            RunNotFound: There is none.
        """

    def runs(
        self,
        model: ModelName | None = None,
        *,
        incident: str | None = None,
        since: datetime | None = None,
        limit: int = 1000,
    ) -> tuple[PlaybookRun, ...]:
        """
        Runs, oldest first: of *model*, of *incident*; those that are not over and those made at or after *since*.

        The newest *limit* of them.
        """

    def put_pause(self, pause: Pause) -> None:
        """Switch healing off for its model, or for all; replaces the pause that is there."""

    def lift_pause(self, model: ModelName | None) -> bool:
        """Switch it on again; whether it was off."""

    def pauses(self) -> tuple[Pause, ...]:
        """Every pause, the one for all first."""
