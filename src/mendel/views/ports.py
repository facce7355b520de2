"""What console, API and CLI read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from mendel.durable import LedgerEntry
from mendel.healing import Incident, PlaybookRun
from mendel.values import ModelName
from mendel.views.read_models import FleetView, IncidentView, ModelView


class Views(Protocol):
    """
    Read models (``tx.store(Views)``), each one consistent state of the store.

    The number of questions a view asks of a database does not depend on how many models, versions, incidents or runs
    there are.
    """

    def fleet(self, now: datetime) -> FleetView:
        """Every model: what serves, how it is, and whether somebody is needed."""

    def model(self, model: ModelName, now: datetime) -> ModelView:
        """
        One model with its versions, deployment, policy, incidents and runs.

        Raises:
            ModelNotFound: It has no version.
        """

    def incidents(self, model: ModelName | None = None, *, limit: int = 100) -> tuple[Incident, ...]:
        """The newest *limit* incidents (of *model*), newest first."""

    def incident(self, incident_id: str) -> IncidentView:
        """
        One incident with its decisions and runs.

        Raises:
            IncidentNotFound: There is none of that id.
        """

    def runs(
        self, model: ModelName | None = None, *, waiting: bool = False, limit: int = 1000
    ) -> tuple[PlaybookRun, ...]:
        """The newest *limit* runs (of *model*), oldest first; only those that wait for a person if *waiting*."""

    def history(
        self, subject: str | None = None, *, after: int = 0, limit: int = 1000, types: Sequence[str] = ()
    ) -> tuple[LedgerEntry, ...]:
        """
        At most *limit* ledger entries above sequence *after*, ascending.

        Args:
            subject: A version, or a model and all its versions; None: everything.
            types: Only events of these types; empty: all.
        """
