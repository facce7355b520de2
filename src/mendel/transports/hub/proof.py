"""The ledger, read and verified; keys."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from mendel.durable import Ledger, LedgerEntry, VerifiedRange, check_anchor, verify_chain
from mendel.errors import LedgerBroken
from mendel.transports.hub.access import Admin, Reader
from mendel.transports.hub.answers import NounBody, NounResponse, noun_of
from mendel.transports.hub.nouns import KeyRequest, LedgerPage, LedgerProof, NewKey
from mendel.transports.hub.parts import HubParts

_PIECE = 2000


def proof_routes(parts: HubParts) -> APIRouter:
    """The routes of the ledger and of keys."""
    routes = APIRouter(tags=["ledger"])

    @routes.get("/events")
    def events(
        _: Reader,
        after: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=_PIECE)] = 1000,
        subject: str | None = None,
        type: Annotated[list[str] | None, Query()] = None,  # noqa: A002 - the event's own word
    ) -> Response:
        """Entries after a sequence number, ascending."""
        found = parts.unit.read(
            lambda tx: tx.store(Ledger).entries(after=after, limit=limit, types=tuple(type or ()), subject=subject)
        )
        follows = found[-1].sequence if len(found) == limit else None
        return NounResponse(LedgerPage(entries=found, next=follows))

    @routes.get("/ledger/verify")
    def verify_ledger(_: Reader) -> Response:
        """Check the chain from the first entry, and every anchor that was kept outside the database."""
        return NounResponse(prove(parts))

    @routes.post("/keys", status_code=201)
    def add_key(actor: Admin, body: NounBody) -> Response:
        wish = noun_of(body, KeyRequest)
        return NounResponse(NewKey(secret=parts.registry.keys.add(wish.scopes, wish.label, by=actor)), status_code=201)

    return routes


def prove(parts: HubParts) -> LedgerProof:
    """
    Verify the ledger piece by piece, in bounded memory.

    Raises:
        LedgerBroken: At the first sequence that does not hold, or that an anchor contradicts.
    """
    anchors = {anchor.sequence: anchor for anchor in parts.anchors.all()}
    trusted = parts.anchors.trusted()
    done: VerifiedRange | None = None
    while piece := _piece(parts, done.last if done else 0):
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


def _piece(parts: HubParts, after: int) -> tuple[LedgerEntry, ...]:
    return parts.unit.read(lambda tx: tx.store(Ledger).entries(after=after, limit=_PIECE))
