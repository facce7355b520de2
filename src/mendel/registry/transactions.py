"""Transactions of the registry: reads, writes that happen once per workflow step, and the events they append."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from mendel.durable import Event, NewId, StepKey, Transaction, UnitOfWork
from mendel.registry.ports import RegistryStore
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, from_builtins, to_builtins

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """What the data of every event about a version says, whatever happened."""

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
    Args:
        unit: Carries the :class:`RegistryStore`.
        new_id: Ids of events, and of registrations that bring no idempotency key.
    """

    def __init__(self, unit: UnitOfWork, new_id: NewId) -> None:
        self._unit = unit
        self.new_id = new_id

    def read(self, work: Callable[[RegistryStore], T]) -> T:
        """Run *work* on one consistent state of the registry."""
        return self._unit.read(lambda tx: work(tx.store(RegistryStore)))

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run *work* in one transaction, repeated whole when another writer was faster."""
        return self._unit.write(work)

    def write_once(self, kind: type[T], work: Callable[[Transaction], T], step: StepKey | None) -> T:
        """Run *work*, once per *step* if one is given; a repeated step returns the stored result, read as *kind*."""
        if step is None:
            return self._unit.write(work)
        return from_builtins(self._unit.write_once(step, lambda tx: to_builtins(work(tx))), kind)

    def event(self, kind: str, subject: str, by: str, now: datetime, **data: Any) -> Event:
        """A new event of the ledger, with its own id."""
        return Event(id=self.new_id(), type=kind, subject=subject, time=now, actor=by, data=to_builtins(data))

    def version_event(self, kind: str, record: VersionRecord, by: str, now: datetime, **data: Any) -> Event:
        """A new event about the version of *record*, with the facts that every such event has."""
        facts = to_builtins(VersionFacts.of(record, now))
        return self.event(kind, str(record.ref), by, now, **{**facts, **data})


class ModelLocks:
    """One lock per model, for calls to the artefact store that must not run side by side in one process."""

    def __init__(self) -> None:
        self._locks: defaultdict[ModelName, threading.Lock] = defaultdict(threading.Lock)

    def of(self, model: ModelName) -> threading.Lock:
        """The lock of *model*; the same object at every call."""
        return self._locks[model]
