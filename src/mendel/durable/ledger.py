"""Check the ledger entry by entry: the hash chain, the Merkle tree beside it, and the anchors that confirm it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

from mendel.durable.events import GENESIS, Event, SealedEntry, sealed_text
from mendel.durable.findings import Finding, FindingKind
from mendel.durable.merkle import HASH_BYTES, NodeKey, TreeFold, TreeNode, leaf_hash
from mendel.values import from_json, require_utc, to_json

_NO_LEAF = bytes(HASH_BYTES)
"""Stands for a leaf that neither the entries nor the tree have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedRange:
    """
    How far a verification has come.

    Attributes:
        first: The first entry that was checked.
        last: The last entry that was checked; below ``first`` when none was.
        peaks: The roots (hex) of the complete subtrees of the tree over entries 1 to ``last``, largest first.
        agreed: The newest entry that an anchor confirms.
        differs: Whether the tree differs from the entries already, so that further differences say nothing new.
        contradicted: Whether an anchor contradicts the entries already.
    """

    first: int = 1
    last: int = 0
    head_hash: str = GENESIS
    peaks: tuple[str, ...] = ()
    agreed: int = 0
    differs: bool = False
    contradicted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerState:
    """
    The ledger when it had ``size`` entries.

    Attributes:
        hash: The hash of entry ``size``; None if the entry is missing or altered.
        root: The root of the Merkle tree over the entries, in base64.
    """

    size: int
    hash: str | None
    root: str


class Confirmation(Protocol):
    """A signed statement about the first ``size`` entries of the ledger."""

    @property
    def name(self) -> str:
        """The name of the file or record."""

    @property
    def size(self) -> int:
        """The number of entries that the statement is about, which is the number of the last of them."""

    @property
    def outside(self) -> bool:
        """Whether the statement is kept outside the database, where who can write the database cannot change it."""

    def confirms(self, entry_hash: str | None, root: bytes) -> bool | None:
        """
        Whether the statement is about a ledger whose entry ``size`` has *entry_hash*, and whose tree has *root*.

        None if the statement names only the hash of an entry that is missing or altered, and was found already.
        """


def normalised_event(event: Event) -> Event:
    """Give *event* as a ledger returns it after storing: its time in UTC, its data passed through JSON."""
    return replace(event, time=require_utc(event.time), data=from_json(to_json(event.data), dict[str, Any]))


