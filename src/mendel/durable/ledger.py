"""Check the ledger's hash chain, and sign its newest entry so that later rewriting is detected."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mendel.durable.events import GENESIS, Event, LedgerEntry, entry_hash
from mendel.errors import LedgerBroken
from mendel.values import from_json, require_utc, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRange:
    """The range of entries whose hash chain was verified, both ends included; ``last < first`` when it is empty."""

    first: int
    last: int
    head_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """
    A signed statement that the ledger entry number ``sequence`` had this ``hash`` at the time ``at``.

    Attributes:
        signature: The Ed25519 signature over sequence, hash and time, in hex.
        public_key: The raw public key that verifies the signature, in hex.
    """

    sequence: int
    hash: str
    at: datetime
    signature: str
    public_key: str


def normalised_event(event: Event) -> Event:
    """Give *event* as a ledger returns it after storing: its time in UTC, its data passed through JSON."""
    return replace(event, time=require_utc(event.time), data=from_json(to_json(event.data), dict[str, Any]))


def verify_chain(entries: Iterable[LedgerEntry], *, after: VerifiedRange | None = None) -> VerifiedRange:
    """
    Check the sequence number, previous hash and hash of every entry.

    Args:
        entries: Entries in ascending order that begin with entry 1, or with the entry that follows *after*.
        after: The range verified before, when a long ledger is read in pieces.

    Raises:
        LedgerBroken: An entry is missing, altered or out of order; the error carries the first wrong sequence number.
    """
    first, last, head = (1, 0, GENESIS) if after is None else (after.first, after.last, after.head_hash)
    for entry in entries:
        due = last + 1
        if entry.sequence != due:
            raise _broken(due, f"the entry is missing; the next entry has number {entry.sequence}")
        if entry.prev_hash != head:
            raise _broken(due, f"the prev_hash of this entry is not the hash of entry {last}")
        if entry.hash != entry_hash(entry.prev_hash, entry.sequence, entry.event):
            raise _broken(due, "the hash of this entry does not match the entry's content")
        last, head = entry.sequence, entry.hash
    return VerifiedRange(first=first, last=last, head_hash=head)


def sign_head(head: LedgerEntry, *, private_key: bytes, at: datetime) -> Anchor:
    """
    Sign the entry *head*, so that rewriting *head* or an entry before it is detected without the private key.

    Args:
        private_key: The Ed25519 key, 32 raw bytes (RFC 8032).
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
    Check that a trusted key signed *anchor* and that the ledger's *entry* still has the signed hash.

    Args:
        entry: The ledger entry with the anchor's sequence number.
        trusted: Public keys (hex) of this installation.

    Raises:
        LedgerBroken: The key is not trusted, the signature is invalid, or the entry has another hash.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - start-up time
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - start-up time

    if anchor.public_key not in trusted:
        raise _broken(anchor.sequence, "the anchor of this entry was signed with an untrusted key")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(anchor.public_key))
        key.verify(bytes.fromhex(anchor.signature), _statement(anchor.sequence, anchor.hash, anchor.at))
    except (InvalidSignature, ValueError) as error:
        raise _broken(anchor.sequence, "the signature of this entry's anchor is invalid") from error
    if (entry.sequence, entry.hash) != (anchor.sequence, anchor.hash):
        raise _broken(
            anchor.sequence,
            f"the anchor of this entry has the hash {anchor.hash[:12]}, but the entry has the hash {entry.hash[:12]}",
        )


def _statement(sequence: int, entry_hash_: str, at: datetime) -> bytes:
    return to_json({"at": at, "hash": entry_hash_, "sequence": sequence})


def _broken(sequence: int, why: str) -> LedgerBroken:
    return LedgerBroken(
        f"The hash chain of the ledger is broken at entry {sequence}: {why}.",
        sequence=sequence,
        remedy="Compare the database with a backup taken before the entry was changed.",
    )
