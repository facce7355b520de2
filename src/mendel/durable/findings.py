"""What a verification of the ledger can find: one finding for each fault, with its place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """The kinds of faults; each names what was done to the ledger, or to what confirms the ledger."""

    ENTRY_MISSING = "entry missing"
    ENTRY_CHANGED = "entry changed"
    ENTRIES_SWAPPED = "entries swapped"
    CHAIN_REWRITTEN = "chain rewritten"
    TAIL_CUT = "tail cut"
    HEAD_CHANGED = "head row changed"
    TREE_CHANGED = "tree changed"
    ANCHOR_MISSING = "anchor missing"
    ANCHOR_CHANGED = "anchor changed"
    ANCHOR_UNTRUSTED = "anchor of an unknown key"
    ANCHOR_CONTRADICTED = "anchor contradicted"
    KEY_CHANGED = "signing key changed"
    STATE_CHANGED = "state changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """
    One fault that a verification found.

    Attributes:
        place: The thing that is wrong: ``entry 17``, ``head row``, ``anchor 000000000032.checkpoint``, or a table and
            its row.
        message: One sentence for people; it names the place and what is expected there.
        sequence: The number of the first ledger entry concerned; None if the fault concerns no single entry.
    """

    kind: FindingKind
    place: str
    message: str
    sequence: int | None = None
