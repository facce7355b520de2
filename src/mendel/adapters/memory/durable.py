"""Ledger, outbox, leases and steps in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mendel.adapters.memory.tables import MemoryTables
from mendel.durable import (
    GENESIS,
    Checkpoint,
    Checkpoints,
    Event,
    Lease,
    Leases,
    Ledger,
    LedgerEntry,
    LedgerHead,
    Outbox,
    RecordedCheckpoint,
    SealedEntry,
    WorkflowCall,
    next_entry,
    sealed,
)
from mendel.durable.merkle import NodeKey, TreeFold, TreeNode, leaf_hash
from mendel.errors import AlreadyExists

_ORIGIN = "mendel/memory"


class MemoryLedger:
    """Implements :class:`mendel.durable.Ledger`; entries are keyed by sequence number."""

    def __init__(self, tables: MemoryTables) -> None:
        self._entries: dict[int, LedgerEntry] = tables.table("ledger")
        self._ids: dict[str, int] = tables.table("ledger_ids")
        self._nodes: dict[NodeKey, bytes] = tables.table("ledger_tree")
        self._peaks: dict[int, tuple[bytes, ...]] = tables.table("ledger_peaks")

    def head(self) -> LedgerEntry | None:
        return self._entries.get(len(self._entries))

    def newest_until(self, moment: datetime) -> LedgerEntry | None:
        return next((one for one in reversed(self._entries.values()) if one.event.time <= moment), None)

    def entries(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), subject: str | None = None
    ) -> tuple[LedgerEntry, ...]:
        found: list[LedgerEntry] = []
        for sequence in range(max(after, 0) + 1, len(self._entries) + 1):
            entry = self._entries[sequence]
            if (not types or entry.event.type in types) and (subject is None or _about(entry.event, subject)):
                found.append(entry)
            if len(found) >= limit:
                break
        return tuple(found)

    def by_event(self, event_id: str) -> LedgerEntry | None:
        return self._entries.get(self._ids.get(event_id, 0))

    def sealed(self, *, after: int, limit: int) -> tuple[SealedEntry, ...]:
        return tuple(sealed(entry) for entry in self.entries(after=after, limit=limit))

    def recorded_head(self) -> LedgerHead:
        head, peaks = self.head(), self._peaks.get(0, ())
        if head is None:
            return LedgerHead(sequence=0, hash=GENESIS, peaks=peaks, origin=_ORIGIN)
        return LedgerHead(sequence=head.sequence, hash=head.hash, peaks=peaks, origin=_ORIGIN)

    def nodes(self, keys: Iterable[NodeKey]) -> Mapping[NodeKey, bytes]:
        return {key: self._nodes[key] for key in keys if key in self._nodes}

    def nodes_between(self, after: int, upto: int) -> tuple[TreeNode, ...]:
        return tuple(TreeNode(*key, node) for key, node in self._nodes.items() if after < key[0] <= upto)

    def extend(self, events: Iterable[Event]) -> None:
        """Append *events* to the ledger, each chained to the entry before, and to its tree."""
        fold = TreeFold(len(self._entries), self._peaks.get(0, ()))
        for event in events:
            if event.id in self._ids:
                raise AlreadyExists(f"The ledger already holds the event {event.id}.")
            entry = next_entry(self.head(), event)
            self._entries[entry.sequence] = entry
            self._ids[event.id] = entry.sequence
            for node in fold.add(leaf_hash(bytes.fromhex(entry.hash))):
                self._nodes[node.size, node.level] = node.hash
        self._peaks[0] = tuple(fold.peaks)


class MemoryCheckpoints:
    """Implements :class:`mendel.durable.Checkpoints`."""

    def __init__(self, tables: MemoryTables) -> None:
        self._rows: dict[int, RecordedCheckpoint] = tables.table("ledger_checkpoints")

    def all(self) -> tuple[RecordedCheckpoint, ...]:
        return tuple(self._rows[size] for size in sorted(self._rows))

    def unreadable(self) -> tuple[int, ...]:
        return ()  # the rows are checkpoints, not texts

    def newest(self) -> RecordedCheckpoint | None:
        return self._rows[max(self._rows)] if self._rows else None

    def covering(self, sequence: int) -> RecordedCheckpoint | None:
        return next((row for row in self.all() if row.checkpoint.size >= sequence), None)

    def waiting(self) -> tuple[RecordedCheckpoint, ...]:
        return tuple(row for row in self.all() if not row.stored)

    def add(self, checkpoint: Checkpoint) -> Checkpoint:
        row = RecordedCheckpoint(checkpoint=checkpoint, stored=False)
        return self._rows.setdefault(checkpoint.size, row).checkpoint

    def mark_stored(self, size: int) -> None:
        self._rows[size] = replace(self._rows[size], stored=True)


class MemoryOutbox:
    """Implements :class:`mendel.durable.Outbox`; calls are keyed by id, oldest first."""

    def __init__(self, tables: MemoryTables) -> None:
        self._calls: dict[str, WorkflowCall] = tables.table("outbox")

    def pending(self, limit: int) -> tuple[WorkflowCall, ...]:
        return tuple(self._calls.values())[:limit]

    def mark_started(self, call_id: str) -> None:
        self._calls.pop(call_id, None)

    def depth(self) -> int:
        return len(self._calls)

    def put(self, call: WorkflowCall) -> None:
        """Add *call*, unless a waiting call has the same id."""
        self._calls.setdefault(call.id, call)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tenancy:
    """The newest epoch of a name, and its lease unless the lease was released."""

    epoch: int
    lease: Lease | None


class MemoryLeases:
    """Implements :class:`mendel.durable.Leases`; the epoch of a released lease is kept."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tenancies: dict[str, _Tenancy] = tables.table("leases")

    def acquire(self, name: str, holder: str, *, now: datetime, ttl: timedelta) -> Lease | None:
        tenancy = self._tenancies.get(name, _Tenancy(epoch=0, lease=None))
        current = tenancy.lease
        if current is not None and current.holder == holder:
            lease = replace(current, expires=now + ttl)
        elif current is None or current.expires <= now:
            lease = Lease(name=name, holder=holder, epoch=tenancy.epoch + 1, expires=now + ttl)
        else:
            return None
        self._tenancies[name] = _Tenancy(epoch=lease.epoch, lease=lease)
        return lease

    def release(self, lease: Lease) -> None:
        current = self.current(lease.name)
        if current is not None and (current.holder, current.epoch) == (lease.holder, lease.epoch):
            self._tenancies[lease.name] = _Tenancy(epoch=lease.epoch, lease=None)

    def current(self, name: str) -> Lease | None:
        tenancy = self._tenancies.get(name)
        return None if tenancy is None else tenancy.lease


def _about(event: Event, subject: str) -> bool:
    return event.subject == subject or event.subject.startswith(f"{subject}@")


STORES: dict[type, Callable[[MemoryTables], object]] = {
    Checkpoints: MemoryCheckpoints,
    Ledger: MemoryLedger,
    Leases: MemoryLeases,
    Outbox: MemoryOutbox,
}
