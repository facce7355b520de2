"""The ledger's proof: the chain holds, and a signed head says how far it stood when."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mendel.durable.events import GENESIS, Event, LedgerEntry, entry_hash
from mendel.errors import LedgerBroken
from mendel.values import from_json, require_utc, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The chain holds from ``first`` to ``last``, inclusive; ``last < first`` when there was nothing to verify."""

    first: int
    last: int
    head_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """
    A signed statement that the ledger's entry ``sequence`` had this ``hash`` at a time.

    Attributes:
        signature: Ed25519 over the other three, hex.
        public_key: The raw key that checks it, hex.
    """

    sequence: int
    hash: str
    at: datetime
    signature: str
    public_key: str


def as_recorded(event: Event) -> Event:
    """*event* as every ledger gives it back: its time in UTC, its data as JSON keeps them."""
    return replace(event, time=require_utc(event.time), data=from_json(to_json(event.data), dict[str, Any]))


def verify(entries: Iterable[LedgerEntry], *, after: Verified | None = None) -> Verified:
    """
    Check sequence, previous hash and hash of every entry.

    Args:
        entries: Ascending, from the first one on, or from the one that follows *after*.
        after: What was verified before, when a long ledger is read in pieces.

    Raises:
        LedgerBroken: At the first sequence that is missing, altered or out of place.
    """
    first, last, head = (1, 0, GENESIS) if after is None else (after.first, after.last, after.head_hash)
    for entry in entries:
        due = last + 1
        if entry.sequence != due:
            raise _broken(due, f"it is missing; the next entry is {entry.sequence}")
        if entry.prev_hash != head:
            raise _broken(due, "it does not follow the entry before it")
        if entry.hash != entry_hash(entry.prev_hash, entry.sequence, entry.event):
            raise _broken(due, "its content does not have its hash")
        last, head = entry.sequence, entry.hash
    return Verified(first=first, last=last, head_hash=head)


def sign_head(head: LedgerEntry, *, private_key: bytes, at: datetime) -> Anchor:
    """
    Sign *head*, so that nobody without the key can rewrite what stands before it unnoticed.

    Args:
        private_key: 32 raw bytes (RFC 8032).
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - start-up time

    key = Ed25519PrivateKey.from_private_bytes(private_key)
    moment = require_utc(at)
    return Anchor(
        sequence=head.sequence,
        hash=head.hash,
        at=moment,
        signature=key.sign(_statement(head.sequence, head.hash, moment)).hex(),
        public_key=key.public_key().public_bytes_raw().hex(),
    )


def check_anchor(anchor: Anchor, entry: LedgerEntry, *, trusted: Collection[str]) -> None:
    """
    Check that *anchor* was signed by a trusted key and that *entry* is what it was signed over.

    Args:
        entry: The ledger's entry of the anchor's sequence.
        trusted: Public keys (hex) that are known to be ours.

    Raises:
        LedgerBroken: The key is a stranger's, the signature does not hold, or the ledger says otherwise.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - start-up time
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - start-up time

    if anchor.public_key not in trusted:
        raise _broken(anchor.sequence, "its anchor is signed by an unknown key")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(anchor.public_key))
        key.verify(bytes.fromhex(anchor.signature), _statement(anchor.sequence, anchor.hash, anchor.at))
    except (InvalidSignature, ValueError) as error:
        raise _broken(anchor.sequence, "the signature of its anchor does not hold") from error
    if (entry.sequence, entry.hash) != (anchor.sequence, anchor.hash):
        raise _broken(anchor.sequence, f"it was anchored with hash {anchor.hash[:12]} and now has {entry.hash[:12]}")


def _statement(sequence: int, entry_hash_: str, at: datetime) -> bytes:
    return to_json({"at": at, "hash": entry_hash_, "sequence": sequence})


def _broken(sequence: int, why: str) -> LedgerBroken:
    return LedgerBroken(f"The ledger breaks at entry {sequence}: {why}.", sequence=sequence)
