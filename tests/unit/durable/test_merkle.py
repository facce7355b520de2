"""The Merkle tree: every proof leads to the right root, and no altered proof does."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.durable.merkle import (
    EMPTY_ROOT,
    TreeFold,
    consistency_spans,
    hashes_of,
    inclusion_spans,
    inner_hash,
    is_consistent,
    leaf_hash,
    root_by_inclusion,
)

SIZES = st.integers(1, 40)


def root_of(leaves):
    """The root by the recursive definition of RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return inner_hash(root_of(leaves[:split]), root_of(leaves[split:]))


def grown(size):
    """The leaves of a tree, and its stored nodes."""
    leaves, fold, nodes = [leaf_hash(b"%d" % number) for number in range(size)], TreeFold(), {}
    for leaf in leaves:
        nodes |= {(node.size, node.level): node.hash for node in fold.add(leaf)}
    return leaves, fold, nodes.__getitem__


def test_published_roots():
    """The roots over the leaves that the test vectors of Certificate Transparency's own implementations use."""
    vectors = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    roots = {
        0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    }
    fold, found = TreeFold(), {0: EMPTY_ROOT.hex()}
    for vector in vectors:
        fold.add(leaf_hash(vector))
        found[fold.size] = fold.root().hex()
    assert {size: found[size] for size in roots} == roots


@given(size=st.integers(0, 40))
def test_a_grown_tree_has_the_root_of_the_definition(size):
    """Growing leaf by leaf gives the root of the recursive definition, also when taken up again from the peaks."""
    leaves, fold, _ = grown(size)
    assert fold.root() == root_of(leaves)
    again = TreeFold(size, fold.peaks)
    again.add(leaf_hash(b"next"))
    assert again.root() == root_of([*leaves, leaf_hash(b"next")])


@given(size=SIZES, data=st.data())
def test_inclusion(size, data):
    """The proof of a leaf leads to the root; from another leaf, or with a proof too short, it does not."""
    leaves, fold, node = grown(size)
    index = data.draw(st.integers(0, size - 1))
    proof = hashes_of(inclusion_spans(index, size), node)
    assert root_by_inclusion(leaves[index], index, size, proof) == fold.root()
    assert root_by_inclusion(leaf_hash(b"other"), index, size, proof) != fold.root()
    assert root_by_inclusion(leaves[index], index, size, (*proof, b"")) is None


@given(new=SIZES, data=st.data())
def test_consistency(new, data):
    """The proof between two sizes holds for their roots, and for no other root of either."""
    old = data.draw(st.integers(1, new))
    leaves, fold, node = grown(new)
    proof = () if old == new else hashes_of(consistency_spans(old, new), node)
    before, after, other = root_of(leaves[:old]), fold.root(), leaf_hash(b"other")
    assert is_consistent((old, before), (new, after), proof)
    assert not is_consistent((old, other), (new, after), proof)
    assert not is_consistent((old, before), (new, other), proof)
    assert not is_consistent((old, before), (new, after), (*proof, other))


def test_peaks_must_fit_the_size():
    """A tree of three leaves has two complete subtrees."""
    with pytest.raises(ValueError, match="has 2 complete subtrees, not 1"):
        TreeFold(3, [EMPTY_ROOT])
