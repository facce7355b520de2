"""Events, and the ledger entries that chain them by hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

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


def entry_hash(prev_hash: str, sequence: int, event: Event) -> str:
    """SHA-256 (hex) over the previous hash, the sequence number and the event in canonical JSON."""
    digest = hashlib.sha256(f"{prev_hash}\n{sequence}\n".encode())
    digest.update(to_json(event))
    return digest.hexdigest()


def next_entry(prev: LedgerEntry | None, event: Event) -> LedgerEntry:
    """Make the ledger entry for *event* that follows *prev*; None makes the first entry."""
    sequence, prev_hash = (1, GENESIS) if prev is None else (prev.sequence + 1, prev.hash)
    return LedgerEntry(sequence=sequence, event=event, prev_hash=prev_hash, hash=entry_hash(prev_hash, sequence, event))
