"""Checkpoints, receipts and keys: what was signed can be proven later, and what contradicts it is noticed."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.durable import (
    Checkpoints,
    Ledger,
    LedgerVerification,
    Notary,
    StoredAnchor,
    VerifiedRange,
    keys_by_id,
    read_checkpoint,
    sealed,
)
from mendel.durable.checkpoints import sign_checkpoint
from mendel.durable.ledger_checks import require_proof, require_sound
from mendel.durable.ledger_keys import pin_data, rotation_data
from mendel.durable.merkle import (
    cover,
    folded,
    hashes_of,
    inclusion_spans,
    is_consistent,
    leaf_hash,
    root_by_inclusion,
)
from mendel.durable.signatures import from_pem, key_id, public_key_of
from mendel.errors import Corrupt, InvalidInput, LedgerBroken, NotFound, StoreUnavailable
from mendel.values import EPOCH
from support.ledgers import event

HOUR = timedelta(hours=1)


class Refusing(MemoryAnchors):
    """Anchors that refuse writes while ``refuses`` is true."""

    refuses = True

    def put(self, anchor):
        if self.refuses:
            raise StoreUnavailable("The disk is full.")
        super().put(anchor)


class House:
    """A ledger with its notary; opened again, it is what a restarted process finds."""

    def __init__(self, anchors=None):
        self.unit, self.keys = MemoryUnitOfWork({}), MemorySigningKeys()
        self.anchors = anchors or MemoryAnchors()
        self.numbers = iter(range(1, 1000))
        self.open()

    def open(self):
        self.notary = Notary(self.unit, self.keys, [self.anchors], lambda: f"key-{next(self.numbers)}")

    def happen(self, times=1, **changes):
        for _ in range(times):
            one = event(next(self.numbers), **changes)
            self.unit.write(lambda tx, one=one: tx.append(one))

    def verified(self):
        return LedgerVerification(self.unit, self.notary).piece(VerifiedRange(), limit=10_000)

    def found(self):
        return [(str(finding.kind), finding.sequence) for finding in self.verified().findings]


@pytest.fixture
def house():
    return House()


class TestCheckpoints:
    def test_an_empty_ledger_is_not_signed(self, house):
        """There is nothing to sign before the first entry."""
        assert house.notary.checkpoint(EPOCH) is None
        assert house.anchors.all() == ()

    def test_a_ledger_is_signed_once(self, house):
        """The first checkpoint names the key in the ledger; one that stands still is not signed again."""
        house.happen(3)
        first = house.notary.checkpoint(EPOCH)
        assert first.size == 4
        assert house.notary.checkpoint(EPOCH + HOUR) == first
        house.happen()
        second = house.notary.checkpoint(EPOCH + HOUR)
        assert [one.name for one in house.anchors.all()] == [first.name, second.name]
        assert (house.found(), house.verified().reached.agreed) == ([], 5)

    def test_a_note_is_read_as_it_was_signed(self, house):
        """The note has the form of a signed note, and any change of it breaks the signature or the form."""
        house.happen()
        note = house.notary.checkpoint(EPOCH).note
        assert note.split("\n")[:2] == ["mendel/memory", "2"]
        trusted = house.notary.trusted()
        assert read_checkpoint(note).signature_fault(trusted) is None
        for old, new in (("\n2\n", "\n3\n"), ("memory\n", "other\n"), ("1970", "1971"), ("\n\n", "\nx\n\n")):
            with pytest.raises((Corrupt, AssertionError)):
                assert read_checkpoint(note.replace(old, new, 1)).signature_fault(trusted) is None
        assert "unknown key" in read_checkpoint(note).signature_fault({})

    def test_a_clock_that_jumps_back_delays_nothing(self, house):
        """What was appended is signed whatever the clock says."""
        house.happen()
        house.notary.checkpoint(EPOCH + 1000 * HOUR)
        house.happen()
        assert house.notary.checkpoint(EPOCH).size == 3
        assert house.found() == []

    @pytest.mark.parametrize(("kind", "signed"), [("model.promoted", 2), ("model.rollback", 2), ("a", 0)])
    def test_decisions_are_followed_by_a_checkpoint(self, house, kind, signed):
        """A promotion or rollback that no checkpoint covers gets one, as after a kill between the two; others wait."""
        house.happen(type=kind)
        house.notary.follow(EPOCH)
        newest = house.unit.read(lambda tx: tx.store(Checkpoints).newest())
        assert (0 if newest is None else newest.checkpoint.size) == signed
        house.notary.follow(EPOCH)
        assert house.unit.read(lambda tx: tx.store(Ledger).head()).sequence == max(signed, 1)


class TestRefusedAnchors:
    def test_a_checkpoint_that_cannot_be_stored_waits(self):
        """While the store of anchors refuses, checkpoints are signed and recorded; later all of them are stored."""
        house = House(Refusing())
        house.happen()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                house.notary.checkpoint(EPOCH)
            house.happen()
        assert (house.anchors.all(), house.found()) == ((), [])
        house.anchors.refuses = False
        house.open()
        house.notary.follow(EPOCH)
        assert [int(one.name[:12]) for one in house.anchors.all()] == [2, 3]
        assert house.found() == []


class TestReceipts:
    @pytest.mark.parametrize("sequence", range(1, 8))
    def test_a_receipt_leads_from_the_entry_to_the_signed_root(self, house, sequence):
        """Entry, proof, root and signature fit together, with nothing but the receipt at hand."""
        house.happen(6)
        house.notary.checkpoint(EPOCH)
        receipt = house.notary.receipt(sequence)
        signed = read_checkpoint(receipt.checkpoint)
        key = keys_by_id(signed.origin, (from_pem(receipt.public_key),))
        assert signed.signature_fault(key) is None
        leaf = leaf_hash(hashlib.sha256(receipt.entry.encode()).digest())
        proof = [base64.b64decode(one) for one in receipt.proof]
        root = root_by_inclusion(leaf, sequence - 1, signed.size, proof)
        assert base64.b64encode(root).decode() == signed.root
        lines = receipt.document.split("\n")
        assert lines[:1] == ["c2sp.org/tlog-proof@v1"]
        assert base64.b64decode(lines[1].removeprefix("extra ")).decode() == receipt.entry
        assert lines[2] == f"index {sequence - 1}"

    def test_what_no_checkpoint_covers_has_no_receipt(self, house):
        """An entry behind the newest checkpoint, and one that does not exist, say what to do."""
        house.happen()
        with pytest.raises(NotFound) as caught:
            house.notary.receipt(1)
        assert "mendel ledger checkpoint" in caught.value.remedy
        with pytest.raises(NotFound, match="no entry 9"):
            house.notary.receipt(9)

    def test_two_checkpoints_are_consistent(self, house):
        """The proof shows that the newer checkpoint continues the older one; a longer ledger is refused."""
        house.happen(4)
        old = house.notary.checkpoint(EPOCH)
        house.happen(9)
        new = house.notary.checkpoint(EPOCH)
        told = house.notary.consistency(old.size)
        roots = [(one.size, base64.b64decode(one.root)) for one in (old, new)]
        assert is_consistent(*roots, [base64.b64decode(one) for one in told.proof])
        with pytest.raises(InvalidInput, match="covers 14 entries"):
            house.notary.consistency(15)


class TestRestoredBackups:
    def restored(self, house):
        """The house with the ledger of an older backup beside today's anchors and keys."""
        backup = House(house.anchors)
        backup.keys = house.keys
        backup.open()
        return backup

    @pytest.mark.parametrize("grown", [1, 20])
    def test_an_older_ledger_is_not_signed(self, house, grown):
        """A ledger that ends before the newest anchor, or went on differently, is refused before anything is signed."""
        house.happen(5)
        house.notary.checkpoint(EPOCH)
        backup = self.restored(house)
        backup.happen(grown, actor="somebody else")
        with pytest.raises(LedgerBroken, match="older backup was restored"):
            backup.notary.checkpoint(EPOCH)
        assert len(house.anchors.all()) == 1
        kinds = {kind for kind, _ in backup.found()}
        assert kinds == ({"tail cut"} if grown == 1 else {"anchor contradicted"})


