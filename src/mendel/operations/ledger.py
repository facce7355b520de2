"""Operations that read the ledger of events, verify it, and prove what it contains."""

from __future__ import annotations

import base64
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated

import msgspec

from mendel.durable import (
    Checkpoint,
    ConsistencyProof,
    Finding,
    FindingKind,
    Ledger,
    LedgerEntry,
    LedgerKey,
    LedgerState,
    LedgerVerification,
    Receipt,
    Transaction,
    VerifiedRange,
)
from mendel.durable.merkle import TreeFold
from mendel.errors import Conflict, Forbidden, InvalidInput, InvalidValue, LedgerBroken, NotFound, StateUnknown
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.requests import Nothing
from mendel.registry import state_faults
from mendel.values import Scope, VersionRef, from_json, to_json

_PAGE = 2000
_MOST_ENTRIES = 1 << 53
_DIGITS = 17
_MOST_ROWS = 100
PIECE = 50_000
"""The number of entries that one call of :data:`verify_ledger` verifies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """
    The request for ledger entries after a sequence number; None or empty filters select everything.

    A version as ``subject`` is ``NAME@N`` or ``NAME/N``.
    """

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=_PAGE)] = 1000
    subject: str | None = None
    type: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPage:
    """Entries of the ledger; ``next`` is the value of ``after`` for the next page, None on the last page."""

    entries: tuple[LedgerEntry, ...]
    next: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyLedger:
    """
    The request to verify a piece of the ledger.

    Attributes:
        cursor: The value ``next`` of the piece before; None begins with the first entry.
        limit: Verify at most this many entries.
        sizes: Also give the states of the ledger when it had these numbers of entries.
        tables: With the last piece, also compare the registry's tables with the events of the ledger.
    """

    cursor: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=PIECE)] = PIECE
    sizes: tuple[int, ...] = ()
    tables: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerProof:
    """
    The result of a verification; the ledger holds if there are no findings.

    Attributes:
        first: The first entry that was verified.
        last: The last entry that was verified.
        head_hash: The hash of the last entry.
        anchored: The number of the last entry that a signed anchor outside the database confirms; later entries are
            consistent with each other but not confirmed.
        anchors: The number of valid anchors that are about the verified entries.
        findings: Each fault, with its place.
        states: The states of the ledger at the sizes of the request.
        tables: Whether the registry's tables were compared with the events.
        next: The cursor of the next piece; None after the last piece.
    """

    first: int
    last: int
    head_hash: str
    anchored: int
    anchors: int
    findings: tuple[Finding, ...] = ()
    states: tuple[LedgerState, ...] = ()
    tables: bool = False
    next: str | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing wrong was found."""
        return not self.findings


@dataclass(frozen=True, slots=True, kw_only=True)
class OneReceipt:
    """The request for the receipt of an entry; ``entry`` is its number, or the id of its event."""

    entry: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """The request for the proof that the ledger continues the one that had ``old_size`` entries."""

    old_size: Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateLedgerKey:
    """The request for a new signing key; ``lost`` is True if the former private key is lost."""

    lost: bool = False


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


@operation("GET", "/ledger/verify", scope=Scope.READ)
def verify_ledger(call: Call, request: VerifyLedger) -> LedgerProof:
    """Verify a piece of the ledger: hash chain, tree, head row and every signed anchor; the result names each fault."""
    verification = LedgerVerification(call.hub.unit, call.hub.notary)
    piece = verification.piece(_range(request.cursor), limit=request.limit, wanted=request.sizes)
    reached, compares = piece.reached, request.tables and piece.complete
    return LedgerProof(
        first=reached.first,
        last=reached.last,
        head_hash=reached.head_hash,
        anchored=reached.agreed,
        anchors=piece.anchors,
        findings=(*piece.findings, *(call.hub.unit.read(_state_findings) if compares else ())),
        states=tuple(state for state in piece.states if state.size in request.sizes),
        tables=compares,
        next=None if piece.complete else base64.urlsafe_b64encode(to_json(reached)).decode(),
    )


