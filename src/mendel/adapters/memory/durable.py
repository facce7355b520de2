"""Ledger, outbox, leases and steps in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mendel.adapters.memory.tables import MemoryTables
from mendel.durable import Event, Lease, Leases, Ledger, LedgerEntry, Outbox, WorkflowCall, next_entry
from mendel.errors import AlreadyExists


class MemoryLedger:
    """The ledger, keyed by sequence."""

    def __init__(self, tables: MemoryTables) -> None:
        self._entries: dict[int, LedgerEntry] = tables.table("ledger")
        self._ids: dict[str, int] = tables.table("ledger_ids")

    def head(self) -> LedgerEntry | None:
        """The newest entry."""
        return self._entries.get(len(self._entries))

    def entries(
        self, *, after: int = 0, limit: int = 1000, types: Sequence[str] = (), subject: str | None = None
    ) -> tuple[LedgerEntry, ...]:
        """Entries above *after*, ascending."""
        found: list[LedgerEntry] = []
        for sequence in range(max(after, 0) + 1, len(self._entries) + 1):
            entry = self._entries[sequence]
            if (not types or entry.event.type in types) and (subject is None or _about(entry.event, subject)):
                found.append(entry)
            if len(found) >= limit:
                break
        return tuple(found)

    def extend(self, events: Iterable[Event]) -> None:
        """Chain *events* to the head."""
        for event in events:
            if event.id in self._ids:
                raise AlreadyExists(f"The ledger holds an event {event.id} already.")
            entry = next_entry(self.head(), event)
            self._entries[entry.sequence] = entry
            self._ids[event.id] = entry.sequence


class MemoryOutbox:
    """Waiting calls by id, oldest first."""

    def __init__(self, tables: MemoryTables) -> None:
        self._calls: dict[str, WorkflowCall] = tables.table("outbox")

    def pending(self, limit: int) -> tuple[WorkflowCall, ...]:
        """The oldest calls."""
        return tuple(self._calls.values())[:limit]

    def mark_started(self, call_id: str) -> None:
        """Forget the call."""
        self._calls.pop(call_id, None)

    def depth(self) -> int:
        """How many calls wait."""
        return len(self._calls)

    def put(self, call: WorkflowCall) -> None:
        """Add *call*, unless one of its id waits."""
        self._calls.setdefault(call.id, call)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tenancy:
    """The newest epoch of a name, and its lease unless that was given back."""

    epoch: int
    lease: Lease | None


class MemoryLeases:
    """Leases by name; a returned one leaves its epoch behind."""

    def __init__(self, tables: MemoryTables) -> None:
        self._tenancies: dict[str, _Tenancy] = tables.table("leases")

    def acquire(self, name: str, holder: str, *, now: datetime, ttl: timedelta) -> Lease | None:
        """Take or renew the lease."""
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
        """Give it back."""
        current = self.current(lease.name)
        if current is not None and (current.holder, current.epoch) == (lease.holder, lease.epoch):
            self._tenancies[lease.name] = _Tenancy(epoch=lease.epoch, lease=None)

    def current(self, name: str) -> Lease | None:
        """The lease as it stands; None when it was never taken or was given back."""
        tenancy = self._tenancies.get(name)
        return None if tenancy is None else tenancy.lease


def _about(event: Event, subject: str) -> bool:
    return event.subject == subject or event.subject.startswith(f"{subject}@")


STORES: dict[type, Callable[[MemoryTables], object]] = {
    Ledger: MemoryLedger,
    Leases: MemoryLeases,
    Outbox: MemoryOutbox,
}
