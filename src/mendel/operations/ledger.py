"""Operations that read and verify the ledger of events."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from mendel.durable import Ledger, LedgerEntry, VerifiedRange, check_anchor, verify_chain
from mendel.errors import InvalidValue, LedgerBroken
from mendel.operations.hub_parts import Call, HubParts
from mendel.operations.operation import operation
from mendel.operations.requests import Nothing
from mendel.values import Scope, VersionRef

_PIECE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """
    The request for ledger entries after a sequence number; None or empty filters select everything.

    A version as ``subject`` is ``NAME@N`` or ``NAME/N``.
    """

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=_PIECE)] = 1000
    subject: str | None = None
    type: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Entries of the ledger; ``next`` is the value of ``after`` for the next page, None on the last page."""

    entries: tuple[LedgerEntry, ...]
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProof:
    """
    The result of a successful verification: the hash chain is intact from entry ``first`` to entry ``last``.

    Attributes:
        head_hash: The hash of the last entry.
        anchored: The sequence number of the last entry that a signed anchor outside the database confirms; later
            entries are consistent with each other but not confirmed.
        anchors: The number of anchors that were checked.
    """

    first: int
    last: int
    head_hash: str
    anchored: int
    anchors: int


@operation("GET", "/events", scope=Scope.READ)
def events(call: Call, request: Events) -> LedgerPage:
    """List the entries of the ledger after a sequence number, oldest first."""
    subject = request.subject and _subject(request.subject)
    found = call.read(
        lambda views: views.history(subject, after=request.after, limit=request.limit, types=request.type)
    )
    if not call.caller.may(Scope.ADMIN):
        found = tuple(_without_key_hash(entry) for entry in found)
    return LedgerPage(entries=found, next=found[-1].sequence if len(found) == request.limit else None)


def _subject(text: str) -> str:
    """Give the subject as events name it; any text that is not a version stays as it is."""
    with suppress(InvalidValue):
        return str(VersionRef.parse(text))
    return text


def _without_key_hash(entry: LedgerEntry) -> LedgerEntry:
    """Leave out the SHA-256 of an API key, which events of a former Mendel contain."""
    event = entry.event
    if not event.type.startswith("key."):
        return entry
    data = {name: value for name, value in event.data.items() if name != "digest"}
    return replace(entry, event=replace(event, data=data))


@operation("GET", "/ledger/verify", scope=Scope.READ, errors=(LedgerBroken,))
def verify_ledger(call: Call, _: Nothing) -> LedgerProof:
    """Verify the hash chain of the ledger from its first entry, and every signed anchor."""
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
            f"The ledger ends at entry {done.last}, but a signed anchor confirms entry {newest}: entries were deleted.",
            sequence=done.last + 1,
        )
    return LedgerProof(
        first=done.first, last=done.last, head_hash=done.head_hash, anchored=newest, anchors=len(anchors)
    )


def _piece(hub: HubParts, after: int) -> tuple[LedgerEntry, ...]:
    return hub.unit.read(lambda tx: tx.store(Ledger).entries(after=after, limit=_PIECE))
