"""Sign checkpoints of the ledger, keep them as anchors outside the database, and prove what they confirm."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from mendel.durable.checkpoints import Anchor, Checkpoint, FormerAnchor, read_anchor, read_checkpoint, sign_checkpoint
from mendel.durable.clock import NewId
from mendel.durable.events import Event, LedgerEntry, SealedEntry
from mendel.durable.ledger_keys import (
    KEY_EVENTS,
    LedgerKey,
    named_keys,
    pin_data,
    rotation_data,
    trusted_keys,
)
from mendel.durable.merkle import (
    EMPTY_ROOT,
    Span,
    consistency_spans,
    cover,
    folded,
    hashes_of,
    inclusion_spans,
    leaf_hash,
    root_by_inclusion,
)
from mendel.durable.ports import (
    Anchors,
    Checkpoints,
    Ledger,
    LedgerHead,
    SigningKeys,
    StoredAnchor,
    Transaction,
    UnitOfWork,
)
from mendel.durable.receipts import ConsistencyProof, Receipt, receipt_document
from mendel.durable.signatures import key_id, public_key_of
from mendel.errors import Corrupt, InvalidInput, LedgerBroken, NotFound

DECISIONS = ("model.promoted", "model.rollback")
"""The types of events that are followed by a checkpoint at once."""
ACTOR = "ledger"


class Notary:
    """
    Signs checkpoints of the ledger and keeps them in every store of anchors.

    A checkpoint is recorded in the database before it is stored, so that a kill between the two loses nothing. Before
    the first signature, the newest anchor of each store is compared with the ledger; if they contradict each other,
    nothing is signed.

    Args:
        stores: The stores of anchors; the first is the installation's own, the others are copies elsewhere.
    """

    def __init__(self, unit: UnitOfWork, keys: SigningKeys, stores: Sequence[Anchors], new_id: NewId) -> None:
        self.stores = tuple(stores)
        self._unit = unit
        self._keys = keys
        self._new_id = new_id
        self._compared = False
        self._seen = 0

    def checkpoint(self, now: datetime) -> Checkpoint | None:
        """
        Sign the ledger as it is now and store the checkpoint; None if the ledger is empty.

        If nothing was appended since the newest checkpoint, that one is returned.

        Raises:
            StoreUnavailable: A store of anchors refuses; the checkpoint is recorded and stored later.
            LedgerBroken: An anchor or the signing key contradicts the ledger.
        """
        signed = self.sign(now)
        self.store()
        return signed

    def follow(self, now: datetime) -> None:
        """
        Sign a checkpoint if none covers the newest promotion or rollback, and store what waits.

        Raises:
            StoreUnavailable, LedgerBroken: As in :meth:`checkpoint`.
        """
        if self._unit.read(self._has_decision):
            self.sign(now)
        self.store()

    def _has_decision(self, tx: Transaction) -> bool:
        """Whether a promotion or rollback follows the newest checkpoint; looks at each entry once."""
        newest = tx.store(Checkpoints).newest()
        self._seen = max(self._seen, 0 if newest is None else newest.checkpoint.size)
        while entries := tx.store(Ledger).entries(after=self._seen):
            if any(entry.event.type in DECISIONS for entry in entries):
                return True
            self._seen = entries[-1].sequence
        return False

    def sign(self, now: datetime) -> Checkpoint | None:
        """
        Sign the ledger as it is now and record the checkpoint; None if the ledger is empty.

        Raises:
            LedgerBroken: An anchor or the signing key contradicts the ledger.
        """
        head, newest, keys = self._unit.read(lambda tx: (_head(tx), tx.store(Checkpoints).newest(), _key_entries(tx)))
        if head.sequence == 0:
            return None
        if newest is not None and newest.checkpoint.size == head.sequence:
            return newest.checkpoint
        if not self._compared:
            self.compare()
            self._compared = True
        private_key = self._signing_key(keys, now)
        if not keys:
            head = self._unit.read(_head)  # which now has the entry that names the key
        signed = sign_checkpoint(
            head.origin,
            head.sequence,
            folded(head.peaks),
            at=now,
            private_key=private_key,
            key=key_id(head.origin, public_key_of(private_key)),
        )
        return self._unit.write(lambda tx: tx.store(Checkpoints).add(signed))

    def store(self) -> None:
        """
        Store the recorded checkpoints that wait as anchors.

        Raises:
            StoreUnavailable: A store of anchors refuses.
        """
        for row in self._unit.read(lambda tx: tx.store(Checkpoints).waiting()):
            anchor = StoredAnchor(name=row.checkpoint.name, content=row.checkpoint.note.encode())
            for store in self.stores:
                store.put(anchor)
            self._unit.write(_marking(row.checkpoint.size))

    def compare(self) -> None:
        """
        Compare the newest anchor of each store with the ledger.

        Raises:
            LedgerBroken: The ledger ends before the anchor, or has other entries: an older backup was restored, or
                entries were cut off or written anew.
        """
        trusted = self.trusted()
        for store in self.stores:
            found = store.newest()
            anchor = None if found is None else _readable(found)
            if anchor is None or anchor.signature_fault(trusted) is not None:
                continue  # says nothing; verification names it
            if not self._unit.read(partial(_agrees, anchor=anchor)):
                raise LedgerBroken(
                    f"The anchor {anchor.name} in {store.where} confirms {anchor.size} entries that this ledger does "
                    "not have: an older backup was restored, or entries were cut off or written anew.",
                    sequence=anchor.size,
                    remedy="Restore the newest database; or keep this one: move the anchors that 'mendel ledger "
                    "verify' names to another directory, and say elsewhere which entries were lost.",
                )

    def trusted(self) -> dict[str, bytes]:
        """Give the public keys, by id, whose signatures count in this installation."""
        head, entries = self._unit.read(lambda tx: (_head(tx), _key_entries(tx)))
        return trusted_keys(head.origin, self.public_key(), entries)

    def named_keys(self) -> tuple[LedgerKey, ...]:
        """Give the keys that the ledger names, oldest first."""
        head, entries = self._unit.read(lambda tx: (_head(tx), _key_entries(tx)))
        return named_keys(head.origin, self.public_key(), entries)

    def public_key(self) -> bytes | None:
        """Give the public key of this installation's private key; None before the first checkpoint."""
        private_key = self._keys.current()
        return None if private_key is None else public_key_of(private_key)

    def rotate_key(self, now: datetime, *, by: str, lost: bool = False) -> LedgerKey:
        """
        Sign with a new key from now on; the ledger keeps the former public key, so that its anchors still verify.

        A call that was killed is finished by the next signature or rotation.

        Args:
            by: The principal.
            lost: Whether the former private key is lost, and cannot sign for the new one.

        Raises:
            LedgerBroken: The private key is not the one that the ledger names, and *lost* is False.
        """
        former = None if lost else self._signing_key(self._unit.read(_key_entries), now)
        new = self._keys.prepare_next()

        def rotate(tx: Transaction) -> None:
            named = _key_entries(tx)[-1].event.data["public_key"]
            if named != public_key_of(new).hex():
                data = rotation_data(_head(tx).origin, former, new, bytes.fromhex(named))
                tx.append(self._event("ledger.key_rotated", now, by, data))

        self._unit.write(rotate)
        self._keys.adopt_next()
        self.checkpoint(now)
        return self.named_keys()[-1]

    def receipt(self, sequence: int) -> Receipt:
        """
        Prove that the ledger contains the entry number *sequence*, by the oldest checkpoint that covers the entry.

        Raises:
            NotFound: The ledger has no such entry, or no checkpoint covers the entry yet.
            LedgerBroken: The entry, the tree and the checkpoint do not fit together.
        """
        covering, sealed = self._unit.read(
            lambda tx: (tx.store(Checkpoints).covering(sequence), tx.store(Ledger).sealed(after=sequence - 1, limit=1))
        )
        if not sealed or sealed[0].sequence != sequence:
            raise NotFound(f"The ledger has no entry {sequence}.", remedy="List the entries with: mendel ledger show")
        if covering is None:
            raise NotFound(
                f"No checkpoint covers entry {sequence} yet.", remedy="Sign a checkpoint with: mendel ledger checkpoint"
            )
        checkpoint = covering.checkpoint
        spans = inclusion_spans(sequence - 1, checkpoint.size)
        hashes = self._unit.read(lambda tx: hashes_of(spans, _nodes(tx, spans)))
        _require_proof(sealed[0], checkpoint, hashes)
        proof = tuple(base64.b64encode(each).decode() for each in hashes)
        return Receipt(
            sequence=sequence,
            entry=sealed[0].text.decode(),
            proof=proof,
            checkpoint=checkpoint.note,
            public_key=self._pem(checkpoint),
            document=receipt_document(sequence, sealed[0].text, proof, checkpoint.note),
        )

    def consistency(self, old_size: int) -> ConsistencyProof:
        """
        Prove that the ledger, as the newest checkpoint has it, still begins with its first *old_size* entries.

        Raises:
            InvalidInput: The newest checkpoint covers fewer entries.
        """
        newest = self._unit.read(lambda tx: tx.store(Checkpoints).newest())
        if newest is None or not 0 < old_size <= newest.checkpoint.size:
            size = 0 if newest is None else newest.checkpoint.size
            raise InvalidInput(f"The newest checkpoint covers {size} entries; it cannot continue {old_size} entries.")
        checkpoint = newest.checkpoint
        spans = consistency_spans(old_size, checkpoint.size)
        hashes = self._unit.read(lambda tx: hashes_of(spans, _nodes(tx, spans)))
        proof = tuple(base64.b64encode(each).decode() for each in hashes)
        return ConsistencyProof(old_size=old_size, checkpoint=checkpoint.note, proof=proof)

    def _pem(self, checkpoint: Checkpoint) -> str:
        """Give the key that signed *checkpoint*, as the ledger names it."""
        return next((key.pem for key in self.named_keys() if key.id == checkpoint.key_id), "")

    def _signing_key(self, entries: Sequence[LedgerEntry], now: datetime) -> bytes:
        """Give the private key that the newest of *entries* names; without entries, name it in the ledger."""
        if not entries:
            private_key = self._keys.create()
            return self._unit.write(lambda tx: self._pinned(tx, private_key, now))
        named = entries[-1].event.data["public_key"]
        prepared = self._keys.next()
        if prepared is not None and public_key_of(prepared).hex() == named:
            self._keys.adopt_next()  # a rotation was killed after the ledger had named the new key
        found = self._keys.current()
        if found is None or public_key_of(found).hex() != named:
            raise LedgerBroken(
                f"The private key of this installation is not the key {entries[-1].event.data['key_id']} that the "
                "ledger names, so no checkpoint can be signed.",
                sequence=entries[-1].sequence,
                remedy="Restore the file ledger.key; if it is lost, run: mendel ledger rotate-key --lost",
            )
        return found

    def _pinned(self, tx: Transaction, private_key: bytes, now: datetime) -> bytes:
        if not _key_entries(tx):
            tx.append(self._event("ledger.key_pinned", now, ACTOR, pin_data(_head(tx).origin, private_key)))
        return private_key

    def _event(self, kind: str, now: datetime, by: str, data: dict[str, Any]) -> Event:
        return Event(id=self._new_id(), type=kind, subject="ledger", time=now, actor=by, data=data)


