"""The ports to the database (transactions, ledger, outbox, leases) and to the workflow engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from mendel.durable.events import Event, LedgerEntry
from mendel.durable.ledger import Anchor

S = TypeVar("S")
T = TypeVar("T")
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepKey:
    """Names one state-changing step of one workflow, so that the change is made once even if the step runs again."""

    workflow_id: str
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowCall:
    """A request to start the workflow *name* with an input; a second request with the same ``id`` does nothing."""

    name: str
    id: str
    input: Payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The exclusive right of ``holder`` to the role ``name`` until ``expires``; each new holder gets a higher epoch."""

    name: str
    holder: str
    epoch: int
    expires: datetime


class Transaction(Protocol):
    """
    One transaction over the stores of all rooms.

    Reads see the transaction's own writes. Other transactions see nothing before the commit. When the work function
    raises, everything is rolled back, appended events and outbox calls included.
    """

    def store(self, port: type[S]) -> S:
        """
        Give the store that implements *port*, bound to this transaction.

        Raises:
            LookupError: No adapter implements *port* here, which is a programming error.
        """

    def append(self, event: Event) -> None:
        """
        Append *event* to the ledger when the transaction commits.

        Events of one transaction keep their order. Sequence numbers are assigned at the commit, without gaps.
        """

    def start(self, call: WorkflowCall) -> None:
        """Put *call* into the outbox; the outbox relay starts the workflow after the commit, at least once."""


class UnitOfWork(Protocol):
    """
    Runs functions in transactions. Threads may share one unit of work.

    A writing transaction is IMMEDIATE on SQLite and serialisable on PostgreSQL. The whole function runs again when the
    database reports a conflict; so it must depend only on what it reads from the transaction, and do no other I/O.
    """

    @property
    def commits(self) -> int:
        """
        The number of writing transactions that this unit and its fenced copies have committed.

        A loop that polls the database compares the numbers first, without I/O. The commits of other processes are not
        counted.
        """

    def write(self, work: Callable[[Transaction], T]) -> T:
        """
        Run *work* in a transaction and commit.

        Raises:
            Fenced: The unit was made by :meth:`fenced`, and its lease was lost.
            StoreUnavailable: The database does not answer, or stayed busy through every retry.
        """

    def write_once(self, key: StepKey, work: Callable[[Transaction], Payload]) -> Payload:
        """
        Run *work* and commit it together with *key* and the result.

        When *key* was committed before, *work* does not run; the stored result is returned.
        """

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run *work* on one consistent snapshot of the database; *work* must not write."""

    def fenced(self, lease: Lease) -> UnitOfWork:
        """Give a unit of work whose every write first checks, in the same transaction, that *lease* is not lost."""


class Ledger(Protocol):
    """
    Read access to the ledger inside a transaction (``tx.store(Ledger)``).

    Only :meth:`Transaction.append` writes to the ledger.
    """

    def head(self) -> LedgerEntry | None:
        """Give the newest entry; None when the ledger is empty."""

    def entries(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), subject: str | None = None
    ) -> tuple[LedgerEntry, ...]:
        """
        Give entries with a sequence number above *after*, in ascending order, at most *limit*.

        Args:
            types: Give only events of exactly these types; empty gives all types.
            subject: Give only events of this subject. A model's name also selects its versions: ``credit`` selects
                ``credit`` and ``credit@3``.
        """


class Anchors(Protocol):
    """
    Signed anchors of ledger entries, stored outside the database: they reveal altered and deleted entries.

    Safe to share between threads.
    """

    def all(self) -> tuple[Anchor, ...]:
        """
        Every anchor, oldest first.

        Raises:
            Corrupt: A stored anchor cannot be decoded.
        """

    def trusted(self) -> tuple[str, ...]:
        """Give the public keys (hex) whose signatures are trusted; empty before the first anchor."""

    def sign(self, unit: UnitOfWork, now: datetime) -> Anchor | None:
        """Sign the newest ledger entry and store the anchor; None if it has an anchor, or the ledger is empty."""


class Outbox(Protocol):
    """The workflow calls that committed transactions requested and that were not started yet (``tx.store(Outbox)``)."""

    def pending(self, limit: int) -> tuple[WorkflowCall, ...]:
        """Give the oldest calls not yet started, at most *limit*."""

    def mark_started(self, call_id: str) -> None:
        """Remove a call from the outbox; an unknown id is no error."""

    def depth(self) -> int:
        """Count the calls not yet started."""


class Leases(Protocol):
    """The store of leases (``tx.store(Leases)``); a name has at most one holder at a time."""

    def acquire(self, name: str, holder: str, *, now: datetime, ttl: timedelta) -> Lease | None:
        """
        Acquire or renew the lease *name* until *now* + *ttl*.

        A holder that renews keeps its epoch, even after expiry, while no other holder acquired the lease. Another
        holder acquires a free or expired lease only, and gets a higher epoch.

        Returns:
            The lease; None when another holder has it.
        """

    def release(self, lease: Lease) -> None:
        """Free the lease; a lease that another holder has acquired meanwhile is left alone."""

    def current(self, name: str) -> Lease | None:
        """Give the newest lease of *name*, even if it has expired; None when it is free."""


class WorkflowState(StrEnum):
    """The state of a workflow run; only ``running`` is not final."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowRun:
    """The state of a workflow; ``result`` is set when it is done, ``error`` (type and message) when it failed."""

    id: str
    name: str
    state: WorkflowState
    result: Payload | None = None
    error: str | None = None


class WorkflowContext(Protocol):
    """The argument through which a workflow function runs its steps. Code outside steps must be deterministic."""

    @property
    def id(self) -> str:
        """The id of the call that started the workflow."""

    def step(self, name: str, act: Callable[[], Payload]) -> Payload:
        """
        Run *act* at least once and store its result; a resumed workflow gets the stored result instead.

        *name* must be unique within the workflow; number repeated steps. When *act* raises, the exception is stored
        and raised; a resumed workflow gets the same exception.
        """

    def sleep(self, name: str, span: timedelta) -> None:
        """Wait for *span*. A restart does not begin the wait again: its end is stored at the first call."""


WorkflowFunction = Callable[[WorkflowContext, Payload], Payload]


class Workflows(Protocol):
    """
    Durable workflows: a workflow that is killed and resumed ends like an uninterrupted one.

    Register every function, then call :meth:`open`, which resumes the unfinished workflows of this executor.
    """

    def register(self, name: str, function: WorkflowFunction) -> None:
        """Make *function* available under *name*; call this before :meth:`open`."""

    def open(self) -> AbstractContextManager[Workflows]:
        """Start the engine and resume unfinished workflows; leaving the context stops it without losing any."""

    def start(self, call: WorkflowCall) -> None:
        """
        Start the workflow in the background; an id that was started before does nothing, whatever its state.

        Raises:
            LookupError: No function is registered under the name.
        """

    def get(self, workflow_id: str) -> WorkflowRun | None:
        """Give the state of a workflow; None when the id is unknown."""

    def unfinished(self) -> tuple[WorkflowRun, ...]:
        """Give every workflow that is neither done, failed nor cancelled."""

    def wait(self, workflow_id: str, *, timeout: timedelta) -> WorkflowRun:
        """
        Wait until the workflow ends.

        Raises:
            RunNotFound: The id is unknown.
            DeadlineExceeded: The workflow did not end within *timeout*; it keeps running.
        """

    def cancel(self, workflow_id: str) -> None:
        """Stop the workflow before its next step."""
