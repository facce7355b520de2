"""The port for read models, which console, API and CLI use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from mendel.durable import LedgerEntry
from mendel.healing import Incident, PlaybookRun
from mendel.registry import PresenceOf, presence_at
from mendel.values import ModelName
from mendel.views.read_models import FleetView, IncidentView, ModelView


class Views(Protocol):
    """
    Read models (``tx.store(Views)``); each is read from one consistent state of the store.

    The number of database queries of a view does not depend on the number of models, versions, incidents or runs.
    """

    def fleet(self, now: datetime, *, presence: PresenceOf = presence_at) -> FleetView:
        """
        Give every model: the version in production, its health, and what waits for a person.

        Args:
            presence: Decides which servers report.
        """

    def model(self, model: ModelName, now: datetime, *, presence: PresenceOf = presence_at) -> ModelView:
        """
        Give one model with its versions, deployment, policy, incidents and runs.

        Args:
            presence: Decides which servers report.

        Raises:
            ModelNotFound: The model has no version.
        """

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        """Give the newest *limit* incidents (of *model*, or of all models), newest first."""

    def incident(self, incident_id: str) -> IncidentView:
        """
        Give one incident with its decisions and runs.

        Raises:
            IncidentNotFound: No incident has this id.
        """

    def runs(
        self, model: ModelName | None = None, *, waiting: bool = False, limit: int = 1000
    ) -> tuple[PlaybookRun, ...]:
        """
        Give the newest *limit* runs (of *model*, or of all models), oldest first; *waiting* gives only runs that need
        approval.
        """

    def history(
        self, subject: str | None = None, *, after: int = 0, limit: int = 1000, types: Sequence[str] = ()
    ) -> tuple[LedgerEntry, ...]:
        """
        Give the ledger entries after sequence number *after*, in ascending order, at most *limit*.

        Args:
            subject: A version (``credit@3``), or a model with all its versions (``credit``); None for everything.
            types: Only events of these types; empty for all.
        """
