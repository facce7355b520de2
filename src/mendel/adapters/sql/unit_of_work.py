"""The SQL unit of work: one transaction over the stores of all rooms, retried as a whole after contention."""

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
The retry policy for transactions that collided with another writer.

Only the total time limits the retries: under PostgreSQL every commit makes all other transactions that append to the
ledger fail, so with eight busy writers a dozen failures in a row are normal.
"""
_VIOLATED_KEY = RetryPolicy(attempts=6, base=timedelta(milliseconds=10), cap=timedelta(milliseconds=500))
"""The retry policy after a duplicate key: a few attempts show whether a concurrent insert caused it."""


class _Turns:
    """
    Serialises the SQLite writers of one process, because SQLite itself does not serve waiting writers in order.

    PostgreSQL allows parallel writers; there, only a write inside another write is refused.
    """

    def __init__(self, *, alone: bool) -> None:
        self._turn = threading.Lock() if alone else None
        self._here = threading.local()
        self._counting = threading.Lock()
        self.commits = 0

    def count_commit(self) -> None:
        with self._counting:
            self.commits += 1

    @contextmanager
    def taken(self) -> Iterator[None]:
        if getattr(self._here, "writes", False):
            raise RuntimeError("A writing transaction was opened inside another writing transaction.")
        if self._turn is not None and not self._turn.acquire(timeout=_LONGEST_TURN.total_seconds()):
            raise StoreUnavailable(f"Another writing transaction of this process did not end within {_LONGEST_TURN}.")
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
            raise RuntimeError(
                "A reading transaction cannot append events or start workflows; open the transaction with write()."
            )


class SqlUnitOfWork:
    """
    Implements :class:`mendel.durable.UnitOfWork` over SQLite or PostgreSQL.

    Args:
        engine: An engine from :func:`mendel.adapters.sql.open_engine` with a prepared schema.
        stores: For each port, a function that makes the store from a connection; see ``all_stores()``. The stores of
            ledger, outbox and leases are added.
        rng: Randomises the pauses between attempts.
        retries: The retry policy after a collision with another writer; the whole transaction runs again.
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

    @property
    def commits(self) -> int:
        return self._turns.commits

    def write(self, work: Callable[[Transaction], T]) -> T:
        return self._write(lambda tx, _: work(tx))

    def write_once(self, key: StepKey, work: Callable[[Transaction], Payload]) -> Payload:
        def once(tx: Transaction, connection: Connection) -> Payload:
            steps = SqlSteps(connection)
            known = steps.result(key)
            return steps.keep(key, work(tx)) if known is None else known

        return self._write(once)

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run *work* on one snapshot; the database refuses writes inside."""
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
            result = self._persist(work)
        self._turns.count_commit()
        return result

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
