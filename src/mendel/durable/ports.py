"""What the house needs of a database and of a workflow engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from mendel.durable.events import Event, LedgerEntry

S = TypeVar("S")
T = TypeVar("T")
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKey:
    """Names one state-changing step of one workflow: what it changes, it changes once."""

    workflow_id: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCall:
    """A workflow to start, idempotent by ``id``."""

    name: str
    id: str
    input: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of ``holder`` to act as ``name`` until ``expires``; ``epoch`` grows with every change of holder."""

    name: str
    holder: str
    epoch: int
    expires: datetime


class Transaction(Protocol):
    """
    One transaction over every room's store.

    Reads see the transaction's own writes. Nothing is visible outside before the commit; an exception that leaves the
    work rolls everything back, appended events and outbox included.
    """

    def store(self, port: type[S]) -> S:
        """
        The store that implements *port*, bound to this transaction.

        Raises:
            LookupError: No adapter was wired for *port*: a programming error.
        """

    def append(self, event: Event) -> None:
        """
        Append *event* to the ledger, as the last act of the transaction.

        Events of one transaction keep their order; sequence numbers are taken at commit and are gapless.
        """

    def start(self, call: WorkflowCall) -> None:
        """Put *call* into the outbox; the relay starts it after the commit, at least once, idempotent by its id."""


class UnitOfWork(Protocol):
    """
    Runs work in transactions.

    A writing transaction begins IMMEDIATE (SQLite) or serialisable, and is retried whole when the database says so:
    work must be a pure function of what it reads, without other I/O. Safe to share between threads.
    """

    def write(self, work: Callable[[Transaction], T]) -> T:
        """
        Run *work* and commit.

        Raises:
            Fenced: This unit acts under a lease that was lost.
            StoreUnavailable: The database does not answer, or stayed busy through every retry.
        """

    def write_once(self, key: StepKey, work: Callable[[Transaction], Payload]) -> Payload:
        """
        Run *work* and commit, unless *key* was committed before: then give back what was stored with it.

        The key, the result and the change are one transaction.
        """

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run *work* on one consistent snapshot; it must not write."""

    def fenced(self, lease: Lease) -> UnitOfWork:
        """A unit whose every write first checks, inside its transaction, that *lease* is still the newest epoch."""


class Ledger(Protocol):
    """
    Reads the ledger inside a transaction (``tx.store(Ledger)``); only :meth:`Transaction.append` writes it.
    """

    def head(self) -> LedgerEntry | None:
        """The newest entry, or None when nothing ever happened."""

    def entries(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), subject: str | None = None
    ) -> tuple[LedgerEntry, ...]:
        """
        Entries with a sequence above *after*, ascending.

        *types* match exactly; *subject* matches the subject itself, or a model and all its versions
        (``credit`` finds ``credit`` and ``credit@3``).
        """


class Outbox(Protocol):
    """The calls waiting to be started (``tx.store(Outbox)``)."""

    def pending(self, limit: int) -> tuple[WorkflowCall, ...]:
        """The oldest calls not yet marked started."""

    def mark_started(self, call_id: str) -> None:
        """Forget the call; no error when it is gone."""

    def depth(self) -> int:
        """How many calls wait."""


class Leases(Protocol):
    """Leases on names (``tx.store(Leases)``)."""

    def acquire(self, name: str, holder: str, *, now: datetime, ttl: timedelta) -> Lease | None:
        """
        Take or renew the lease.

        The same holder keeps its epoch while it has not expired to somebody else; a new holder gets a higher one, and
        only when the lease is free or expired. None: somebody else holds it.
        """

    def release(self, lease: Lease) -> None:
        """Give it back; no error when it was lost."""

    def current(self, name: str) -> Lease | None:
        """The lease as it stands, expired or not."""


class WorkflowState(StrEnum):
    """How far a workflow is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """A workflow as it stands; ``result`` when done, ``error`` (type and message) when failed."""

    id: str
    name: str
    state: WorkflowState
    result: Payload | None = None
    error: str | None = None


class Run(Protocol):
    """
    What a workflow function is given. Outside its steps a workflow is deterministic.
    """

    @property
    def id(self) -> str:
        """The id the workflow was started with."""

    def step(self, name: str, act: Callable[[], Payload]) -> Payload:
        """
        Run *act* at least once and remember its result; a resumed workflow gets the remembered one.

        *name* is unique within the run (number repeated ones). An exception of *act* fails the step and leaves the
        workflow, unless caught; it is remembered too.
        """

    def sleep(self, name: str, span: timedelta) -> None:
        """Wait, through restarts; the end is fixed the first time."""


WorkflowFunction = Callable[[Run, Payload], Payload]


class Workflows(Protocol):
    """
    Durable workflows: a killed and resumed workflow ends like an uninterrupted one.

    Register every function, then open; opening resumes what this executor left unfinished.
    """

    def register(self, name: str, function: WorkflowFunction) -> None:
        """Make *function* startable under *name*; before :meth:`open` only."""

    def open(self) -> AbstractContextManager[Workflows]:
        """Launch, resume, and on leaving stop taking work (what is unfinished resumes at the next opening)."""

    def start(self, call: WorkflowCall) -> None:
        """
        Start it in the background; starting an id that exists does nothing, whatever its state.

        Raises:
            LookupError: The name was never registered.
        """

    def get(self, workflow_id: str) -> WorkflowRun | None:
        """The run as it stands, or None."""

    def unfinished(self) -> tuple[WorkflowRun, ...]:
        """Every run that is neither done, failed nor cancelled."""

    def wait(self, workflow_id: str, *, timeout: timedelta) -> WorkflowRun:
        """
        Wait until it ends.

        Raises:
            RunNotFound: No run of that id.
            DeadlineExceeded: It did not end in time; it goes on.
        """

    def cancel(self, workflow_id: str) -> None:
        """Stop it before its next step."""
