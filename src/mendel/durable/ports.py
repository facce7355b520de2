"""The ports to the database (transactions, ledger, outbox, leases) and to the workflow engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from mendel.durable.checkpoints import Checkpoint
from mendel.durable.events import Event, LedgerEntry, SealedEntry
from mendel.durable.merkle import NodeKey, TreeNode

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerHead:
    """
    The ledger's own record of its newest entry, which appending reads and replaces.

    Attributes:
        peaks: The roots of the complete subtrees of the Merkle tree over all entries, largest first.
        origin: The name of the ledger, given once when it was made.
    """

    sequence: int
    hash: str
    peaks: tuple[bytes, ...]
    origin: str


class Ledger(Protocol):
    """
    Read access to the ledger inside a transaction (``tx.store(Ledger)``).

    Only :meth:`Transaction.append` writes to the ledger. Beside the entries, the ledger has a Merkle tree (RFC 6962),
    whose leaves are the hashes of the entries; a transaction that appends entries adds their nodes.
    """

    def head(self) -> LedgerEntry | None:
        """Give the newest entry; None when the ledger is empty."""

    def newest_until(self, moment: datetime) -> LedgerEntry | None:
        """Give the newest entry whose event happened at or before *moment*; None if no event did."""

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

    def by_event(self, event_id: str) -> LedgerEntry | None:
        """Give the entry of the event with an id; None if the ledger has none."""

    def sealed(self, *, after: int, limit: int) -> tuple[SealedEntry, ...]:
        """
        Give entries as they are stored, with sequence numbers above *after*, in ascending order, at most *limit*.

        An entry that was altered so that it cannot be read is given with other content, which its hash does not fit.
        """

    def recorded_head(self) -> LedgerHead:
        """Give the record of the newest entry, also if it contradicts the entries."""

    def nodes(self, keys: Iterable[NodeKey]) -> Mapping[NodeKey, bytes]:
        """Give the hashes of stored nodes of the tree; keys without a node are left out."""

    def nodes_between(self, after: int, upto: int) -> tuple[TreeNode, ...]:
        """Give the nodes that became complete with the entries above *after* up to *upto*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCheckpoint:
    """A checkpoint that the database records; ``stored`` once every store of anchors has its note."""

    checkpoint: Checkpoint
    stored: bool


class Checkpoints(Protocol):
    """The record of the checkpoints that were signed (``tx.store(Checkpoints)``), by size."""

    def all(self) -> tuple[RecordedCheckpoint, ...]:
        """Give every checkpoint, smallest first; here and elsewhere without those of :meth:`unreadable`."""

    def unreadable(self) -> tuple[int, ...]:
        """Give the sizes at which something else than a checkpoint of this size is recorded, smallest first."""

    def newest(self) -> RecordedCheckpoint | None:
        """Give the checkpoint with the largest size."""

    def covering(self, sequence: int) -> RecordedCheckpoint | None:
        """Give the smallest checkpoint whose size is *sequence* or more; None if no checkpoint is that new."""

    def waiting(self) -> tuple[RecordedCheckpoint, ...]:
        """Give the checkpoints that are not stored as anchors yet, smallest first."""

    def add(self, checkpoint: Checkpoint) -> Checkpoint:
        """Record a checkpoint; if there is one of the same size, that one stays and is returned."""

    def mark_stored(self, size: int) -> None:
        """Note that every store of anchors has the checkpoint of *size*."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnchor:
    """An anchor as a store of anchors keeps it: a named text."""

    name: str
    content: bytes


class Anchors(Protocol):
    """
    A store of anchors outside the database, which reveals altered and deleted entries.

    Safe to share between threads and processes.
    """

    @property
    def where(self) -> str:
        """The place of the anchors, for people."""

    def all(self) -> tuple[StoredAnchor, ...]:
        """
        Give every anchor, smallest first.

        Raises:
            StoreUnavailable: The anchors cannot be read.
        """

    def newest(self) -> StoredAnchor | None:
        """Give the anchor with the largest size; None without anchors."""

    def put(self, anchor: StoredAnchor) -> None:
        """
        Store an anchor; storing it again changes nothing.

        Raises:
            Conflict: Another anchor has the same name; it stays.
            StoreUnavailable: The anchor cannot be stored.
        """


class SigningKeys(Protocol):
    """
    The private Ed25519 keys of one installation: the one that signs, and during a rotation the next one.

    Safe to share between threads and processes.
    """

    def current(self) -> bytes | None:
        """Give the private key that signs; None before it was made."""

    def create(self) -> bytes:
        """Give the private key that signs, and make it if there is none."""

    def prepare_next(self) -> bytes:
        """Give the private key that a rotation will make the signing one; it is made at the first call."""

    def next(self) -> bytes | None:
        """Give the prepared key; None if no rotation has begun."""

    def adopt_next(self) -> None:
        """Make the prepared key, if there is one, the signing key; the former private key is destroyed."""


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
