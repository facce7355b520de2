"""The registry's transactions: reads, writes that happen once per workflow step, and their events."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from mendel.durable import Event, NewId, StepKey, Transaction, UnitOfWork
from mendel.registry.ports import RegistryStore
from mendel.registry.row_recording import with_rows_recorded
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, from_builtins, to_builtins

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """The facts in the data of every event about a version."""

    model_id: str
    idempotency_key: str
    registered_version: int
    timestamp: datetime
    baseline_metrics: dict[str, float]
    metadata: dict[str, Any]

    @classmethod
    def of(cls, record: VersionRecord, now: datetime) -> VersionFacts:
        """The facts of *record* at *now*."""
        return cls(
            model_id=record.model_id,
            idempotency_key=record.idempotency_key,
            registered_version=record.number,
            timestamp=now,
            baseline_metrics=record.metrics,
            metadata=record.metadata,
        )


class RegistryTransactions:
    """
    Runs the transactions of the registry, and makes the events of their changes.

    Args:
        unit: Gives transactions with a :class:`RegistryStore`.
        new_id: Makes ids for events, and for registrations without an idempotency key.
    """

    def __init__(self, unit: UnitOfWork, new_id: NewId) -> None:
        self._unit = unit
        self.new_id = new_id

    def read(self, work: Callable[[RegistryStore], T]) -> T:
        """Run *work* on one consistent state of the registry."""
        return self._unit.read(lambda tx: work(tx.store(RegistryStore)))

    def read_all(self, work: Callable[[Transaction], T]) -> T:
        """Run *work*, which reads other stores too, on one consistent state of the database."""
        return self._unit.read(work)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """
        Run *work* in one transaction; if another writer interferes, the whole transaction runs again.

        The events of *work* carry the rows of the registry that *work* wrote.
        """
        return self._unit.write(with_rows_recorded(work))

    def write_once(self, kind: type[T], work: Callable[[Transaction], T], step: StepKey | None) -> T:
        """
        Run *work* once per *step*; a repeated step gets the stored result, decoded as *kind*. Without *step*, always
        run *work*.
        """
        if step is None:
            return self.write(work)
        recorded = with_rows_recorded(work)
        return from_builtins(self._unit.write_once(step, lambda tx: to_builtins(recorded(tx))), kind)

    def event(self, kind: str, subject: str, by: str, now: datetime, **data: Any) -> Event:
        """Make an event for the ledger with a new id."""
        return Event(id=self.new_id(), type=kind, subject=subject, time=now, actor=by, data=to_builtins(data))

    def version_event(self, kind: str, record: VersionRecord, by: str, now: datetime, **data: Any) -> Event:
        """Make an event about the version of *record*, with the facts in every such event."""
        facts = to_builtins(VersionFacts.of(record, now))
        return self.event(kind, str(record.ref), by, now, **{**facts, **data})


class ModelLocks:
    """One lock per model, so that one process does not call the artefact store for a model in parallel."""

    def __init__(self) -> None:
        self._locks: defaultdict[ModelName, threading.Lock] = defaultdict(threading.Lock)

    def of(self, model: ModelName) -> threading.Lock:
        """Give the lock of *model*, the same object in every call."""
        return self._locks[model]
