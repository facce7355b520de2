"""Events, and the ledger entries that chain them by hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from mendel.values import to_json

GENESIS = "0" * 64
"""The ``prev_hash`` of the ledger's first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    A fact that the ledger records.

    Attributes:
        id: Unique; a workflow that is started because of the event carries the same id.
        type: A dotted name with a past participle, such as ``model.promoted``.
        subject: The model, version or incident concerned: ``credit``, ``credit@3``, ``INC-2026-1``.
        time: When the event happened, aware and in UTC.
        actor: The program, process or API key that caused the event: ``cli``, ``healing``, the id of a key.
        data: Evidence and details; builtins only, no secrets and no features.
    """

    id: str
    type: str
    subject: str
    time: datetime
    actor: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """
    An event in the ledger.

    ``sequence`` numbers the entries from 1 without gaps; ``prev_hash`` is the ``hash`` of the entry before.
    """

    sequence: int
    event: Event
    prev_hash: str
    hash: str


class SealedEntry(NamedTuple):
    """An entry as the database stores it: ``event`` is the event in canonical JSON, not decoded."""

    sequence: int
    prev_hash: str
    hash: str
    event: bytes

    @property
    def text(self) -> bytes:
        """The bytes whose SHA-256 is the entry's hash: previous hash, number and event, one line each."""
        return sealed_text(self.prev_hash, self.sequence, self.event)


def sealed_text(prev_hash: str, sequence: int, event: bytes) -> bytes:
    """Give the bytes whose SHA-256 is the hash of an entry; *event* is canonical JSON."""
    return b"%b\n%d\n%b" % (prev_hash.encode(), sequence, event)


def entry_hash(prev_hash: str, sequence: int, event: Event) -> str:
    """SHA-256 (hex) over the previous hash, the sequence number and the event in canonical JSON."""
    return hashlib.sha256(sealed_text(prev_hash, sequence, to_json(event))).hexdigest()


def sealed(entry: LedgerEntry) -> SealedEntry:
    """Encode the event of *entry*."""
    return SealedEntry(entry.sequence, entry.prev_hash, entry.hash, to_json(entry.event))


def next_entry(prev: LedgerEntry | None, event: Event) -> LedgerEntry:
    """Make the ledger entry for *event* that follows *prev*; None makes the first entry."""
    sequence, prev_hash = (1, GENESIS) if prev is None else (prev.sequence + 1, prev.hash)
    return LedgerEntry(sequence=sequence, event=event, prev_hash=prev_hash, hash=entry_hash(prev_hash, sequence, event))
