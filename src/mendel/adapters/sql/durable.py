"""Ledger, outbox, leases and step results in the state database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    Row,
    String,
    Table,
    Text,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.sql import Select

from mendel.adapters.sql.table_metadata import metadata
from mendel.durable import (
    Checkpoint,
    Checkpoints,
    Event,
    Lease,
    Leases,
    Ledger,
    LedgerEntry,
    LedgerHead,
    Outbox,
    Payload,
    RecordedCheckpoint,
    SealedEntry,
    StepKey,
    WorkflowCall,
    entry_hash,
    read_checkpoint,
)
from mendel.durable.merkle import HASH_BYTES, NodeKey, TreeFold, TreeNode, leaf_hash
from mendel.errors import AlreadyExists, Corrupt, LedgerBroken, StoreUnavailable
from mendel.values import from_json, from_micros, to_json, to_micros

ledger = Table(
    "ledger",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("prev_hash", String(64), nullable=False, unique=True),
    Column("hash", String(64), nullable=False),
    Column("id", String(200), nullable=False, unique=True),
    Column("type", String(100), nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("root", Text, nullable=False, index=True),  # the subject before '@', to find a model's versions by its name
    Column("time", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", Text, nullable=False),
)
ledger_head = Table(
    "ledger_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("peaks", Text, nullable=False),  # the roots of the tree's complete subtrees, largest first, in hex
    Column("origin", Text, nullable=False),
)
ledger_tree = Table(
    "ledger_tree",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(HASH_BYTES), nullable=False),
    sqlite_with_rowid=False,
)
ledger_checkpoints = Table(
    "ledger_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
    Column("stored", Boolean, nullable=False, index=True),
)
outbox = Table(
    "outbox",
    metadata,
    Column("position", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String(200), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("input", Text, nullable=False),
    sqlite_autoincrement=True,
)
steps = Table(
    "steps",
    metadata,
    Column("workflow_id", String(200), primary_key=True),
    Column("step", String(200), primary_key=True),
    Column("result", Text, nullable=False),
)
leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("holder", Text),  # null: the lease was released
    Column("expires", BigInteger, nullable=False),
)
meta = Table(
    "meta",
    metadata,
    Column("key", String(100), primary_key=True),
    Column("value", Text, nullable=False),
)

_HEAD = 1  # the id of the only row of ledger_head
_TRIED = 10  # how many rows are read to find a checkpoint among rows that hold something else


class SqlLedger:
    """Implements :class:`mendel.durable.Ledger`; appending locks the head row until the commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def head(self) -> LedgerEntry | None:
        row = self._connection.execute(_entries().order_by(ledger.c.sequence.desc()).limit(1)).first()
        return None if row is None else _entry(row)

    def newest_until(self, moment: datetime) -> LedgerEntry | None:
        past = _entries().where(ledger.c.time <= to_micros(moment)).order_by(ledger.c.sequence.desc()).limit(1)
        row = self._connection.execute(past).first()
        return None if row is None else _entry(row)

    def entries(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), subject: str | None = None
    ) -> tuple[LedgerEntry, ...]:
        query = _entries().where(ledger.c.sequence > after).order_by(ledger.c.sequence).limit(limit)
        if types:
            query = query.where(ledger.c.type.in_(types))
        if subject is not None:
            query = query.where((ledger.c.subject if "@" in subject else ledger.c.root) == subject)
        return tuple(_entry(row) for row in self._connection.execute(query))

    def by_event(self, event_id: str) -> LedgerEntry | None:
        row = self._connection.execute(_entries().where(ledger.c.id == event_id)).first()
        return None if row is None else _entry(row)

    def sealed(self, *, after: int, limit: int) -> tuple[SealedEntry, ...]:
        query = _entries().where(ledger.c.sequence > after).order_by(ledger.c.sequence).limit(limit)
        return tuple(map(_sealed, self._connection.execute(query).all()))

    def recorded_head(self) -> LedgerHead:
        return self._head(lock=False)

    def nodes(self, keys: Iterable[NodeKey]) -> Mapping[NodeKey, bytes]:
        # SQLite scans the whole table for (size, level) IN (...), but looks up each alternative of an OR
        wanted = or_(false(), *((ledger_tree.c.size == size) & (ledger_tree.c.level == level) for size, level in keys))
        rows = self._connection.execute(select(ledger_tree).where(wanted))
        return {(size, level): node for size, level, node in rows}

    def nodes_between(self, after: int, upto: int) -> tuple[TreeNode, ...]:
        complete = (ledger_tree.c.size > after) & (ledger_tree.c.size <= upto)
        return tuple(map(TreeNode._make, self._connection.execute(select(ledger_tree).where(complete)).all()))

    def extend(self, events: Sequence[Event]) -> None:
        """Append *events* to the ledger, each chained to the entry before, and to its tree."""
        head = self._head(lock=True)
        self._refuse_repeated(events)
        if len(head.peaks) != head.sequence.bit_count():
            raise LedgerBroken(
                "The head row of the ledger was changed: its number does not fit its tree.",
                sequence=head.sequence,
                remedy="Find what was changed with: mendel ledger verify",
            )
        fold, previous = TreeFold(head.sequence, head.peaks), head.hash
        entries, nodes = [], []
        for sequence, event in enumerate(events, head.sequence + 1):
            digest = entry_hash(previous, sequence, event)
            entries.append(_row(sequence, previous, digest, event))
            nodes += fold.add(leaf_hash(bytes.fromhex(digest)))
            previous = digest
        self._connection.execute(insert(ledger), entries)
        self._connection.execute(insert(ledger_tree), [node._asdict() for node in nodes])
        self._connection.execute(
            update(ledger_head)
            .where(ledger_head.c.id == _HEAD)
            .values(sequence=fold.size, hash=previous, peaks=b"".join(fold.peaks).hex())
        )

    def _head(self, *, lock: bool) -> LedgerHead:
        query = select(ledger_head).where(ledger_head.c.id == _HEAD)
        row = self._connection.execute(query.with_for_update() if lock else query).first()
        if row is None:
            raise StoreUnavailable(
                "The database has no ledger.",
                remedy="Start the hub on this database once; the start creates the tables.",
            )
        return LedgerHead(sequence=row.sequence, hash=row.hash, peaks=_peaks(row.peaks), origin=row.origin)

    def _refuse_repeated(self, events: Iterable[Event]) -> None:
        seen: set[str] = set()
        for event in events:
            known = self._connection.execute(select(ledger.c.sequence).where(ledger.c.id == event.id)).first()
            if known is not None or event.id in seen:
                raise AlreadyExists(f"The ledger already holds the event {event.id}.")
            seen.add(event.id)


