"""Record the registry rows that a transaction writes in the transaction's events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from mendel.durable import Event, Transaction, WorkflowCall
from mendel.registry.history import ProductionPeriod
from mendel.registry.policies import PolicyDocument
from mendel.registry.ports import RegistryStore
from mendel.registry.registry_state import (
    ROW_EVENTS,
    ROWS,
    NumberedPeriod,
    RegistryRows,
    RegistryState,
    VersionState,
)
from mendel.registry.version_records import VersionRecord
from mendel.values import Deployment, ModelName, VersionRef, to_builtins

S = TypeVar("S")
T = TypeVar("T")


def with_rows_recorded(work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
    """
    Give a function that does *work*, and whose last event about each model carries the rows that *work* wrote of it.

    So the registry's state follows from the events of the ledger (:func:`mendel.registry.registry_state.fold`).
    """

    def recorded(tx: Transaction) -> T:
        recording = _RecordingTransaction(tx)
        result = work(recording)
        recording.finish()
        return result

    return recorded


class _RecordingTransaction:
    """Implements :class:`mendel.durable.Transaction`; the events wait until the end."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx
        self._watched: _WatchedStore | None = None
        self._events: list[Event] = []

    def store(self, port: type[S]) -> S:
        if port is not RegistryStore:
            return self._tx.store(port)
        if self._watched is None:
            self._watched = _WatchedStore(self._tx.store(RegistryStore))
        store: Any = self._watched
        return store  # type: ignore[no-any-return]

    def append(self, event: Event) -> None:
        self._events.append(event)

    def start(self, call: WorkflowCall) -> None:
        self._tx.start(call)

    def finish(self) -> None:
        """Append the events with the written rows."""
        written = RegistryState() if self._watched is None else RegistryState.of(self._watched.written())
        for model in written.models:
            place = _last_about(model, self._events)
            event = self._events[place]
            rows = to_builtins(written.of_model(model).rows)
            self._events[place] = replace(event, data={**event.data, ROWS: rows})
        for event in self._events:
            self._tx.append(event)


class _WatchedStore:
    """A :class:`RegistryStore` that remembers the keys of the written rows which the ledger records."""

    def __init__(self, store: RegistryStore) -> None:
        self._store = store
        self._versions: set[VersionRef] = set()
        self._deployments: set[ModelName] = set()
        self._policies: list[PolicyDocument] = []
        self._ended: dict[ModelName, int] = {}  # the number of a model's ended periods before the transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def add_version(self, record: VersionRecord) -> None:
        self._store.add_version(record)
        self._versions.add(record.ref)

    def replace_version(self, record: VersionRecord) -> None:
        self._store.replace_version(record)
        self._versions.add(record.ref)

    def put_deployment(self, deployment: Deployment) -> None:
        self._store.put_deployment(deployment)
        self._deployments.add(deployment.model)

    def add_policy(self, document: PolicyDocument) -> None:
        self._store.add_policy(document)
        self._policies.append(document)

    def open_tenure(self, tenure: ProductionPeriod) -> None:
        self._count_ended(tenure.model)
        self._store.open_tenure(tenure)

    def close_tenure(self, model: ModelName, *, end: datetime, event: str) -> None:
        self._count_ended(model)
        self._store.close_tenure(model, end=end, event=event)

    def written(self) -> RegistryRows:
        """Read the written rows back, as later transactions will read them."""
        records = [self._store.version(ref) for ref in sorted(self._versions)]
        deployments = [self._store.deployment(model) for model in sorted(self._deployments)]
        return RegistryRows(
            versions=tuple(VersionState.of(record) for record in records if record is not None),
            deployments=tuple(one for one in deployments if one is not None),
            policies=tuple(self._policies),
            periods=tuple(
                NumberedPeriod(number=number, period=period)
                for model, ended in sorted(self._ended.items())
                for number, period in enumerate(self._store.tenures(model), 1)
                if number > ended
            ),
        )

    def _count_ended(self, model: ModelName) -> None:
        if model not in self._ended:
            self._ended[model] = sum(period.end is not None for period in self._store.tenures(model))


def _last_about(model: ModelName, events: Sequence[Event]) -> int:
    places = [n for n, event in enumerate(events) if event.subject.partition("@")[0] == model]
    if not places or events[places[-1]].type not in ROW_EVENTS:
        raise RuntimeError(
            f"A transaction wrote rows of {model}, but its last event about {model} is not of a type in ROW_EVENTS."
        )
    return places[-1]
