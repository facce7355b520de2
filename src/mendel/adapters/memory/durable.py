"""Ledger, outbox, leases and steps in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mendel.adapters.memory.tables import MemoryTables
from mendel.durable import Event, Lease, Leases, Ledger, LedgerEntry, Outbox, WorkflowCall, next_entry
from mendel.errors import AlreadyExists


class MemoryLedger:
    """Implements :class:`mendel.durable.Ledger`; entries are keyed by sequence number."""

    def __init__(self, tables: MemoryTables) -> None:
        self._entries: dict[int, LedgerEntry] = tables.table("ledger")
        self._ids: dict[str, int] = tables.table("ledger_ids")

    def head(self) -> LedgerEntry | None:
        return self._entries.get(len(self._entries))

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

    def extend(self, events: Iterable[Event]) -> None:
        """Append *events* to the ledger, each chained to the entry before."""
        for event in events:
            if event.id in self._ids:
                raise AlreadyExists(f"The ledger already holds the event {event.id}.")
            entry = next_entry(self.head(), event)
            self._entries[entry.sequence] = entry
            self._ids[event.id] = entry.sequence


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
    Ledger: MemoryLedger,
    Leases: MemoryLeases,
    Outbox: MemoryOutbox,
}
