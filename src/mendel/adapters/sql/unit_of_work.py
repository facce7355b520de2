"""The unit of work over a database: one transaction for every room, run again whole where it must be."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from mendel.adapters.sql.durable import STORES, SqlLeases, SqlLedger, SqlOutbox, SqlSteps
from mendel.adapters.sql.engine import READS, is_contention, may_be_contention, translated
from mendel.durable import Event, Lease, Payload, StepKey, Transaction, WorkflowCall, normalised_event, require_lease
from mendel.errors import StoreUnavailable
from mendel.resilience import GiveUp, RetryDecision, RetryPolicy, decide_retry

S = TypeVar("S")
T = TypeVar("T")
SqlStores = Mapping[type, Callable[[Connection], object]]

_LONGEST_TURN = timedelta(seconds=30)
CONTENTION = RetryPolicy(
    attempts=10_000, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=250), within=_LONGEST_TURN
)
"""
For units that met another writer.

The time is the bound, as it is for the turns of one process: under PostgreSQL every commit refuses all other units
that append to the ledger, so one of eight busy writers loses a dozen times in a row without anything being wrong.
"""
_VIOLATED_KEY = RetryPolicy(attempts=6, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=500))
"""For units that met a violated key: a few attempts tell whether another writer or the unit itself violates it."""


class _Turns:
    """
    Writers of one process take turns, so that each is served in its turn and none waits inside SQLite, which is unfair.

    PostgreSQL writes side by side; there only nesting is refused.
    """

    def __init__(self, *, alone: bool) -> None:
        self._turn = threading.Lock() if alone else None
        self._here = threading.local()

    @contextmanager
    def taken(self) -> Iterator[None]:
        if getattr(self._here, "writes", False):
            raise RuntimeError("A writing transaction was opened inside another one.")
        if self._turn is not None and not self._turn.acquire(timeout=_LONGEST_TURN.total_seconds()):
            raise StoreUnavailable(f"Another writer of this process has not ended within {_LONGEST_TURN}.")
        self._here.writes = True
        try:
            yield
        finally:
            self._here.writes = False
            if self._turn is not None:
                self._turn.release()


class _SqlTransaction:
    def __init__(self, connection: Connection, stores: SqlStores, *, writes: bool) -> None:
        self._connection = connection
        self._stores = stores
        self._writes = writes
        self._events: list[Event] = []

    def store(self, port: type[S]) -> S:
        if port not in self._stores:
            raise LookupError(f"No SQL adapter was wired for {port.__name__}.")
        found: Any = self._stores[port](self._connection)
        return found  # type: ignore[no-any-return]

    def append(self, event: Event) -> None:
        self._must_write()
        self._events.append(normalised_event(event))

    def start(self, call: WorkflowCall) -> None:
        self._must_write()
        SqlOutbox(self._connection).put(call)

    def flush(self) -> None:
        if self._events:
            SqlLedger(self._connection).extend(self._events)

    def _must_write(self) -> None:
        if not self._writes:
            raise RuntimeError("A reading transaction cannot append or start anything; use write.")


class SqlUnitOfWork:
    """
    Implements :class:`mendel.durable.UnitOfWork` over SQLite or PostgreSQL.

    Args:
        engine: From :func:`mendel.adapters.sql.open_engine`, with its schema prepared.
        stores: For each port, how to make its store from the connection; see ``all_stores()``. Those of ledger,
            outbox and leases are added.
        rng: Jitters the waits between tries.
        retries: How often and how long a unit that meets another writer is run again, whole.
    """

    def __init__(
        self,
        engine: Engine,
        stores: SqlStores,
        *,
        rng: random.Random,
        retries: RetryPolicy = CONTENTION,
        _lease: Lease | None = None,
        _turns: _Turns | None = None,
    ) -> None:
        self._engine = engine
        self._stores: SqlStores = {**STORES, **stores}
        self._rng = rng
        self._retries = retries
        self._lease = _lease
        self._turns = _turns or _Turns(alone=engine.dialect.name == "sqlite")

    def write(self, work: Callable[[Transaction], T]) -> T:
        return self._write(lambda tx, _: work(tx))

    def write_once(self, key: StepKey, work: Callable[[Transaction], Payload]) -> Payload:
        def once(tx: Transaction, connection: Connection) -> Payload:
            steps = SqlSteps(connection)
            known = steps.result(key)
            return steps.keep(key, work(tx)) if known is None else known

        return self._write(once)

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run *work* on one snapshot, which the database itself keeps from writing."""
        with translated(), self._engine.connect() as connection:
            return self._read(connection, work)

    def fenced(self, lease: Lease) -> SqlUnitOfWork:
        return SqlUnitOfWork(
            self._engine, self._stores, rng=self._rng, retries=self._retries, _lease=lease, _turns=self._turns
        )

    def _read(self, connection: Connection, work: Callable[[Transaction], T]) -> T:
        if connection.dialect.name == "sqlite":
            connection.execution_options(**{READS: True})
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            return work(_SqlTransaction(connection, self._stores, writes=False))

    def _write(self, work: Callable[[Transaction, Connection], T]) -> T:
        with self._turns.taken(), translated():
            return self._persist(work)

    def _persist(self, work: Callable[[Transaction, Connection], T]) -> T:
        failures, began = 0, time.monotonic()
        while True:
            try:
                return self._once(work)
            except DBAPIError as error:
                failures += 1
                decision = self._after(error, failures, timedelta(seconds=time.monotonic() - began))
                if isinstance(decision, GiveUp):
                    raise
                time.sleep(decision.after.total_seconds())

    def _after(self, error: DBAPIError, failures: int, elapsed: timedelta) -> RetryDecision:
        if is_contention(error):
            return decide_retry(self._retries, failures, self._rng, elapsed=elapsed)
        if may_be_contention(error):
            return decide_retry(_VIOLATED_KEY, failures, self._rng, elapsed=elapsed)
        return GiveUp(attempts=failures)

    def _once(self, work: Callable[[Transaction, Connection], T]) -> T:
        with self._engine.connect() as connection, connection.begin():
            if self._lease is not None:
                require_lease(self._lease, SqlLeases(connection).locked(self._lease.name))
            tx = _SqlTransaction(connection, self._stores, writes=True)
            result = work(tx, connection)
            tx.flush()
            return result
