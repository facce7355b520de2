"""The check of the ledger: whatever is changed is found, at the right place and by the right name."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.durable import GENESIS, Event, LedgerCheck, VerifiedRange, next_entry, sealed, verify_chain
from mendel.durable.merkle import TreeFold, leaf_hash
from support.ledgers import chained


def tampered(entry, field):
    """*entry* with one field changed, each to something plausible."""
    event = entry.event
    changes = {
        "id": "e0",
        "type": "model.rolled_back",
        "subject": "credit@2",
        "time": event.time + timedelta(microseconds=1),
        "actor": "healing",
        "data": {**event.data, "share": 0.5000001},
    }
    if field in changes:
        return replace(entry, event=replace(event, **{field: changes[field]}))
    text = getattr(entry, field)
    return replace(entry, **{field: text[:-1] + ("0" if text[-1] != "0" else "1")})


FIELDS = [field.name for field in fields(Event)] + ["prev_hash", "hash"]


def tree_of(entries):
    """The nodes that were stored when *entries* were appended."""
    fold = TreeFold()
    return [node for entry in entries for node in fold.add(leaf_hash(bytes.fromhex(entry.hash)))]


def found(entries, nodes=None, after=None):
    """What the check finds, each as its kind and the number of the entry."""
    check = LedgerCheck(after or VerifiedRange(), nodes=nodes)
    check.add(map(sealed, entries))
    return [(str(finding.kind), finding.sequence) for finding in check.findings]


def test_a_whole_ledger_verifies():
    """An untouched chain verifies from first to last, also read in pieces, and so does an empty one."""
    entries = chained(7)
    whole = verify_chain(map(sealed, entries))
    assert whole.findings == []
    assert (whole.reached.first, whole.reached.last, whole.reached.head_hash) == (1, 7, entries[-1].hash)
    half = verify_chain(map(sealed, entries[:3])).reached
    assert verify_chain(map(sealed, entries[3:]), after=half).reached == whole.reached
    empty = verify_chain([])
    assert (empty.reached.first, empty.last, empty.reached.head_hash) == (1, 0, GENESIS)


@given(length=st.integers(1, 8), data=st.data(), field=st.sampled_from(FIELDS), with_tree=st.booleans())
def test_one_changed_field_is_one_finding(length, data, field, with_tree):
    """One changed field of one entry is found at exactly that entry, and nowhere else."""
    entries = chained(length)
    nodes = tree_of(entries) if with_tree else None
    place = data.draw(st.integers(0, length - 1))
    entries[place] = tampered(entries[place], field)
    assert found(entries, nodes) == [("entry changed", place + 1)]


@given(length=st.integers(2, 8), data=st.data(), with_tree=st.booleans())
def test_a_missing_entry_is_found(length, data, with_tree):
    """An entry that others follow and that is gone is named, and what follows it is not."""
    entries = chained(length)
    nodes = tree_of(entries) if with_tree else None
    place = data.draw(st.integers(0, length - 2))
    assert found(entries[:place] + entries[place + 1 :], nodes) == [("entry missing", place + 1)]


@given(data=st.data(), with_tree=st.booleans())
def test_swapped_entries_are_named_as_such(data, with_tree):
    """Two entries that stand in each other's place, with or without their hashes, are one finding."""
    entries = chained(8)
    nodes = tree_of(entries) if with_tree else None
    one, two = sorted(data.draw(st.sets(st.integers(0, 7), min_size=2, max_size=2)))
    first, second = entries[one], entries[two]
    if data.draw(st.booleans()):
        entries[one], entries[two] = replace(second, sequence=one + 1), replace(first, sequence=two + 1)
    else:
        entries[one], entries[two] = replace(first, event=second.event), replace(second, event=first.event)
    assert found(entries, nodes) == [("entries swapped", one + 1)]


def test_a_chain_written_anew_contradicts_its_tree():
    """A chain that is whole in itself is found by the leaf of the first entry that is another one."""
    entries = chained(8)
    forged = entries[:4]
    for entry in entries[4:]:
        forged.append(next_entry(forged[-1], replace(entry.event, actor="somebody else")))
    assert found(forged) == []
    assert found(forged, tree_of(entries)) == [("chain rewritten", 5)]


def test_an_entry_replaced_alone_breaks_the_chain():
    """An entry with a fitting hash of its own is not the one that the next entry continues."""
    entries = chained(5)
    entries[2] = next_entry(entries[1], replace(entries[2].event, actor="somebody else"))
    assert found(entries) == [("chain rewritten", 4)]


@pytest.mark.parametrize(("key", "kind"), [((4, 2), "tree changed"), ((3, 0), "chain rewritten")])
def test_a_changed_node_is_found(key, kind):
    """A node of the tree that does not follow from the entries is named, or the entry whose leaf it is."""
    entries = chained(6)
    nodes = [node._replace(hash=bytes(32)) if node[:2] == key else node for node in tree_of(entries)]
    assert found(entries, nodes) == [(kind, key[0])]


def test_a_lost_node_is_found():
    """A node that is gone is named."""
    entries = chained(6)
    assert found(entries, [node for node in tree_of(entries) if node[:2] != (5, 0)]) == [("tree changed", 5)]
