"""Receipts: an entry of the ledger, a checkpoint, and the proof that the checkpoint covers the entry."""

from __future__ import annotations

import base64
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    The proof that the ledger contains an entry, which can be checked without Mendel.

    Attributes:
        sequence: The number of the entry.
        entry: The text whose SHA-256 is the entry's hash: previous hash, number and event, one line each.
        proof: The hashes, in base64, that lead from the entry's leaf to the root in the checkpoint (RFC 6962, 2.1.1).
        checkpoint: The signed note about the first entries of the ledger.
        public_key: The key that signed the note, in PEM format.
        document: Entry, proof and checkpoint in one text (https://c2sp.org/tlog-proof).
    """

    sequence: int
    entry: str
    proof: tuple[str, ...]
    checkpoint: str
    public_key: str
    document: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsistencyProof:
    """
    The proof that the ledger only grew between two checkpoints.

    Attributes:
        old_size: The number of entries that the older checkpoint covers.
        checkpoint: The newer checkpoint, a signed note.
        proof: The hashes, in base64, that lead to the roots of both (RFC 6962, 2.1.2).
    """

    old_size: int
    checkpoint: str
    proof: tuple[str, ...]


def receipt_document(sequence: int, entry: bytes, proof: tuple[str, ...], checkpoint: str) -> str:
    """Write a receipt as one text; the line ``extra`` holds the entry in base64."""
    head = ("c2sp.org/tlog-proof@v1", f"extra {base64.b64encode(entry).decode()}", f"index {sequence - 1}")
    return "\n".join([*head, *proof, "", checkpoint])
