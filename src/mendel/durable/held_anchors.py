"""Read and check everything that confirms the ledger: anchors in their stores, and checkpoints in the database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mendel.durable.checkpoints import Anchor, Checkpoint, TrustedKey, read_anchor
from mendel.durable.findings import Finding, FindingKind
from mendel.durable.ports import Anchors, RecordedCheckpoint, StoredAnchor
from mendel.errors import Corrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnchor:
    """
    An anchor, with the name of the place that holds it.

    Attributes:
        outside: Whether the place is outside the database.
    """

    anchor: Anchor
    name: str
    outside: bool = True

    @property
    def size(self) -> int:
        """The number of entries that the anchor confirms."""
        return self.anchor.size

    def confirms(self, entry_hash: str | None, root: bytes) -> bool | None:
        """Whether the anchor confirms this ledger; see :class:`mendel.durable.ledger.Confirmation`."""
        return self.anchor.confirms(entry_hash, root)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAnchors:
    """The readable anchors, and a finding for each that is missing or cannot be read."""

    anchors: tuple[HeldAnchor, ...]
    findings: tuple[Finding, ...]


def held_anchors(stores: Sequence[Anchors], recorded: Sequence[RecordedCheckpoint]) -> HeldAnchors:
    """
    Read the anchors of *stores*, and compare them with the checkpoints that the database has *recorded* as stored.

    The first store is the installation's own; the anchors of the others are named with their place.
    """
    findings: list[Finding] = []
    held: list[HeldAnchor] = []
    for place, store in enumerate(stores):
        found = store.all()
        held += _readable(found, f"{store.where}/" if place else "", findings)
        findings += _missing(found, recorded, store.where)
    notes = {one.anchor.note for one in held if isinstance(one.anchor, Checkpoint)}
    held += [
        HeldAnchor(anchor=row.checkpoint, name=f"in table ledger_checkpoints, row {row.checkpoint.size}", outside=False)
        for row in recorded
        if row.checkpoint.note not in notes
    ]
    return HeldAnchors(anchors=tuple(held), findings=tuple(findings))


def trusted_anchors(
    anchors: Iterable[HeldAnchor], keys: Mapping[str, TrustedKey], origin: str
) -> tuple[list[HeldAnchor], list[Finding]]:
    """
    Give the anchors that a trusted key signed for the ledger *origin*; each of the others is a finding.

    Args:
        keys: The trusted public keys by id.
    """
    good: list[HeldAnchor] = []
    findings: list[Finding] = []
    for one in anchors:
        foreign = isinstance(one.anchor, Checkpoint) and one.anchor.origin != origin
        fault = one.anchor.signature_fault(keys)
        if foreign:
            kind, why = FindingKind.ANCHOR_UNTRUSTED, f"is of another ledger than {origin}"
        elif fault is None:
            good.append(one)
            continue
        else:
            known = fault == "has an invalid signature"
            kind, why = (FindingKind.ANCHOR_CHANGED if known else FindingKind.ANCHOR_UNTRUSTED), fault
        findings.append(
            Finding(kind=kind, place=f"anchor {one.name}", message=f"The anchor {one.name} {why}.", sequence=one.size)
        )
    return good, findings


def _readable(found: Iterable[StoredAnchor], prefix: str, findings: list[Finding]) -> Iterator[HeldAnchor]:
    for stored in found:
        try:
            yield HeldAnchor(anchor=read_anchor(stored.name, stored.content), name=f"{prefix}{stored.name}")
        except Corrupt as error:
            findings.append(
                Finding(kind=FindingKind.ANCHOR_CHANGED, place=f"anchor {prefix}{stored.name}", message=error.message)
            )


def _missing(found: Iterable[StoredAnchor], recorded: Iterable[RecordedCheckpoint], where: str) -> Iterator[Finding]:
    names = {stored.name for stored in found}
    for row in recorded:
        if row.stored and row.checkpoint.name not in names:
            yield Finding(
                kind=FindingKind.ANCHOR_MISSING,
                place=f"anchor {row.checkpoint.name}",
                message=f"The anchor {row.checkpoint.name}, signed at {row.checkpoint.at:%Y-%m-%d %H:%M:%S} UTC, was "
                f"deleted from {where}.",
                sequence=row.checkpoint.size,
            )