class TestForgeries:
    """Who can write the database, but has no key, gets no signature and no receipt for what was changed."""

    def test_a_forged_head_is_not_signed(self, house):
        """A tree in the head row that is not that of the entries is refused, and nothing is recorded."""
        house.happen(5)
        head = house.unit.read(lambda tx: tx.store(Ledger).recorded_head())
        with pytest.raises(LedgerBroken, match="head row"):
            house.unit.read(lambda tx: require_sound(tx, replace(head, peaks=tuple(reversed(head.peaks))), since=None))

    def test_a_changed_entry_has_no_receipt(self, house):
        """The entry has to have the hash that the tree confirms."""
        house.happen(5)
        signed = house.notary.checkpoint(EPOCH)
        (entry,) = house.unit.read(lambda tx: tx.store(Ledger).sealed(after=1, limit=1))
        spans = inclusion_spans(1, signed.size)
        nodes = house.unit.read(lambda tx: tx.store(Ledger).nodes([key for span in spans for key in cover(span)]))
        hashes = hashes_of(spans, nodes.__getitem__)
        require_proof(entry, signed, hashes)
        with pytest.raises(LedgerBroken, match="does not cover entry 2"):
            require_proof(entry._replace(event=b"{}"), signed, hashes)

    def test_a_strangers_checkpoint_is_not_taken_for_ours(self, house):
        """A recorded checkpoint that another key signed is neither returned, stored nor used for a receipt."""
        house.happen(5)
        house.notary.checkpoint(EPOCH)
        house.happen()
        head = house.unit.read(lambda tx: tx.store(Ledger).recorded_head())
        key = MemorySigningKeys().create()
        name = key_id(head.origin, public_key_of(key))
        forged = sign_checkpoint(head.origin, head.sequence, folded(head.peaks), at=EPOCH, private_key=key, key=name)
        house.unit.write(lambda tx: tx.store(Checkpoints).add(forged))
        for use in (lambda: house.notary.sign(EPOCH), house.notary.store, lambda: house.notary.receipt(head.sequence)):
            with pytest.raises(LedgerBroken, match="unknown key"):
                use()
        assert len(house.anchors.all()) == 1
        assert ("anchor of an unknown key", head.sequence) in house.found()

    def test_a_former_key_signs_nothing_new(self, house):
        """A checkpoint by a key that was replaced before is not trusted, those from its time are."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        former = house.keys.current()
        house.notary.rotate_key(EPOCH, by="ann")
        house.happen()
        head = house.unit.read(lambda tx: tx.store(Ledger).recorded_head())
        name = key_id(head.origin, public_key_of(former))
        late = sign_checkpoint(head.origin, head.sequence, folded(head.peaks), at=EPOCH, private_key=former, key=name)
        assert "then another key signed" in late.signature_fault(house.notary.trusted())
        assert house.found() == []

    def test_a_second_pin_names_no_key(self, house):
        """An entry that pins another key has no effect, and verification names the entry."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        ours = house.notary.named_keys()
        stranger = MemorySigningKeys().create()
        origin = house.unit.read(lambda tx: tx.store(Ledger).recorded_head()).origin
        house.happen(type="ledger.key_pinned", data=pin_data(origin, stranger))
        assert house.notary.named_keys() == ours
        assert house.found() == [("signing key changed", 3)]

    def test_a_key_that_is_here_cannot_be_lost(self, house):
        """While the private key is here, it has to sign for the next one; an event that says otherwise is refused."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        with pytest.raises(InvalidInput, match="is not lost"):
            house.notary.rotate_key(EPOCH, by="eve", lost=True)
        origin = house.unit.read(lambda tx: tx.store(Ledger).recorded_head()).origin
        stranger = MemorySigningKeys().create()
        data = rotation_data(origin, None, stranger, house.notary.public_key())
        house.happen(type="ledger.key_rotated", data=data)
        house.open()
        with pytest.raises(LedgerBroken, match="as if it were lost"):
            house.notary.checkpoint(EPOCH)

    def test_deleted_checkpoints_are_missed(self, house):
        """With no checkpoint in any place, a ledger that names a key does not hold."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        emptied = House()
        emptied.unit, emptied.keys = house.unit, house.keys
        house.unit.write(lambda tx: tx.store(Checkpoints)._rows.clear())
        emptied.open()
        assert emptied.found() == [("anchor missing", 2)]

    def test_an_old_backup_at_a_checkpoint_is_noticed(self, house):
        """A backup that ends where a checkpoint was signed is compared with the newest anchor too."""
        house.happen(3)
        house.notary.checkpoint(EPOCH)
        backup = House()
        backup.keys = house.keys
        backup.open()
        backup.happen(3)
        backup.notary.checkpoint(EPOCH)
        house.happen(3)
        house.notary.checkpoint(EPOCH)
        backup.anchors = house.anchors
        backup.open()
        with pytest.raises(LedgerBroken, match="older backup"):
            backup.notary.checkpoint(EPOCH)

    def test_an_unreadable_newest_anchor_stops_signing(self, house):
        """Nothing is signed while the newest anchor says nothing."""
        house.happen(3)
        house.notary.checkpoint(EPOCH)
        house.anchors.put(StoredAnchor(name="999999999999.checkpoint", content=b"x"))
        house.happen()
        house.open()
        with pytest.raises(LedgerBroken, match="cannot be read"):
            house.notary.checkpoint(EPOCH)

    def test_a_copy_that_is_added_later_gets_the_former_checkpoints(self, house):
        """A store without anchors gets those that were signed before."""
        house.happen(3)
        house.notary.checkpoint(EPOCH)
        house.happen()
        second = MemoryAnchors()
        notary = Notary(house.unit, house.keys, [house.anchors, second], lambda: f"key-{next(house.numbers)}")
        notary.checkpoint(EPOCH)
        assert second.all() == house.anchors.all()

    def test_one_refusing_store_holds_no_other_back(self, house):
        """The other stores get every checkpoint."""
        refusing, last = Refusing(), MemoryAnchors()
        notary = Notary(house.unit, house.keys, [house.anchors, refusing, last], lambda: f"key-{next(house.numbers)}")
        for _ in range(2):
            house.happen()
            with pytest.raises(StoreUnavailable):
                notary.checkpoint(EPOCH)
        assert len(last.all()) == len(house.anchors.all()) == 2