class LedgerCheck:
    """
    Checks the entries of the ledger in order; a fault becomes a finding, and the check goes on behind the fault.

    Where an entry is missing or altered, the tree's own leaf stands in for the entry, so that one fault is found once.

    Args:
        after: The range that was checked before, when a long ledger is read in pieces.
        nodes: The stored nodes of the tree that became complete with the entries to check; None checks no tree.
        anchors: The signed anchors by size; the signatures were checked before.
        wanted: The sizes at which :attr:`states` keeps the state of the ledger.
    """

    def __init__(
        self,
        after: VerifiedRange,
        *,
        nodes: Iterable[TreeNode] | None = None,
        anchors: Mapping[int, Sequence[Confirmation]] | None = None,
        wanted: Collection[int] = (),
    ) -> None:
        self.findings: list[Finding] = []
        self.states: list[LedgerState] = []
        self._from = after
        self._last = after.last
        self._head: str | None = after.head_hash
        self._head_hash = after.head_hash
        self._fold = TreeFold(after.last, [bytes.fromhex(peak) for peak in after.peaks])
        self._nodes: dict[NodeKey, bytes] = {(size, level): node for size, level, node in nodes or ()}
        self._has_tree = nodes is not None
        self._anchors = anchors or {}
        self._stops = {*self._anchors, *wanted}
        self._agreed, self._differs, self._contradicted = after.agreed, after.differs, after.contradicted
        self._altered: list[SealedEntry] = []

    @property
    def reached(self) -> VerifiedRange:
        """The range that is checked now."""
        return VerifiedRange(
            first=self._from.first,
            last=self._last,
            head_hash=self._head_hash,
            peaks=tuple(peak.hex() for peak in self._fold.peaks),
            agreed=self._agreed,
            differs=self._differs,
            contradicted=self._contradicted,
        )

    def add(self, entries: Iterable[SealedEntry]) -> None:
        """Check *entries*, which continue those checked before."""
        for entry in entries:
            sequence, prev_hash, hash_, event = entry
            if sequence != self._last + 1:
                self._miss(sequence - 1)
            holds = hashlib.sha256(sealed_text(prev_hash, sequence, event)).hexdigest() == hash_
            if not holds:
                self._altered.append(entry)
            elif self._head is not None and prev_hash != self._head:
                self._find(
                    FindingKind.CHAIN_REWRITTEN,
                    sequence,
                    f"Entry {sequence} does not continue entry {sequence - 1}: its previous hash is another one.",
                )
            self._last, self._head_hash = sequence, hash_
            self._head = hash_ if holds else None
            self._grow(hash_ if holds else None)
            if sequence in self._stops:
                self._compare(sequence, hash_ if holds else None)
        self._name_altered()

    @property
    def last(self) -> int:
        """The number of the last entry that was checked."""
        return self._last

    def skip_to(self, sequence: int) -> None:
        """Note that the next entry has a number above *sequence*: those up to *sequence* are missing."""
        if sequence > self._last:
            self._miss(sequence)

    def unused_nodes(self) -> int:
        """Give the largest size of a stored node that no checked entry completed; 0 without such nodes."""
        return max((size for size, _ in self._nodes if size > self._last), default=0)

    def _miss(self, upto: int) -> None:
        first = self._last + 1
        which = f"Entry {first} is" if first == upto else f"Entries {first} to {upto} are"
        self._find(FindingKind.ENTRY_MISSING, first, f"{which} missing from the ledger.")
        self._head = None
        if upto - self._last > _MOST_MISSING:  # somebody wrote an entry with a number far away: no tree has so much
            self._differs, self._last = True, upto
            self._fold = TreeFold(upto, [_NO_LEAF] * upto.bit_count())
            return
        for _ in range(first, upto + 1):
            self._last += 1
            self._grow(None)
            if self._last in self._stops:
                self._compare(self._last, None)

    def _grow(self, entry_hash: str | None) -> None:
        """Add a leaf, and compare the nodes that it completes with the stored ones."""
        size = self._fold.size + 1
        leaf = self._nodes.get((size, 0), _NO_LEAF) if entry_hash is None else leaf_hash(bytes.fromhex(entry_hash))
        for node in self._fold.add(leaf):
            if not self._has_tree or self._differs:
                continue
            stored = self._nodes.pop((node.size, node.level), None)
            if stored != node.hash:
                self._differs = True
                self._find_in_tree(node, stored)

    def _find_in_tree(self, node: TreeNode, stored: bytes | None) -> None:
        if node.level == 0 and stored is not None:
            self._find(
                FindingKind.CHAIN_REWRITTEN,
                node.size,
                f"Entry {node.size} is not the entry that was appended: its hash differs from its leaf in the tree. "
                "This entry, or the chain from here on, was written anew.",
            )
            return
        first = node.size - (1 << node.level) + 1
        which = f"entry {first}" if first == node.size else f"the entries {first} to {node.size}"
        why = "is missing" if stored is None else f"does not match {which}"
        self.findings.append(
            Finding(
                kind=FindingKind.TREE_CHANGED,
                place=f"table ledger_tree, row ({node.size}, {node.level})",
                message=f"The tree's node of size {node.size} and level {node.level} {why}.",
                sequence=node.size,
            )
        )

    def _compare(self, size: int, entry_hash: str | None) -> None:
        root = self._fold.root()
        self.states.append(LedgerState(size=size, hash=entry_hash, root=base64.b64encode(root).decode()))
        for anchor in self._anchors.get(size, ()):
            verdict = anchor.confirms(entry_hash, root)
            if verdict and anchor.outside:
                self._agreed = size
            elif verdict is False and not self._contradicted:
                self._contradicted = True
                first = self._agreed + 1
                which = (
                    f"entry {size} is not the one that was"
                    if first == size
                    else (f"entries {first} to {size} are not those that were")
                )
                self.findings.append(
                    Finding(
                        kind=FindingKind.ANCHOR_CONTRADICTED,
                        place=f"anchor {anchor.name}",
                        message=f"The signed anchor {anchor.name} contradicts the ledger: {which} signed.",
                        sequence=first,
                    )
                )

    def _name_altered(self) -> None:
        """Name the altered entries; two of them that hold each other's content were swapped."""
        swapped: set[int] = set()
        for one, other in combinations(self._altered[:_MOST_COMPARED], 2):
            if _swapped(one, other):
                swapped |= {one.sequence, other.sequence}
                self._find(
                    FindingKind.ENTRIES_SWAPPED,
                    one.sequence,
                    f"Entries {one.sequence} and {other.sequence} were swapped.",
                )
        for entry in self._altered:
            if entry.sequence not in swapped:
                self._find(
                    FindingKind.ENTRY_CHANGED,
                    entry.sequence,
                    f"Entry {entry.sequence} was changed: its content does not have the hash that stands beside it.",
                )
        self._altered.clear()

    def _find(self, kind: FindingKind, sequence: int, message: str) -> None:
        self.findings.append(Finding(kind=kind, place=f"entry {sequence}", message=message, sequence=sequence))


_MOST_COMPARED = 40
_MOST_MISSING = 1_000_000


def _swapped(one: SealedEntry, other: SealedEntry) -> bool:
    """Whether each of two entries has the other's content, with or without the other's hashes."""

    def fits(number: int, chained: SealedEntry, content: SealedEntry) -> bool:
        return hashlib.sha256(sealed_text(chained.prev_hash, number, content.event)).hexdigest() == chained.hash

    rows = fits(other.sequence, one, one) and fits(one.sequence, other, other)
    return rows or (fits(one.sequence, one, other) and fits(other.sequence, other, one))


def verify_chain(entries: Iterable[SealedEntry], *, after: VerifiedRange | None = None) -> LedgerCheck:
    """Check the sequence number, previous hash and hash of every entry, from entry 1 or behind *after*."""
    check = LedgerCheck(after or VerifiedRange())
    check.add(entries)
    return check
