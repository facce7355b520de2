"""The Merkle tree of RFC 6962 over the ledger's entries: roots, inclusion proofs and consistency proofs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""The root of a tree without leaves."""


class TreeNode(NamedTuple):
    """
    The root of a complete subtree of 2^level leaves.

    ``size`` is the number of the subtree's last leaf, counted from 1: the node exists since the tree had that size.
    """

    size: int
    level: int
    hash: bytes


NodeKey = tuple[int, int]
"""Size and level of a :class:`TreeNode`."""
Span = tuple[int, int]
"""The leaves ``[start, end)``, counted from 0."""


def leaf_hash(content: bytes) -> bytes:
    """Hash the content of a leaf; the prefix tells leaves from inner nodes (RFC 6962, 2.1)."""
    return hashlib.sha256(b"\x00" + content).digest()


def inner_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class TreeFold:
    """
    A tree that grows leaf by leaf and remembers only the roots of its complete subtrees, largest first.

    >>> fold = TreeFold()
    >>> [(node.size, node.level) for entry in (b"a", b"b", b"c") for node in fold.add(leaf_hash(entry))]
    [(1, 0), (2, 0), (2, 1), (3, 0)]
    >>> fold.root() == inner_hash(inner_hash(leaf_hash(b"a"), leaf_hash(b"b")), leaf_hash(b"c"))
    True
    """

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        if len(peaks) != size.bit_count():
            raise ValueError(f"A tree of {size} leaves has {size.bit_count()} complete subtrees, not {len(peaks)}.")
        self.size = size
        self.peaks = list(peaks)

    def add(self, leaf: bytes) -> list[TreeNode]:
        """Add the hash of a leaf; gives the nodes that are complete now, the leaf first."""
        self.size = size = self.size + 1
        peaks, node, level = self.peaks, leaf, 0
        complete = [TreeNode(size, 0, leaf)]
        while not size >> level & 1:
            level += 1
            node = inner_hash(peaks.pop(), node)
            complete.append(TreeNode(size, level, node))
        peaks.append(node)
        return complete

    def root(self) -> bytes:
        """The root of the tree."""
        return folded(self.peaks)


def folded(peaks: Sequence[bytes]) -> bytes:
    """Give the root over neighbouring complete subtrees, of which each is larger than the next."""
    return reduce(lambda right, left: inner_hash(left, right), reversed(peaks)) if peaks else EMPTY_ROOT


def cover(span: Span) -> tuple[NodeKey, ...]:
    """
    Give the complete subtrees that make up *span*, largest first; the span begins where such a subtree may begin.

    >>> cover((0, 7))
    ((4, 2), (6, 1), (7, 0))
    """
    start, end = span
    keys = []
    while start < end:
        level = (end - start).bit_length() - 1
        start += 1 << level
        keys.append((start, level))
    return tuple(keys)


def inclusion_spans(index: int, size: int) -> tuple[Span, ...]:
    """
    Give the spans whose roots prove that the leaf *index* (from 0) is in the tree of *size*, the leaf's sibling first.

    >>> inclusion_spans(2, 7)
    ((3, 4), (0, 2), (4, 7))
    """
    spans: list[Span] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start = middle
    return tuple(reversed(spans))


def consistency_spans(old: int, new: int) -> tuple[Span, ...]:
    """
    Give the spans whose roots prove that the tree of size *new* continues the tree of size *old* (RFC 6962, 2.1.2).

    Both sizes are above 0, and *old* is not above *new*.
    """
    spans: list[Span] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            spans.append((middle, end))
            end = middle
        else:
            spans.append((start, middle))
            start, whole = middle, False
    if not whole:
        spans.append((start, end))
    return tuple(reversed(spans))


def hashes_of(spans: Iterable[Span], node: Callable[[NodeKey], bytes]) -> tuple[bytes, ...]:
    """Give the root of each span from the stored complete subtrees."""
    return tuple(folded([node(key) for key in cover(span)]) for span in spans)


def root_by_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """
    Give the root that *proof* leads to from the leaf; None if the proof has the wrong length (RFC 9162, 2.1.3.2).
    """
    spans = inclusion_spans(index, size)
    if len(spans) != len(proof):
        return None
    node = leaf
    for (start, _), sibling in zip(spans, proof, strict=True):
        node = inner_hash(node, sibling) if start > index else inner_hash(sibling, node)
    return node


def is_consistent(old: tuple[int, bytes], new: tuple[int, bytes], proof: Sequence[bytes]) -> bool:
    """
    Whether *proof* shows that the tree *new* continues the tree *old*; each is a size and a root (RFC 9162, 2.1.4.2).
    """
    (old_size, old_root), (new_size, new_root) = old, new
    if old_size == new_size:
        return old_root == new_root and not proof
    spans = consistency_spans(old_size, new_size)
    if len(spans) != len(proof):
        return False
    known = list(zip(spans, proof, strict=True))
    if old_size.bit_count() == 1:  # the old tree is a complete subtree of the new one
        known.insert(0, ((0, old_size), old_root))
    first, *others = known
    lefts = [one for one in others if one[0][1] <= old_size]
    return _joined(first, lefts) == old_root and _joined(first, others) == new_root


def _joined(first: tuple[Span, bytes], others: Iterable[tuple[Span, bytes]]) -> bytes:
    """Join neighbouring spans one after another, each on its side of what is already joined."""
    (start, _), node = first
    for (begin, _), sibling in others:
        if begin < start:
            node, start = inner_hash(sibling, node), begin
        else:
            node = inner_hash(node, sibling)
    return node


def _split(leaves: int) -> int:
    """The largest power of two below *leaves*."""
    return 1 << (leaves - 1).bit_length() - 1
