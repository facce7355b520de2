"""Verify the whole ledger piece by piece, and what confirms it: head row, tree, recorded checkpoints and anchors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from mendel.durable.findings import Finding, FindingKind
from mendel.durable.held_anchors import HeldAnchor, HeldAnchors, held_anchors, trusted_anchors
from mendel.durable.ledger import LedgerCheck, LedgerState, VerifiedRange
from mendel.durable.notary import Notary
from mendel.durable.ports import Checkpoints, Ledger, LedgerHead, RecordedCheckpoint, Transaction, UnitOfWork

_AT_ONCE = 5_000
_FAR = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPiece:
    """
    The result of verifying some entries.

    Attributes:
        reached: How far the verification has come; the next piece begins there.
        complete: Whether this was the last piece.
        states: The states of the ledger at the sizes that were asked for, and at the sizes of anchors.
        anchors: The number of valid anchors that are about these entries.
    """

    reached: VerifiedRange
    complete: bool
    findings: tuple[Finding, ...]
    states: tuple[LedgerState, ...]
    anchors: int


class LedgerVerification:
    """Verifies the ledger against everything that confirms it in this installation."""

    def __init__(self, unit: UnitOfWork, notary: Notary) -> None:
        self._unit = unit
        self._notary = notary

    def piece(self, after: VerifiedRange, *, limit: int, wanted: Collection[int] = ()) -> VerifiedPiece:
        """
        Verify at most *limit* entries behind *after*; the signatures of all anchors are verified with the first piece.

        Args:
            wanted: The sizes at which the state of the ledger is asked for.

        Raises:
            StoreUnavailable: The database or a store of anchors does not answer.
        """
        begins = after.last < after.first
        recorded, head = self._unit.read(lambda tx: (tx.store(Checkpoints).all(), tx.store(Ledger).recorded_head()))
        held = held_anchors(self._notary.stores, recorded)
        newer = [one for one in held.anchors if begins or one.size > after.last]
        valid, faults = trusted_anchors(newer, self._notary.trusted(), head.origin)
        first = [*held.findings, *faults, *self._own_findings(head, recorded, held)] if begins else []

        def work(tx: Transaction) -> VerifiedPiece:
            ledger, upto = tx.store(Ledger), after.last + limit
            nodes = ledger.nodes_between(after.last, upto)
            check = LedgerCheck(after, nodes=nodes, anchors=_by_size(valid), wanted=wanted)
            complete = _add_entries(ledger, check, upto)
            last = _end_findings(ledger, check, valid) if complete else []
            return VerifiedPiece(
                reached=check.reached,
                complete=complete,
                findings=(*first, *check.findings, *last),
                states=tuple(check.states),
                anchors=sum(one.outside and one.size <= check.last for one in valid),
            )

        return self._unit.read(work)

    def _own_findings(
        self, head: LedgerHead, recorded: Sequence[RecordedCheckpoint], held: HeldAnchors
    ) -> Iterator[Finding]:
        """Find what is wrong with the record of checkpoints and with the keys that the ledger names."""
        unreadable = self._unit.read(lambda tx: tx.store(Checkpoints).unreadable())
        for size in unreadable:
            place = f"table ledger_checkpoints, row {size}"
            message = f"The recorded checkpoint in {place} is not a checkpoint of {size} entries."
            yield Finding(kind=FindingKind.ANCHOR_CHANGED, place=place, message=message, sequence=size)
        chain = self._notary.keys()
        for entry in chain.strays:
            yield Finding(
                kind=FindingKind.KEY_CHANGED,
                place=f"entry {entry.sequence}",
                message=f"Entry {entry.sequence} names a key for which the keys before it did not sign; it has no "
                "effect.",
                sequence=entry.sequence,
            )
        if chain.links and not held.anchors and not recorded and not unreadable:
            yield Finding(
                kind=FindingKind.ANCHOR_MISSING,
                place="all anchors",
                message="The ledger names a key that signs checkpoints, but there is no checkpoint in any place: they "
                "were deleted.",
                sequence=head.sequence,
            )
        named = self._notary.named_keys()
        if named and not named[-1].signs:
            yield Finding(
                kind=FindingKind.KEY_CHANGED,
                place="file ledger.key",
                message=f"The private key of this installation is not the key {named[-1].id} that entry "
                f"{named[-1].since} names.",
                sequence=named[-1].since,
            )


def _by_size(anchors: Sequence[HeldAnchor]) -> dict[int, list[HeldAnchor]]:
    by_size: dict[int, list[HeldAnchor]] = defaultdict(list)
    for one in anchors:
        by_size[one.size].append(one)
    return by_size


def _add_entries(ledger: Ledger, check: LedgerCheck, upto: int) -> bool:
    """Check the entries up to the number *upto*; gives whether no entry follows."""
    while check.last < upto:
        found = ledger.sealed(after=check.last, limit=_AT_ONCE)
        here = [entry for entry in found if entry.sequence <= upto]
        check.add(here)
        if len(here) < len(found):
            check.skip_to(found[len(here)].sequence - 1)
            return False
        if len(found) < _AT_ONCE:
            return True
    return not ledger.sealed(after=upto, limit=1)


def _end_findings(ledger: Ledger, check: LedgerCheck, anchors: Sequence[HeldAnchor]) -> Iterator[Finding]:
    """Compare the end of the entries with the head row, the tree and the anchors."""
    head, reached = ledger.recorded_head(), check.reached
    more = max(check.unused_nodes(), max((node.size for node in ledger.nodes_between(check.last, _FAR)), default=0))
    witnesses = {"the head row": head.sequence, "the tree": more}
    witnesses |= {f"the signed anchor {one.name}": one.size for one in anchors}
    knowing = [f"{name} knows entry {size}" for name, size in witnesses.items() if size > check.last]
    if knowing:
        first, last = check.last + 1, max(witnesses.values())
        which = f"entry {first} was" if first == last else f"entries {first} to {last} were"
        yield Finding(
            kind=FindingKind.TAIL_CUT,
            place=f"entry {first}",
            message=f"The ledger ends at entry {check.last}, but {knowing[-1]}: {which} cut off, or an older "
            "backup was restored.",
            sequence=first,
        )
    if head.sequence < check.last:
        why = f"it says that the ledger ends at entry {head.sequence}, but the entries go on to {check.last}"
    elif head.sequence == check.last and head.hash != reached.head_hash:
        why = f"its hash is not the hash of entry {check.last}"
    elif head.sequence == check.last and not reached.differs and [one.hex() for one in head.peaks] != [*reached.peaks]:
        why = "its tree is not the tree of the entries"
    else:
        return
    yield Finding(
        kind=FindingKind.HEAD_CHANGED,
        place="table ledger_head, row 1",
        message=f"The head row of the ledger was changed: {why}.",
        sequence=check.last,
    )