class TestKeys:
    def test_a_new_key_vouches_for_the_former_one(self, house):
        """After a rotation new checkpoints have the new key, and those of the former keys still verify."""
        house.happen()
        first = house.notary.checkpoint(EPOCH)
        house.notary.rotate_key(EPOCH, by="ann")
        newest = house.notary.rotate_key(EPOCH, by="ann")
        assert [(key.signs, key.trusted) for key in house.notary.named_keys()] == [
            (False, True),
            (False, True),
            (True, True),
        ]
        latest = house.unit.read(lambda tx: tx.store(Checkpoints).newest()).checkpoint
        assert (latest.key_id, first.key_id != newest.id) == (newest.id, True)
        assert (house.found(), house.verified().anchors) == ([], 3)

    def test_a_killed_rotation_is_finished(self, house, monkeypatch):
        """Killed after the ledger named the new key, or before, the next signature uses the key that it names."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        monkeypatch.setattr(house.keys, "adopt_next", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            house.notary.rotate_key(EPOCH, by="ann")
        monkeypatch.undo()
        house.open()
        named = house.notary.named_keys()[-1]
        assert house.notary.checkpoint(EPOCH).key_id == named.id
        assert house.found() == []

    def test_a_strangers_key_signs_nothing(self, house):
        """With another private key in place nothing is signed, and verification names the key and its anchors."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        house.happen()
        house.keys = MemorySigningKeys()
        house.keys.create()
        house.open()
        with pytest.raises(LedgerBroken, match="not the key") as caught:
            house.notary.checkpoint(EPOCH)
        assert "rotate-key --lost" in caught.value.remedy
        assert house.found() == [("anchor of an unknown key", 2), ("signing key changed", 2)]

    def test_a_lost_key_is_replaced(self, house):
        """The new key vouches for the lost one, so that its anchors verify."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        house.keys = MemorySigningKeys()
        house.open()
        house.notary.rotate_key(EPOCH, by="ann", lost=True)
        assert house.found() == []
        rotated = house.unit.read(lambda tx: tx.store(Ledger).entries(types=["ledger.key_rotated"]))
        assert [entry.event.data["former_signature"] for entry in rotated] == [None]

    def test_a_rotation_that_nobody_signed_vouches_for_nothing(self, house):
        """An event that names a key without that key's signature makes no key trusted."""
        house.happen()
        house.notary.checkpoint(EPOCH)
        rotated = house.notary.rotate_key(EPOCH, by="ann")
        (entry,) = house.unit.read(lambda tx: tx.store(Ledger).entries(types=["ledger.key_rotated"]))
        forged = replace(entry.event, id="f", data={**entry.event.data, "former_public_key": "00" * 32})
        house.unit.write(lambda tx: tx.append(forged))
        assert set(house.notary.trusted()) == {key.id for key in house.notary.named_keys()[:2]}
        assert rotated.id in house.notary.trusted()


def test_pieces_join(house):
    """Verified in pieces of any size, the ledger gives the result of one piece."""
    house.happen(9)
    house.notary.checkpoint(EPOCH)
    house.happen(3)
    for limit in (1, 2, 5, 13):
        verification, reached, complete, anchors = LedgerVerification(house.unit, house.notary), VerifiedRange(), 0, 0
        while not complete:
            piece = verification.piece(reached, limit=limit)
            assert piece.findings == ()
            reached, complete, anchors = piece.reached, piece.complete, anchors + piece.anchors
        assert (reached, anchors) == (house.verified().reached, anchors)


def test_what_is_sealed_is_what_is_chained(house):
    """The stored text of an entry is the text that its hash covers."""
    house.happen()
    (entry,) = house.unit.read(lambda tx: tx.store(Ledger).entries())
    (stored,) = house.unit.read(lambda tx: tx.store(Ledger).sealed(after=0, limit=9))
    assert stored == sealed(entry)
    assert hashlib.sha256(stored.text).hexdigest() == entry.hash
