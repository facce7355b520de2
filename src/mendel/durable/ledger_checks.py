"""Check what is signed and proven: checkpoints against the tree, entries against the checkpoint before and the head."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from mendel.durable.checkpoints import Anchor, Checkpoint, FormerAnchor, read_checkpoint
from mendel.durable.events import GENESIS, SealedEntry
from mendel.durable.ledger import LedgerCheck, VerifiedRange
from mendel.durable.merkle import EMPTY_ROOT, Span, cover, hashes_of, leaf_hash, root_by_inclusion
from mendel.durable.ports import Ledger, LedgerHead, Transaction
from mendel.errors import LedgerBroken

VERIFY_REMEDY: Final = "Find what was changed with: mendel ledger verify"
_AT_ONCE = 5_000


def agrees(tx: Transaction, anchor: Anchor) -> bool:
    """Whether the ledger still has the entries that *anchor* confirms."""
    ledger = tx.store(Ledger)
    if isinstance(anchor, FormerAnchor):
        found = ledger.sealed(after=anchor.size - 1, limit=1)
        return bool(found) and found[0].sequence == anchor.size and found[0].hash == anchor.hash
    head = ledger.recorded_head()
    if anchor.size > head.sequence or anchor.origin != head.origin:
        return False
    spans = ((0, anchor.size),)
    (root,) = hashes_of(spans, stored_nodes(tx, spans)) if anchor.size else (EMPTY_ROOT,)
    return anchor.confirms(None, root) is True


def stored_nodes(tx: Transaction, spans: Iterable[Span]) -> Callable[[tuple[int, int]], bytes]:
    """Read the nodes that the roots of *spans* need, in one query."""
    found = tx.store(Ledger).nodes([key for span in spans for key in cover(span)])

    def node(key: tuple[int, int]) -> bytes:
        if key not in found:
            raise LedgerBroken(
                f"The tree of the ledger has no node of size {key[0]} and level {key[1]}.",
                sequence=key[0],
                remedy=VERIFY_REMEDY,
            )
        return found[key]

    return node


def require_sound(tx: Transaction, head: LedgerHead, since: Checkpoint | None) -> None:
    """
    Verify the entries behind *since*, and that the tree with them is the one of *head*.

    Raises:
        LedgerBroken: An entry, the tree or the head row was changed.
    """
    ledger, size = tx.store(Ledger), 0 if since is None else since.size
    spans = [(end - (1 << level), end) for end, level in cover((0, size))]
    before = ledger.sealed(after=size - 1, limit=1) if size else ()
    reached = VerifiedRange(
        last=size,
        head_hash=before[0].hash if before else GENESIS,
        peaks=tuple(peak.hex() for peak in hashes_of(spans, stored_nodes(tx, spans))),
    )
    while reached.last < head.sequence:
        upto = min(head.sequence, reached.last + _AT_ONCE)
        check = LedgerCheck(reached, nodes=ledger.nodes_between(reached.last, upto))
        check.add(ledger.sealed(after=reached.last, limit=upto - reached.last))
        if check.findings or check.last != upto:
            told = check.findings[0].message if check.findings else f"Entry {check.last + 1} is missing."
            raise LedgerBroken(f"Nothing is signed. {told}", sequence=check.last, remedy=VERIFY_REMEDY)
        reached = check.reached
    if reached.head_hash != head.hash or list(reached.peaks) != [peak.hex() for peak in head.peaks]:
        raise LedgerBroken(
            f"Nothing is signed: the head row of the ledger is not that of entry {head.sequence}.",
            sequence=head.sequence,
            remedy=VERIFY_REMEDY,
        )


def require_proof(entry: SealedEntry, checkpoint: Checkpoint, hashes: Sequence[bytes]) -> None:
    holds = hashlib.sha256(entry.text).hexdigest() == entry.hash
    leaf = leaf_hash(bytes.fromhex(entry.hash))
    root = root_by_inclusion(leaf, entry.sequence - 1, checkpoint.size, hashes) if holds else None
    if root is None or read_checkpoint(checkpoint.note).confirms(None, root) is not True:
        raise LedgerBroken(
            f"The checkpoint of {checkpoint.size} entries does not cover entry {entry.sequence} as it is now.",
            sequence=entry.sequence,
            remedy=VERIFY_REMEDY,
        )
