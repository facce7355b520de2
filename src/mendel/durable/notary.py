"""Sign checkpoints of the ledger, keep them as anchors outside the database, and prove what they confirm."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from mendel.durable.checkpoints import (
    Anchor,
    Checkpoint,
    TrustedKey,
    read_anchor,
    sign_checkpoint,
)
from mendel.durable.clock import NewId
from mendel.durable.events import Event, LedgerEntry
from mendel.durable.ledger_checks import VERIFY_REMEDY, agrees, require_proof, require_sound, stored_nodes
from mendel.durable.ledger_keys import KEY_EVENTS, KeyChain, LedgerKey, named_keys, pin_data, rotation_data
from mendel.durable.merkle import (
    consistency_spans,
    folded,
    hashes_of,
    inclusion_spans,
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
from mendel.errors import Corrupt, InvalidInput, LedgerBroken, MendelError, NotFound

DECISIONS = ("model.promoted", "model.rollback")
"""The types of events that are followed by a checkpoint at once."""
ACTOR = "ledger"


class Notary:
    """
    Signs checkpoints of the ledger and keeps them in every store of anchors.

    A checkpoint is recorded in the database before it is stored, so that a kill between the two loses nothing.

    Nothing is signed that contradicts what was signed before: with the first signature the newest anchor of each store
    is compared with the ledger, and with every signature the newest checkpoint is, and the entries behind it are
    verified.

    Args:
        stores: The stores of anchors; the first is the installation's own, the others are copies elsewhere.
    """

    def __init__(self, unit: UnitOfWork, keys: SigningKeys, stores: Sequence[Anchors], new_id: NewId) -> None:
        self.stores = tuple(stores)
        self._unit = unit
        self._keys = keys
        self._new_id = new_id
        self._compared = False
        self._signed: Checkpoint | None = None
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
        if (chain := self.keys()).links:
            self._signing_key(chain, now)
        if not self._compared:
            self._backfill()
            self.compare()
            self._compared = True
        head, newest, entries = self._unit.read(self._state)
        if head.sequence == 0:
            return None
        if newest is not None and newest.size == head.sequence:
            return newest
        private_key = self._signing_key(KeyChain.read(head.origin, entries), now)
        if not entries:
            head = self._unit.read(_head)  # which now has the entry that names the key
        self._unit.read(partial(require_sound, head=head, since=newest))
        signed = sign_checkpoint(
            head.origin,
            head.sequence,
            folded(head.peaks),
            at=now,
            private_key=private_key,
            key=key_id(head.origin, public_key_of(private_key)),
        )
        self._signed = self._unit.write(lambda tx: tx.store(Checkpoints).add(signed))
        return self._signed

    def _state(self, tx: Transaction) -> tuple[LedgerHead, Checkpoint | None, tuple[LedgerEntry, ...]]:
        """
        Give the head, the newest checkpoint, and the entries that name keys.

        Raises:
            LedgerBroken: The newest checkpoint was not signed by this installation, or contradicts the ledger.
        """
        head, entries, recorded = _head(tx), _key_entries(tx), tx.store(Checkpoints).newest()
        newest = None if recorded is None else self._own(recorded.checkpoint, head.origin, entries)
        for known in {one.note: one for one in (newest, self._signed) if one is not None}.values():
            if not agrees(tx, known):
                raise LedgerBroken(
                    f"The checkpoint of {known.size} entries contradicts the ledger: entries were cut off or written "
                    "anew.",
                    sequence=known.size,
                    remedy=VERIFY_REMEDY,
                )
        return head, newest, entries

    def _own(self, checkpoint: Checkpoint, origin: str, entries: Sequence[LedgerEntry]) -> Checkpoint:
        """
        Give *checkpoint*, if this installation signed it.

        Raises:
            LedgerBroken: It is of another ledger, or another key signed it.
        """
        keys = KeyChain.read(origin, entries).trusted(origin, self.public_key())
        other = f"is of another ledger than {origin}" if checkpoint.origin != origin else None
        if (fault := other or checkpoint.signature_fault(keys)) is not None:
            raise LedgerBroken(
                f"The recorded checkpoint of {checkpoint.size} entries {fault}.",
                sequence=checkpoint.size,
                remedy=VERIFY_REMEDY,
            )
        return checkpoint

    def _backfill(self) -> None:
        """Give the recorded checkpoints to stores that have none: they were added after these were signed."""
        for store in self.stores[1:]:
            if store.newest() is None:
                for row in self._unit.read(self._recorded):
                    store.put(StoredAnchor(name=row.name, content=row.note.encode()))

    def _recorded(self, tx: Transaction) -> tuple[Checkpoint, ...]:
        origin, entries = _head(tx).origin, _key_entries(tx)
        return tuple(self._own(row.checkpoint, origin, entries) for row in tx.store(Checkpoints).all() if row.stored)

    def store(self) -> None:
        """
        Store the recorded checkpoints that wait as anchors.

        Raises:
            StoreUnavailable: A store of anchors refuses; the others have the checkpoints.
            Conflict: A store has another anchor of this name.
            LedgerBroken: A recorded checkpoint was not signed by this installation; the others are stored.
        """
        waiting, origin, entries = self._unit.read(
            lambda tx: (tx.store(Checkpoints).waiting(), _head(tx).origin, _key_entries(tx))
        )
        faults: list[MendelError] = []
        for row in waiting:
            anchor = StoredAnchor(name=row.checkpoint.name, content=row.checkpoint.note.encode())
            before = len(faults)
            try:
                self._own(row.checkpoint, origin, entries)
            except LedgerBroken as error:
                faults.append(error)
                continue
            for store in self.stores:
                try:
                    store.put(anchor)
                except MendelError as error:
                    faults.append(error)
            if len(faults) == before:
                self._unit.write(_marking(row.checkpoint.size))
        if faults:
            raise faults[0]

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
            if found is None:
                continue
            anchor = _readable(found)
            fault = "cannot be read" if anchor is None else anchor.signature_fault(trusted)
            if anchor is None or fault is not None:
                raise LedgerBroken(
                    f"The newest anchor in {store.where}, {found.name}, {fault}, so nothing is known about the ledger "
                    "that it confirms, and nothing is signed.",
                    sequence=0 if anchor is None else anchor.size,
                    remedy="Restore the file, or the file ledger.key if an older one was restored; move an anchor that "
                    "is not of this installation to another directory.",
                )
            if not self._unit.read(partial(agrees, anchor=anchor)):
                raise LedgerBroken(
                    f"The anchor {anchor.name} in {store.where} confirms {anchor.size} entries that this ledger does "
                    "not have: an older backup was restored, or entries were cut off or written anew.",
                    sequence=anchor.size,
                    remedy="Restore the newest database; or keep this one: move the anchors that 'mendel ledger "
                    "verify' names to another directory, and say elsewhere which entries were lost.",
                )

    def trusted(self) -> dict[str, TrustedKey]:
        """Give the public keys, by id, whose signatures count in this installation."""
        head, entries = self._unit.read(lambda tx: (_head(tx), _key_entries(tx)))
        return KeyChain.read(head.origin, entries).trusted(head.origin, self.public_key())

    def keys(self) -> KeyChain:
        """Give the chain of keys that the ledger names."""
        head, entries = self._unit.read(lambda tx: (_head(tx), _key_entries(tx)))
        return KeyChain.read(head.origin, entries)

    def named_keys(self) -> tuple[LedgerKey, ...]:
        """Give the keys that the ledger names, oldest first."""
        head, entries = self._unit.read(lambda tx: (_head(tx), _key_entries(tx)))
        return named_keys(head.origin, self.public_key(), KeyChain.read(head.origin, entries))

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
            InvalidInput: *lost* is True, but a private key is here, or the ledger names none yet.
            LedgerBroken: The private key is not the one that the ledger names, and *lost* is False.
        """
        if lost:
            self._require_lost(self.keys())
        former = None if lost else self._signing_key(self.keys(), now)
        new = self._keys.prepare_next()

        def rotate(tx: Transaction) -> None:
            origin = _head(tx).origin
            _, named = KeyChain.read(origin, _key_entries(tx)).links[-1]
            if named != public_key_of(new):
                data = rotation_data(origin, former, new, named)
                tx.append(self._event("ledger.key_rotated", now, by, data))

        self._unit.write(rotate)
        self._keys.adopt_next()
        self.checkpoint(now)
        return self.named_keys()[-1]

    def _require_lost(self, chain: KeyChain) -> None:
        """Check that the private key is lost: a key that is here has to sign for the one that follows it."""
        if self._keys.current() is not None:
            raise InvalidInput(
                "The private key is not lost: the file ledger.key exists.",
                remedy="Leave out --lost. If the key in the file is not the one that 'mendel ledger keys' names last, "
                "restore the right file, or move the wrong one to another directory first.",
            )
        if not chain.links:
            raise InvalidInput("The ledger names no key yet.", remedy="Make one with: mendel ledger checkpoint")

    def receipt(self, sequence: int) -> Receipt:
        """
        Prove that the ledger contains the entry number *sequence*, by the oldest checkpoint that covers the entry.

        Raises:
            NotFound: The ledger has no such entry, or no checkpoint covers the entry yet.
            LedgerBroken: The entry, the tree and the checkpoint do not fit together.
        """
        covering, sealed, origin, entries = self._unit.read(
            lambda tx: (
                tx.store(Checkpoints).covering(sequence),
                tx.store(Ledger).sealed(after=sequence - 1, limit=1),
                _head(tx).origin,
                _key_entries(tx),
            )
        )
        if not sealed or sealed[0].sequence != sequence:
            raise NotFound(f"The ledger has no entry {sequence}.", remedy="List the entries with: mendel ledger show")
        if covering is None:
            raise NotFound(
                f"No checkpoint covers entry {sequence} yet.", remedy="Sign a checkpoint with: mendel ledger checkpoint"
            )
        checkpoint = self._own(covering.checkpoint, origin, entries)
        spans = inclusion_spans(sequence - 1, checkpoint.size)
        hashes = self._unit.read(lambda tx: hashes_of(spans, stored_nodes(tx, spans)))
        require_proof(sealed[0], checkpoint, hashes)
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
            LedgerBroken: The newest checkpoint contradicts the ledger.
        """
        _, checkpoint, _ = self._unit.read(self._state)
        if checkpoint is None or not 0 < old_size <= checkpoint.size:
            size = 0 if checkpoint is None else checkpoint.size
            raise InvalidInput(f"The newest checkpoint covers {size} entries; it cannot continue {old_size} entries.")
        spans = consistency_spans(old_size, checkpoint.size)
        hashes = self._unit.read(lambda tx: hashes_of(spans, stored_nodes(tx, spans)))
        proof = tuple(base64.b64encode(each).decode() for each in hashes)
        return ConsistencyProof(old_size=old_size, checkpoint=checkpoint.note, proof=proof)

    def _pem(self, checkpoint: Checkpoint) -> str:
        """Give the key that signed *checkpoint*, as the ledger names it."""
        return next((key.pem for key in self.named_keys() if key.id == checkpoint.key_id), "")

    def _signing_key(self, chain: KeyChain, now: datetime) -> bytes:
        """Give the private key that *chain* names last; if it names none, name it in the ledger."""
        if not chain.links:
            private_key = self._keys.create()
            return self._unit.write(lambda tx: self._pinned(tx, private_key, now))
        entry, named = chain.links[-1]
        prepared = self._keys.next()
        if prepared is not None and public_key_of(prepared) == named:
            self._keys.adopt_next()  # a rotation was killed after the ledger had named the new key
        found = self._keys.current()
        if found is not None and public_key_of(found) == named:
            return found
        if found is not None and (replacing := chain.replaced_without_consent(public_key_of(found))) is not None:
            raise LedgerBroken(
                f"Entry {replacing.sequence} replaces the key of this installation as if it were lost, but it is here.",
                sequence=replacing.sequence,
                remedy="If nobody ran 'mendel ledger rotate-key --lost', the database was changed: restore a backup.",
            )
        raise LedgerBroken(
            f"The private key of this installation is not the key {entry.event.data['key_id']} that the ledger names, "
            "so no checkpoint can be signed.",
            sequence=entry.sequence,
            remedy="Restore the file ledger.key; if it is lost, move a wrong file ledger.key to another directory and "
            "run: mendel ledger rotate-key --lost",
        )

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