def _state_findings(tx: Transaction) -> tuple[Finding, ...]:
    """Give the first rows of the registry's tables that do not follow from the events of the ledger."""
    try:
        return tuple(
            Finding(kind=FindingKind.STATE_CHANGED, place=f"{fault.kind} {fault.row}", message=fault.message)
            for fault in islice(state_faults(tx), _MOST_ROWS)
        )
    except (InvalidValue, StateUnknown) as error:
        message = f"The registry's tables cannot be compared with the events: {error.message}"
        return (Finding(kind=FindingKind.STATE_CHANGED, place="events with rows", message=message),)


def _range(cursor: str | None) -> VerifiedRange:
    if cursor is None:
        return VerifiedRange()
    try:
        found = from_json(base64.urlsafe_b64decode(cursor), VerifiedRange)
        TreeFold(found.last, [bytes.fromhex(peak) for peak in found.peaks])
    except (ValueError, InvalidValue) as error:
        raise InvalidInput("The cursor is not the field 'next' of an answer.") from error
    if not 0 < found.last < _MOST_ENTRIES:
        raise InvalidInput(f"The cursor names entry {found.last}.")
    return found


@operation("POST", "/ledger/checkpoint", scope=Scope.DEPLOY, errors=(NotFound, LedgerBroken, Conflict))
def checkpoint(call: Call, _: Nothing) -> Checkpoint:
    """Sign the ledger as it is now, and store the checkpoint as an anchor."""
    signed = call.hub.notary.checkpoint(call.hub.clock())
    if signed is None:
        raise NotFound("The ledger is empty, so there is nothing to sign.")
    return signed


@operation("GET", "/ledger/receipts/{entry}", scope=Scope.READ, errors=(NotFound, LedgerBroken))
def receipt(call: Call, request: OneReceipt) -> Receipt:
    """Give the proof that the ledger contains an entry, which anyone can check without Mendel."""
    entry = _entry(call, request.entry)
    if entry is None:
        raise NotFound(f"The ledger has no entry {request.entry}.", remedy="List the entries with: mendel ledger show")
    if not call.caller.may(Scope.ADMIN) and _without_key_hash(entry) != entry:
        raise Forbidden(
            "The entry contains the hash of an API key.", remedy="Use a key with the scope 'admin' for this receipt."
        )
    return call.hub.notary.receipt(entry.sequence)


def _entry(call: Call, named: str) -> LedgerEntry | None:
    """Find an entry by the id of its event, or by its number."""

    def work(tx: Transaction) -> LedgerEntry | None:
        ledger = tx.store(Ledger)
        if (found := ledger.by_event(named)) is not None or not (named.isdecimal() and len(named) < _DIGITS):
            return found
        return next((one for one in ledger.entries(after=int(named) - 1, limit=1) if one.sequence == int(named)), None)

    return call.hub.unit.read(work)


@operation("GET", "/ledger/consistency", scope=Scope.READ, errors=(LedgerBroken,))
def consistency(call: Call, request: Consistency) -> ConsistencyProof:
    """Give the proof that the ledger still begins with the entries that an older checkpoint covers."""
    return call.hub.notary.consistency(request.old_size)


@operation("GET", "/ledger/keys", scope=Scope.READ)
def ledger_keys(call: Call, _: Nothing) -> tuple[LedgerKey, ...]:
    """List the public keys that sign or signed checkpoints, oldest first."""
    return call.hub.notary.named_keys()


@operation("POST", "/ledger/rotate-key", scope=Scope.ADMIN, errors=(NotFound, LedgerBroken, Conflict))
def rotate_ledger_key(call: Call, request: RotateLedgerKey) -> LedgerKey:
    """Sign checkpoints with a new key from now on; the checkpoints of the former key still verify."""
    return call.hub.notary.rotate_key(call.hub.clock(), by=call.by, lost=request.lost)
