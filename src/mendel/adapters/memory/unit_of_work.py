"""
A unit of work in memory with the guarantees of the SQL one: isolation, rollback, fencing, and commit exactly once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mendel.adapters.memory.durable import STORES, MemoryLeases, MemoryLedger, MemoryOutbox
from mendel.adapters.memory.tables import Committed, MemoryTables
from mendel.durable import Event, Lease, Payload, StepKey, Transaction, WorkflowCall, normalised_event, require_lease
from mendel.values import from_json, to_json

S = TypeVar("S")
T = TypeVar("T")
MemoryStores = Mapping[type, Callable[[MemoryTables], object]]


class _Shared:
    """
    The data that a unit of work shares with its fenced copies: the committed tables, and the lock for replacing them.
    """

    def __init__(self) -> None:
        self.committed: Committed = {}
        self.commits = 0
        self.writing = threading.Lock()
        self.writer: int | None = None


class _MemoryTransaction:
    def __init__(self, tables: MemoryTables, stores: MemoryStores, *, writes: bool) -> None:
        self._tables = tables
        self._stores = stores
        self._writes = writes
        self._events: list[Event] = []

    def store(self, port: type[S]) -> S:
        if port not in self._stores:
            raise LookupError(f"No memory adapter was wired for {port.__name__}.")
        found: Any = self._stores[port](self._tables)
        return found  # type: ignore[no-any-return]

    def append(self, event: Event) -> None:
        self._must_write()
        self._events.append(normalised_event(event))

    def start(self, call: WorkflowCall) -> None:
        self._must_write()
        MemoryOutbox(self._tables).put(from_json(to_json(call), WorkflowCall))

    def flush(self) -> None:
        if self._events:
            MemoryLedger(self._tables).extend(self._events)

    def _must_write(self) -> None:
        if not self._writes:
            raise RuntimeError(
                "A reading transaction cannot append events or start workflows; open the transaction with write()."
            )


class MemoryUnitOfWork:
    """
    Implements :class:`mendel.durable.UnitOfWork` over tables in memory.

    One writer at a time; readers see the last commit and never wait.

    Args:
        stores: For each port, a function that makes the store from the transaction's tables; see ``all_stores()``. The
            stores of ledger, outbox and leases are added.
    """

    def __init__(self, stores: MemoryStores, *, _shared: _Shared | None = None, _lease: Lease | None = None) -> None:
        self._stores: MemoryStores = {**STORES, **stores}
        self._shared = _shared or _Shared()
        self._lease = _lease

    @property
    def commits(self) -> int:
        return self._shared.commits

    def write(self, work: Callable[[Transaction], T]) -> T:
        return self._write(lambda tx, _: work(tx))

    def write_once(self, key: StepKey, work: Callable[[Transaction], Payload]) -> Payload:
        def once(tx: Transaction, tables: MemoryTables) -> Payload:
            steps: dict[StepKey, bytes] = tables.table("steps")
            if key not in steps:
                steps[key] = to_json(work(tx))
            return from_json(steps[key], dict[str, Any])

        return self._write(once)

    def read(self, work: Callable[[Transaction], T]) -> T:
        tables = MemoryTables(self._shared.committed, writes=False)
        return work(_MemoryTransaction(tables, self._stores, writes=False))

    def fenced(self, lease: Lease) -> MemoryUnitOfWork:
        return MemoryUnitOfWork(self._stores, _shared=self._shared, _lease=lease)

    def _write(self, work: Callable[[Transaction, MemoryTables], T]) -> T:
        shared = self._shared
        if shared.writer == threading.get_ident():
            raise RuntimeError("A writing transaction was opened inside another writing transaction.")
        with shared.writing:
            shared.writer = threading.get_ident()
            try:
                tables = MemoryTables(shared.committed, writes=True)
                self._check_fence(tables)
                tx = _MemoryTransaction(tables, self._stores, writes=True)
                result = work(tx, tables)
                tx.flush()
                shared.committed = tables.merged()
                shared.commits += 1
                return result
            finally:
                shared.writer = None

    def _check_fence(self, tables: MemoryTables) -> None:
        if self._lease is not None:
            require_lease(self._lease, MemoryLeases(tables).current(self._lease.name))
