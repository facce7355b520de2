"""The parts of a hub that operations use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from mendel.durable import Clock, Notary, UnitOfWork, Workflows
from mendel.healing import Canaries, Healing, LookResult
from mendel.predictions import LabelRow, PredictionLog, SegmentInbox
from mendel.registry import PresenceOf, Registry
from mendel.retraining import HoldoutGates, ParityChecks
from mendel.values import ModelName, Principal
from mendel.views import Views

T = TypeVar("T")


class LabelIntake(Protocol):
    """Stores labels that are posted to the hub instead of a server."""

    def accept_labels(self, labels: Sequence[LabelRow]) -> None:
        """Store *labels* durably; raises StoreUnavailable if no label was stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """The health of a service of the hub: ``healthy``, ``degraded``, ``unhealthy`` or ``disabled`` (not configured)."""

    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHealth:
    """
    The health of a hub.

    Attributes:
        status: ``unhealthy`` if the state database is unhealthy; else ``degraded`` if another service is unhealthy or
            degraded, or a background job fails; else ``healthy``.
        failing_chores: The last error of each failing background job, by the name of the job.
    """

    status: str
    version: str
    services: dict[str, ServiceHealth]
    failing_chores: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubParts:
    """
    The objects that operations use.

    Attributes:
        parity: Checks versions in new Python processes.
        gates: Judges versions for a first deployment.
        notary: Signs checkpoints of the ledger.
        project_roots: The directories and URLs below which a registration with an API key may name a repository.
        workflows: Runs durable workflows; None in a command without a hub, whose effects wait in the outbox.
        observe: Checks the counters and the prediction log of one model now, and lets healing react to the signals.
        health: Checks every service of the hub.
        stopping: Gives True when the hub is stopping, so that long polls are answered at once.
        scratch: A directory for uploads in progress, on the same disk as the artefacts.
    """

    registry: Registry
    parity: ParityChecks
    gates: HoldoutGates
    healing: Healing
    canaries: Canaries
    log: PredictionLog
    inbox: SegmentInbox
    intake: LabelIntake
    unit: UnitOfWork
    notary: Notary
    clock: Clock
    scratch: Path
    observe: Callable[[ModelName], LookResult]
    health: Callable[[], HubHealth]
    project_roots: tuple[str, ...] = ()
    workflows: Workflows | None = None
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Call:
    """A call of an operation: the hub's objects, and the caller that the credential of the request proves."""

    hub: HubParts
    caller: Principal

    @property
    def by(self) -> str:
        """The id of the caller, which the ledger records."""
        return self.caller.id

    @property
    def presence(self) -> PresenceOf:
        """The hub's decision which servers report."""
        return self.hub.registry.performance.presence

    def read(self, ask: Callable[[Views], T]) -> T:
        """Run the query *ask* in a read transaction."""
        return self.hub.unit.read(lambda tx: ask(tx.store(Views)))