class SqlCheckpoints:
    """Implements :class:`mendel.durable.Checkpoints`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> tuple[RecordedCheckpoint, ...]:
        return self._recorded(_checkpoints())

    def unreadable(self) -> tuple[int, ...]:
        rows = self._connection.execute(_checkpoints())
        return tuple(row.size for row in rows if _recorded(row) is None)

    def newest(self) -> RecordedCheckpoint | None:
        newest = select(ledger_checkpoints).order_by(ledger_checkpoints.c.size.desc())
        return next(iter(self._recorded(newest.limit(_TRIED))), None)

    def covering(self, sequence: int) -> RecordedCheckpoint | None:
        found = _checkpoints().where(ledger_checkpoints.c.size >= sequence)
        return next(iter(self._recorded(found.limit(_TRIED))), None)

    def waiting(self) -> tuple[RecordedCheckpoint, ...]:
        return self._recorded(_checkpoints().where(ledger_checkpoints.c.stored.is_(False)))

    def add(self, checkpoint: Checkpoint) -> Checkpoint:
        same = self.covering(checkpoint.size)
        if same is not None and same.checkpoint.size == checkpoint.size:
            return same.checkpoint
        row = {"size": checkpoint.size, "note": checkpoint.note, "stored": False}
        self._connection.execute(insert(ledger_checkpoints), row)
        return checkpoint

    def mark_stored(self, size: int) -> None:
        change = update(ledger_checkpoints).where(ledger_checkpoints.c.size == size)
        self._connection.execute(change.values(stored=True))

    def _recorded(self, query: Select[Any]) -> tuple[RecordedCheckpoint, ...]:
        return tuple(found for row in self._connection.execute(query) if (found := _recorded(row)) is not None)


class SqlOutbox:
    """Implements :class:`mendel.durable.Outbox`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def pending(self, limit: int) -> tuple[WorkflowCall, ...]:
        rows = self._connection.execute(
            select(outbox.c.name, outbox.c.id, outbox.c.input).order_by(outbox.c.position).limit(limit)
        )
        return tuple(WorkflowCall(name=row.name, id=row.id, input=_payload(row.input)) for row in rows)

    def mark_started(self, call_id: str) -> None:
        self._connection.execute(delete(outbox).where(outbox.c.id == call_id))

    def depth(self) -> int:
        return self._connection.execute(select(func.count()).select_from(outbox)).scalar_one()

    def put(self, call: WorkflowCall) -> None:
        """Add *call*, unless a waiting call has the same id."""
        if self._connection.execute(select(outbox.c.id).where(outbox.c.id == call.id)).first() is None:
            row = {"id": call.id, "name": call.name, "input": to_json(call.input).decode()}
            self._connection.execute(insert(outbox), row)