def _head(tx: Transaction) -> LedgerHead:
    return tx.store(Ledger).recorded_head()


def _marking(size: int) -> Callable[[Transaction], None]:
    return lambda tx: tx.store(Checkpoints).mark_stored(size)


def _key_entries(tx: Transaction) -> tuple[LedgerEntry, ...]:
    return tx.store(Ledger).entries(types=KEY_EVENTS)


def _readable(found: StoredAnchor) -> Anchor | None:
    try:
        return read_anchor(found.name, found.content)
    except Corrupt:
        return None


def _agrees(tx: Transaction, anchor: Anchor) -> bool:
    """Whether the ledger still has the entries that *anchor* confirms."""
    ledger = tx.store(Ledger)
    if isinstance(anchor, FormerAnchor):
        found = ledger.sealed(after=anchor.size - 1, limit=1)
        return bool(found) and found[0].sequence == anchor.size and found[0].hash == anchor.hash
    if anchor.size > _head(tx).sequence or anchor.origin != _head(tx).origin:
        return False
    spans = ((0, anchor.size),)
    (root,) = hashes_of(spans, _nodes(tx, spans)) if anchor.size else (EMPTY_ROOT,)
    return anchor.confirms(None, root) is True


def _nodes(tx: Transaction, spans: Iterable[Span]) -> Callable[[tuple[int, int]], bytes]:
    """Read the nodes that the roots of *spans* need, in one query."""
    found = tx.store(Ledger).nodes([key for span in spans for key in cover(span)])

    def node(key: tuple[int, int]) -> bytes:
        if key not in found:
            raise LedgerBroken(
                f"The tree of the ledger has no node of size {key[0]} and level {key[1]}.",
                sequence=key[0],
                remedy="Find what was changed with: mendel ledger verify",
            )
        return found[key]

    return node


def _require_proof(entry: SealedEntry, checkpoint: Checkpoint, hashes: Sequence[bytes]) -> None:
    leaf = leaf_hash(bytes.fromhex(entry.hash))
    root = root_by_inclusion(leaf, entry.sequence - 1, checkpoint.size, hashes)
    if root is None or read_checkpoint(checkpoint.note).confirms(None, root) is not True:
        raise LedgerBroken(
            f"The checkpoint of {checkpoint.size} entries does not cover entry {entry.sequence} as it is now.",
            sequence=entry.sequence,
            remedy="Find what was changed with: mendel ledger verify",
        )
