"""The parts of a hub that operations use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from mendel.durable import Anchors, Clock, UnitOfWork, Workflows
from mendel.healing import Healing, LookResult
from mendel.predictions import LabelRow, PredictionLog, SegmentInbox
from mendel.registry import Registry
from mendel.values import ModelName
from mendel.views import Views

T = TypeVar("T")


class LabelIntake(Protocol):
    """Takes labels that come to the hub itself."""

    def accept_labels(self, labels: Sequence[LabelRow]) -> None:
        """When it returns, they are durably on their way; StoreUnavailable: none was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceHealth:
    """One service: ``healthy``, ``degraded``, ``unhealthy`` or ``disabled`` (not configured)."""

    status: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHealth:
    """
    The health of a hub.

    Attributes:
        status: ``unhealthy`` if the state database is, else ``degraded`` if any service or job is, else ``healthy``.
        failing_chores: The last error of each background job that fails, by name.
    """

    status: str
    version: str
    services: dict[str, ServiceHealth]
    failing_chores: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubParts:
    """
    The rooms behind the operations.

    Attributes:
        workflows: None where no hub runs and effects wait in the outbox.
        observe: Checks one model now, its counters and its log, and lets healing act on what it finds.
        health: Probes every service.
        stopping: Whether the hub is about to end, so that long polls shall be answered now.
        scratch: A directory for uploads in progress, on the same disk as the artefacts.
    """

    registry: Registry
    healing: Healing
    log: PredictionLog
    inbox: SegmentInbox
    intake: LabelIntake
    unit: UnitOfWork
    anchors: Anchors
    clock: Clock
    scratch: Path
    observe: Callable[[ModelName], LookResult]
    health: Callable[[], HubHealth]
    workflows: Workflows | None = None
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Call:
    """The hub that answers, and who calls: the principal of the credential."""

    hub: HubParts
    by: str

    def read(self, ask: Callable[[Views], T]) -> T:
        """Read one view."""
        return self.hub.unit.read(lambda tx: ask(tx.store(Views)))