class SqlLeases:
    """Implements :class:`mendel.durable.Leases`; the epoch of a released lease is kept."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self, name: str, holder: str, *, now: datetime, ttl: timedelta) -> Lease | None:
        row = self._connection.execute(_named(name).with_for_update()).first()
        expires = now + ttl
        if row is None:
            lease = Lease(name=name, holder=holder, epoch=1, expires=expires)
            self._connection.execute(
                insert(leases), {"name": name, "epoch": 1, "holder": holder, "expires": to_micros(expires)}
            )
            return lease
        if row.holder == holder:
            epoch = row.epoch
        elif row.holder is None or from_micros(row.expires) <= now:
            epoch = row.epoch + 1
        else:
            return None
        change = update(leases).where(leases.c.name == name)
        self._connection.execute(change.values(epoch=epoch, holder=holder, expires=to_micros(expires)))
        return Lease(name=name, holder=holder, epoch=epoch, expires=expires)

    def release(self, lease: Lease) -> None:
        ours = (leases.c.name == lease.name) & (leases.c.holder == lease.holder) & (leases.c.epoch == lease.epoch)
        self._connection.execute(update(leases).where(ours).values(holder=None))

    def current(self, name: str) -> Lease | None:
        return _lease(self._connection.execute(_named(name)).first())

    def locked(self, name: str) -> Lease | None:
        """The newest lease of *name* as :meth:`current` gives it, with its row locked until the commit."""
        return _lease(self._connection.execute(_named(name).with_for_update(read=True)).first())


class SqlSteps:
    """Stored results of workflow steps that change state."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def result(self, key: StepKey) -> Payload | None:
        """Read the result stored under *key*; None if no result is stored."""
        here = (steps.c.workflow_id == key.workflow_id) & (steps.c.step == key.step)
        text = self._connection.execute(select(steps.c.result).where(here)).scalar()
        return None if text is None else _payload(text)

    def keep(self, key: StepKey, result: Payload) -> Payload:
        """Store *result*, and return it in the form in which later reads return it."""
        text = to_json(result).decode()
        row = {"workflow_id": key.workflow_id, "step": key.step, "result": text}
        self._connection.execute(insert(steps), row)
        return _payload(text)


def _named(name: str) -> Select[Any]:
    return select(leases).where(leases.c.name == name)


def _lease(row: Row[Any] | None) -> Lease | None:
    if row is None or row.holder is None:
        return None
    return Lease(name=row.name, holder=row.holder, epoch=row.epoch, expires=from_micros(row.expires))


def _entries() -> Select[Any]:
    return select(ledger).where(ledger.c.sequence > 0)  # others are of no ledger, and no verification reads them


def _recorded(row: Row[Any]) -> RecordedCheckpoint | None:
    """Read a row of recorded checkpoints; None if it holds something else than a checkpoint of its size."""
    try:
        checkpoint = read_checkpoint(row.note)
    except (Corrupt, TypeError, AttributeError, ValueError):
        return None
    return RecordedCheckpoint(checkpoint=checkpoint, stored=row.stored) if checkpoint.size == row.size else None


def _checkpoints() -> Select[Any]:
    return select(ledger_checkpoints).order_by(ledger_checkpoints.c.size)


def _peaks(text: str) -> tuple[bytes, ...]:
    try:
        peaks = bytes.fromhex(text)
    except (TypeError, ValueError):
        return ()  # fits no ledger, so that it is found
    return tuple(peaks[start : start + HASH_BYTES] for start in range(0, len(peaks), HASH_BYTES))


class _EventText(msgspec.Struct):
    """The canonical JSON of an event: keys in order, and the data as the database has them."""

    actor: str
    data: msgspec.Raw
    id: str
    subject: str
    time: datetime
    type: str


_ENCODE = msgspec.json.Encoder().encode


def _sealed(row: Sequence[Any]) -> SealedEntry:
    sequence, prev_hash, digest, event_id, kind, subject, root, micros, actor, data = row
    if subject.partition("@")[0] != root:  # the hash does not cover this column, but queries rely on it
        return SealedEntry(sequence, prev_hash, digest, b"")
    try:
        event = _EventText(actor, msgspec.Raw(data.encode()), event_id, subject, from_micros(micros), kind)
    except (AttributeError, OverflowError, TypeError, ValueError):  # a time or data that no event has
        return SealedEntry(sequence, prev_hash, digest, b"")
    return SealedEntry(sequence, prev_hash, digest, _ENCODE(event))


def _row(sequence: int, prev_hash: str, digest: str, event: Event) -> dict[str, object]:
    return {
        "sequence": sequence,
        "prev_hash": prev_hash,
        "hash": digest,
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "root": event.subject.partition("@")[0],
        "time": to_micros(event.time),
        "actor": event.actor,
        "data": to_json(event.data).decode(),
    }


def _entry(row: Row[Any]) -> LedgerEntry:
    event = Event(
        id=row.id,
        type=row.type,
        subject=row.subject,
        time=from_micros(row.time),
        actor=row.actor,
        data=_payload(row.data),
    )
    return LedgerEntry(sequence=row.sequence, event=event, prev_hash=row.prev_hash, hash=row.hash)


def _payload(text: str) -> Payload:
    return from_json(text, dict[str, Any])


STORES: dict[type, Callable[[Connection], object]] = {
    Checkpoints: SqlCheckpoints,
    Ledger: SqlLedger,
    Leases: SqlLeases,
    Outbox: SqlOutbox,
}
