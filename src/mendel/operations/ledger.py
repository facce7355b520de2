"""The ledger, read and verified."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mendel.durable import Ledger, LedgerEntry, VerifiedRange, check_anchor, verify_chain
from mendel.errors import LedgerBroken
from mendel.operations.hub_parts import Call, HubParts
from mendel.operations.operation import operation
from mendel.operations.requests import Nothing
from mendel.values import Scope

_PIECE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Asks for entries after a sequence number, of a subject and of some types."""

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=_PIECE)] = 1000
    subject: str | None = None
    type: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Entries of the ledger; ``next`` is the sequence to ask after, None at the end."""

    entries: tuple[LedgerEntry, ...]
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProof:
    """
    The chain holds from entry ``first`` to ``last``.

    Attributes:
        anchored: Up to here a signed head outside the database vouches for it; beyond, it is merely consistent.
        anchors: How many signed heads were checked.
    """

    first: int
    last: int
    head_hash: str
    anchored: int
    anchors: int


@operation("GET", "/events", scope=Scope.READ)
def events(call: Call, request: Events) -> LedgerPage:
    """List entries of the ledger after a sequence number, ascending."""
    found = call.read(
        lambda views: views.history(request.subject, after=request.after, limit=request.limit, types=request.type)
    )
    return LedgerPage(entries=found, next=found[-1].sequence if len(found) == request.limit else None)


@operation("GET", "/ledger/verify", scope=Scope.READ, errors=(LedgerBroken,))
def verify_ledger(call: Call, _: Nothing) -> LedgerProof:
    """Check the hash chain from the first entry, and every anchor that is kept outside the database."""
    hub = call.hub
    anchors = {anchor.sequence: anchor for anchor in hub.anchors.all()}
    trusted = hub.anchors.trusted()
    done: VerifiedRange | None = None
    while piece := _piece(hub, done.last if done else 0):
        done = verify_chain(piece, after=done)
        for entry in piece:
            if entry.sequence in anchors:
                check_anchor(anchors[entry.sequence], entry, trusted=trusted)
    done = done or verify_chain(())
    newest = max(anchors, default=0)
    if newest > done.last:
        raise LedgerBroken(
            f"The ledger ends at {done.last}, and a signed anchor vouches for {newest}: entries were cut off.",
            sequence=done.last + 1,
        )
    return LedgerProof(
        first=done.first, last=done.last, head_hash=done.head_hash, anchored=newest, anchors=len(anchors)
    )


def _piece(hub: HubParts, after: int) -> tuple[LedgerEntry, ...]:
    return hub.unit.read(lambda tx: tx.store(Ledger).entries(after=after, limit=_PIECE))
