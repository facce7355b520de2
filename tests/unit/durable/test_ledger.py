"""The ledger's proof: whatever is changed is found, at the right place."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mendel.durable import GENESIS, Event, check_anchor, next_entry, sign_head, verify_chain
from mendel.errors import LedgerBroken
from mendel.values import EPOCH

KEY = bytes(range(32))


def ledger(length):
    entries = []
    for number in range(1, length + 1):
        event = Event(
            id=f"e{number}",
            type="model.promoted",
            subject="credit@1",
            time=EPOCH + timedelta(seconds=number),
            actor="cli",
            data={"number": number, "nested": {"share": 0.5}},
        )
        entries.append(next_entry(entries[-1] if entries else None, event))
    return entries


def tampered(entry, field):
    """*entry* with one field changed, each to something plausible."""
    event = entry.event
    changes = {
        "id": "e0",
        "type": "model.rolled_back",
        "subject": "credit@2",
        "time": event.time + timedelta(microseconds=1),
        "actor": "healing",
        "data": {**event.data, "nested": {"share": 0.5000001}},
    }
    if field in changes:
        return replace(entry, event=replace(event, **{field: changes[field]}))
    if field == "sequence":
        return replace(entry, sequence=entry.sequence + 1)
    text = getattr(entry, field)
    return replace(entry, **{field: text[:-1] + ("0" if text[-1] != "0" else "1")})


FIELDS = [field.name for field in fields(Event)] + ["sequence", "prev_hash", "hash"]


def test_a_whole_ledger_verifies():
    """An untouched chain verifies from first to last, also read in pieces, and so does an empty one."""
    entries = ledger(7)
    whole = verify_chain(entries)
    assert (whole.first, whole.last, whole.head_hash) == (1, 7, entries[-1].hash)
    assert verify_chain(entries[3:], after=verify_chain(entries[:3])) == whole
    empty = verify_chain([])
    assert (empty.first, empty.last, empty.head_hash) == (1, 0, GENESIS)


@given(length=st.integers(1, 8), data=st.data(), field=st.sampled_from(FIELDS))
def test_tampering_with_any_field_is_found_where_it_was_done(length, data, field):
    """One changed field of one entry breaks the chain at exactly that entry."""
    entries = ledger(length)
    place = data.draw(st.integers(0, length - 1))
    entries[place] = tampered(entries[place], field)
    with pytest.raises(LedgerBroken) as caught:
        verify_chain(entries)
    assert caught.value.sequence == place + 1


@given(length=st.integers(2, 8), data=st.data())
def test_a_missing_or_repeated_entry_is_found(length, data):
    """Removing an entry that others follow, or giving one twice, breaks the chain there."""
    place = data.draw(st.integers(0, length - 2))
    entries = ledger(length)
    with pytest.raises(LedgerBroken) as caught:
        verify_chain(entries[:place] + entries[place + 1 :])
    assert caught.value.sequence == place + 1
    with pytest.raises(LedgerBroken) as caught:
        verify_chain([*entries[: place + 1], *entries[place:]])
    assert caught.value.sequence == place + 2


def test_a_rewritten_tail_is_found_by_the_anchor():
    """A ledger rewritten consistently verifies as a chain, but not against the anchor signed before."""
    entries = ledger(5)
    anchor = sign_head(entries[3], private_key=KEY, at=EPOCH)
    check_anchor(anchor, entries[3], trusted=[anchor.public_key])
    forged = entries[:2]
    for entry in entries[2:]:
        forged.append(next_entry(forged[-1], replace(entry.event, actor="somebody else")))
    verify_chain(forged)
    with pytest.raises(LedgerBroken, match="anchor of this entry has the hash") as caught:
        check_anchor(anchor, forged[3], trusted=[anchor.public_key])
    assert caught.value.sequence == 4


@pytest.mark.parametrize("field", ["sequence", "hash", "at", "signature"])
def test_a_tampered_anchor_does_not_hold(field):
    """Changing anything of an anchor breaks its signature."""
    head = ledger(3)[-1]
    anchor = sign_head(head, private_key=KEY, at=EPOCH)
    changed = {"sequence": 2, "hash": "0" * 64, "at": EPOCH + timedelta(1), "signature": "00" * 64}[field]
    with pytest.raises(LedgerBroken, match="signature"):
        check_anchor(replace(anchor, **{field: changed}), head, trusted=[anchor.public_key])


def test_a_strangers_anchor_is_refused():
    """A valid signature by a key that is not ours proves nothing."""
    head = ledger(3)[-1]
    anchor = sign_head(head, private_key=Ed25519PrivateKey.generate().private_bytes_raw(), at=EPOCH)
    ours = sign_head(head, private_key=KEY, at=EPOCH).public_key
    with pytest.raises(LedgerBroken, match="untrusted key"):
        check_anchor(anchor, head, trusted=[ours])
