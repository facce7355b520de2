"""Events: what happened, and their place in the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mendel.values import to_json

GENESIS = "0" * 64
"""The previous hash of the first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """
    Something that happened.

    Attributes:
        id: Unique; an effect started for the event carries it.
        type: Dotted and in the past, ``model.promoted``.
        subject: What it happened to: ``credit@3``, ``INC-2026-1``, ``credit``.
        time: Aware, UTC.
        actor: Who or what did it: ``cli``, ``healing``, the id of a key.
        data: Evidence and particulars; builtins only, no secrets and no features.
    """

    id: str
    type: str
    subject: str
    time: datetime
    actor: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """An event at its place: a gapless ``sequence`` from 1, chained by ``prev_hash`` to the entry before."""

    sequence: int
    event: Event
    prev_hash: str
    hash: str


def entry_hash(prev_hash: str, sequence: int, event: Event) -> str:
    """SHA-256 (hex) over the previous hash, the sequence number and the event in canonical JSON."""
    digest = hashlib.sha256(f"{prev_hash}\n{sequence}\n".encode())
    digest.update(to_json(event))
    return digest.hexdigest()


def chain(prev: LedgerEntry | None, event: Event) -> LedgerEntry:
    """The entry that follows *prev* (None: the first)."""
    sequence, prev_hash = (1, GENESIS) if prev is None else (prev.sequence + 1, prev.hash)
    return LedgerEntry(sequence=sequence, event=event, prev_hash=prev_hash, hash=entry_hash(prev_hash, sequence, event))
