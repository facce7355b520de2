"""The ports of healing: its store, retraining, and the watcher of effects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mendel.healing.decision_records import DecisionRecord
from mendel.healing.entities import (
    Effect,
    Incident,
    Pause,
)
from mendel.healing.looks import Look, LookKind, LookVolume
from mendel.healing.playbook_runs import (
    PlaybookRun,
)
from mendel.healing.remedies import Former
from mendel.registry import PolicyDocument
from mendel.retraining import LabelSupply
from mendel.values import ModelName


class Training(Protocol):
    """The part of :class:`mendel.retraining.Retraining` that healing uses."""

    def supply(
        self, model: ModelName, document: PolicyDocument, now: datetime, *, since: datetime | None = None
    ) -> LabelSupply:
        """Give the labels that a retraining of *model* could use now, for rows predicted since *since*."""


class EffectMonitor(Protocol):
    """Checks for a playbook whether its change has solved the incident."""

    def effect(self, incident: Incident, *, since: datetime, now: datetime) -> Effect:
        """Whether the incident's signals are gone, measured on the serving version from *since* to *now*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOutcome:
    """The result of a replay of the former version: whether it does better, and the readings that show it."""

    former: Former
    text: str


class FormerVersion(Protocol):
    """Asks whether the former version of a model would do better on the rows of an incident; changes nothing."""

    def compare(self, incident: Incident, *, now: datetime, within: timedelta) -> ReplayOutcome:
        """
        Let the version that a rollback would return to answer the rows of *incident*.

        A version that cannot be loaded, missing rows and a replay that takes longer than *within* give ``unknown`` with
        the reason.
        """


class HealingStore(Protocol):
    """
    Incidents, decisions, looks, runs and pauses (``tx.store(HealingStore)``), bound to one transaction.

    Constraints of the store ensure at most one unresolved incident per model version, cause and server, and at most one
    running run per model.
    """

    def next_number(self, series: str) -> int:
        """The next number of *series* (``INC-2026``), from 1, gapless over committed transactions."""

    def add_incident(self, incident: Incident) -> None:
        """
        Add a new incident.

        Raises:
            AlreadyExists: The id is taken, or the version has an unresolved incident of that cause and server.
        """

    def put_incident(self, incident: Incident) -> None:
        """
        Replace the incident with the id of *incident*.

        Raises:
            IncidentNotFound: No incident has this id.
        """

    def incident(self, incident_id: str) -> Incident:
        """
        The incident with this id.

        Raises:
            IncidentNotFound: No incident has this id.
        """

    def open_incidents(self, model: ModelName | None = None) -> tuple[Incident, ...]:
        """Every unresolved incident (of *model*), oldest first."""

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        """The newest *limit* incidents (of *model*), newest first."""

    def add_decision(self, record: DecisionRecord) -> None:
        """Add a decision."""

    def decisions(self, incident_id: str) -> tuple[DecisionRecord, ...]:
        """The decisions about an incident, oldest first."""

    def add_look(self, look: Look) -> None:
        """Add a look."""

    def extend_look(self, look_id: str, until: datetime) -> None:
        """Set the time until which a look holds; no error if the look was deleted."""

    def last_look(
        self, model: ModelName, kind: LookKind, *, incident: str | None = None, by: datetime | None = None
    ) -> Look | None:
        """Give the look of this kind (about *incident*) that was added last, and began by *by*; None without one."""

    def looks(
        self,
        model: ModelName | None = None,
        *,
        incident: str | None = None,
        since: datetime,
        after: str | None = None,
        limit: int,
    ) -> tuple[Look, ...]:
        """Give at most *limit* looks that held at or after *since*, as they were added, behind the look *after*."""

    def look_volumes(self, model: ModelName | None = None) -> tuple[LookVolume, ...]:
        """Count the looks and their bytes by model and by the day (UTC) on which they began."""

    def prune_looks(self, before: datetime) -> int:
        """Delete the looks that ended before *before*; gives their number."""

    def put_run(self, run: PlaybookRun) -> None:
        """
        Add the run, or replace the run with its id.

        Raises:
            AlreadyExists: *run* is running, and so is another run of its model.
        """

    def run(self, run_id: str) -> PlaybookRun:
        """
        The run with this id.

        Raises:
            RunNotFound: No run has this id.
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
        Give runs of *model* and *incident*, oldest first: unfinished runs, and runs made at or after *since*.

        At most the newest *limit* runs are returned.
        """

    def put_pause(self, pause: Pause) -> None:
        """Pause healing for the pause's model or for all models; replaces an earlier pause."""

    def lift_pause(self, model: ModelName | None) -> bool:
        """Lift the pause of *model*, or the one for all models; True if there was a pause."""

    def pauses(self) -> tuple[Pause, ...]:
        """Every pause; the pause for all models comes first."""
