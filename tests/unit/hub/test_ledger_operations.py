"""Operations on the ledger: promotions come with receipts, and who may sign, prove and rotate."""

from __future__ import annotations

import json

import pytest

from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.durable import Event, Notary
from mendel.errors import Forbidden, NotFound, StoreUnavailable
from mendel.values import EPOCH


@pytest.fixture
def ready(parts, registered):
    """Registers a version that may be promoted."""

    def make():
        ref = registered("credit")
        parts.registry.lifecycle.approve(ref, policy=True, bias=True, by="test")
        parts.registry.lifecycle.transition(ref, "sandbox", by="test", without_parity="a test")
        return ref

    return make


def of_type(receipt):
    """The type of the event in *receipt*, and its data."""
    told = json.loads(receipt.entry.split("\n")[2])
    return told["type"], told["data"]


def test_promotions_and_rollbacks_come_with_their_receipts(hub, ready):
    """The receipt is that of the very event, the checkpoint is stored, and the receipt can be fetched again."""
    client = hub.client()
    one, two = ready(), ready()
    client.promote(one)
    promoted = client.promote(two)
    kind, data = of_type(promoted.receipt)
    assert (kind, data["to_version"], data["generation"]) == ("model.promoted", 2, promoted.generation)
    returned = client.rollback("credit", reason="worse")
    kind, data = of_type(returned.receipt)
    assert (kind, data["to_version"], data["generation"]) == ("model.rollback", 1, returned.deployment.generation)
    assert client.receipt(returned.receipt.sequence) == returned.receipt
    assert client.receipt(client.history("credit")[-1].start_event) == returned.receipt
    proof = client.verify_ledger()
    assert (proof.holds, proof.anchored, proof.anchors) == (True, proof.last, 3)


class Refusing(MemoryAnchors):
    def put(self, anchor):
        raise StoreUnavailable(f"No room for {anchor.name}.")


def test_a_refused_anchor_does_not_refuse_the_promotion(hub, parts, ready):
    """A store of anchors that refuses delays the anchor, not the change; the receipt holds already."""
    notary = Notary(parts.unit, MemorySigningKeys(), [Refusing()], lambda: "key")
    client = hub.client(notary=notary)
    promoted = client.promote(ready())
    assert (promoted.production, of_type(promoted.receipt)[0], promoted.no_receipt) == (1, "model.promoted", "")
    with pytest.raises(StoreUnavailable, match="No room"):
        notary.store()


def test_a_ledger_that_cannot_be_signed_says_so(hub, parts, ready):
    """The promotion holds, and the result says why it has no receipt."""
    client = hub.client()
    client.promote(ready())
    stranger = MemorySigningKeys()
    stranger.create()
    promoted = hub.client(notary=Notary(parts.unit, stranger, [MemoryAnchors()], lambda: "key")).promote(ready())
    assert (promoted.production, promoted.receipt) == (2, None)
    assert "not the key" in promoted.no_receipt


def test_who_may(hub, ready):
    """Reading gives verification, receipts, keys and proofs; signing needs deploy, and a new key admin."""
    admin, reader = hub.client(), hub.client("read")
    admin.promote(ready())
    size = reader.verify_ledger().last
    assert reader.receipt(1).sequence == 1
    assert [key.signs for key in reader.ledger_keys()] == [True]
    assert reader.consistency(1).old_size == 1
    for forbidden in (reader.checkpoint, reader.rotate_ledger_key, hub.client("deploy").rotate_ledger_key):
        with pytest.raises(Forbidden):
            forbidden()
    assert hub.client("deploy").checkpoint().size > size
    rotated = admin.rotate_ledger_key()
    assert [key.id for key in reader.ledger_keys() if key.signs] == [rotated.id]
    assert admin.verify_ledger().holds


def test_hashes_of_keys_are_in_no_receipt_for_readers(hub, parts):
    """The entries of a former Mendel that contain the hash of a key are proven to administrators only."""
    old = Event(id="o", type="key.added", subject="key", time=EPOCH, actor="cli", data={"digest": "0" * 64})
    parts.unit.write(lambda tx: tx.append(old))
    admin = hub.client()
    admin.checkpoint()
    assert of_type(admin.receipt("o"))[1] == {"digest": "0" * 64}
    with pytest.raises(Forbidden, match="hash of an API key"):
        hub.client("read").receipt("o")


@pytest.mark.parametrize("entry", ["0", "99", "9" * 40, "nobody", "²"])
def test_unknown_entries_have_no_receipt(hub, entry):
    """What the ledger does not have is not found, however it is written."""
    client = hub.client()
    client.checkpoint()
    with pytest.raises(NotFound, match="has no entry"):
        client.receipt(entry)


@pytest.mark.parametrize("cursor", ["x", "e30=", "eyJsYXN0IjogLTF9", "eyJsYXN0IjogMywgInBlYWtzIjogWyIwMCJdfQ=="])
def test_a_cursor_that_nobody_gave_is_refused(hub, cursor):
    """A cursor that is not the field of an answer is a wrong request."""
    assert hub.http().get("/api/v1/ledger/verify", params={"cursor": cursor}).status_code == 400
