"""What every part of the registry stands on: one unit of work, one clock, and its events."""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from mendel.durable import Clock, Event, NewId, StepKey, Transaction, UnitOfWork
from mendel.errors import ModelNotFound, VersionNotFound
from mendel.registry.policies import PolicyDocument
from mendel.registry.ports import ArtifactStore, RegistryStore
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, VersionRef, from_builtins, to_builtins

T = TypeVar("T")


def random_secret() -> str:
    """256 bits of chance, marked as ours so that scanners know a leaked one."""
    return f"mendel_{secrets.token_urlsafe(32)}"


class RegistryContext:
    """
    Args:
        unit: Carries the :class:`RegistryStore`.
        artifacts: Where trees are kept.
        clock: The time.
        new_id: Ids of events, and idempotency keys of who gave none.
        new_secret: Secrets of keys; not for reproduction.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        artifacts: ArtifactStore,
        clock: Clock,
        new_id: NewId,
        *,
        new_secret: NewId = random_secret,
    ) -> None:
        self._unit = unit
        self._artifacts = artifacts
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret
        self._serial: defaultdict[ModelName, threading.Lock] = defaultdict(threading.Lock)

    def _read(self, work: Callable[[RegistryStore], T]) -> T:
        return self._unit.read(lambda tx: work(tx.store(RegistryStore)))

    def _write(self, kind: type[T], work: Callable[[Transaction], T], step: StepKey | None) -> T:
        """Run *work* once: per call, or per *step* where it is part of a workflow."""
        if step is None:
            return self._unit.write(work)
        return from_builtins(self._unit.write_once(step, lambda tx: to_builtins(work(tx))), kind)

    def _event(self, kind: str, subject: str, by: str, now: datetime, **data: Any) -> Event:
        return Event(id=self._new_id(), type=kind, subject=subject, time=now, actor=by, data=to_builtins(data))


def require_version(store: RegistryStore, ref: VersionRef) -> VersionRecord:
    """
    The version of *ref*.

    Raises:
        VersionNotFound: There is none; says which there are.
    """
    found = store.version(ref)
    if found is None:
        numbers = [record.number for record in store.versions(ref.model)]
        known = f"{ref.model} has 1 to {numbers[-1]}." if numbers else f"There is no model {ref.model!r}."
        raise VersionNotFound(f"There is no version {ref}.", remedy=known)
    return found


def require_model(store: RegistryStore, model: ModelName) -> None:
    """
    Let only models pass that have a version; what is deployed has one.

    Raises:
        ModelNotFound: *model* has none.
    """
    if store.deployment(model) is None and model not in store.models():
        raise ModelNotFound(
            f"There is no model {model!r}.", remedy="Register a version of it, or look at the list of models."
        )


def current_policy(store: RegistryStore, model: ModelName) -> PolicyDocument:
    """The newest policy of *model*, or the default."""
    written = store.policies(model)
    return written[-1] if written else PolicyDocument(model=model)


def described(record: VersionRecord, now: datetime) -> dict[str, Any]:
    """The fields that the data of every model event has, whatever happened."""
    return {
        "model_id": record.model_id,
        "idempotency_key": record.idempotency_key,
        "registered_version": record.number,
        "timestamp": now,
        "baseline_metrics": record.metrics,
        "metadata": record.metadata,
    }
