"""The keys that sign checkpoints: each is named in the ledger, and each new one vouches for the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendel.durable.checkpoints import keys_by_id
from mendel.durable.events import LedgerEntry
from mendel.durable.signatures import key_id, pem_of, public_key_of, sign, signature_holds

_KEY_ROTATED = "ledger.key_rotated"
KEY_EVENTS = ("ledger.key_pinned", _KEY_ROTATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerKey:
    """
    A public key that signed or signs checkpoints.

    Attributes:
        id: The id by which the checkpoints name the key.
        pem: The key in PEM format.
        since: The number of the ledger entry that names the key.
        signs: Whether new checkpoints are signed with the key.
        trusted: Whether the signatures of the key count: it signs, or a trusted later key vouches for it.
    """

    id: str
    pem: str
    since: int
    signs: bool
    trusted: bool


def pin_data(origin: str, private_key: bytes) -> dict[str, str]:
    """Give the data of the event that names the first key of a ledger."""
    public = public_key_of(private_key)
    return {"key_id": key_id(origin, public), "public_key": public.hex()}


def rotation_data(origin: str, former: bytes | None, new: bytes, former_public: bytes) -> dict[str, str | None]:
    """
    Give the data of the event that replaces a key; each of the two keys signs that the new one follows the former one.

    Args:
        former: The former private key; None if it was lost, so that only the new key signs.
        former_public: The public key that the ledger names until now.
    """
    public = public_key_of(new)
    statement = _statement(origin, former_public.hex(), public.hex())
    return {
        **pin_data(origin, new),
        "signature": sign(statement, new).hex(),
        "former_key_id": key_id(origin, former_public),
        "former_public_key": former_public.hex(),
        "former_signature": None if former is None else sign(statement, former).hex(),
    }


def named_keys(origin: str, current: bytes | None, entries: Sequence[LedgerEntry]) -> tuple[LedgerKey, ...]:
    """Give the keys that events name, oldest first; for the arguments see :func:`trusted_keys`."""
    trusted = trusted_keys(origin, current, entries)
    publics = [bytes.fromhex(entry.event.data["public_key"]) for entry in entries]
    return tuple(
        LedgerKey(
            id=key_id(origin, public),
            pem=pem_of(public),
            since=entry.sequence,
            signs=public == current,
            trusted=key_id(origin, public) in trusted,
        )
        for entry, public in zip(entries, publics, strict=True)
    )


def trusted_keys(origin: str, current: bytes | None, entries: Sequence[LedgerEntry]) -> dict[str, bytes]:
    """
    Give the public keys (by id) whose signatures count: the *current* one, and those that a trusted key vouches for.

    Args:
        current: The public key of this installation; None before the first checkpoint.
        entries: The entries that name keys, oldest first.
    """
    trusted = set() if current is None else {current.hex()}
    for entry in reversed(entries):
        data = entry.event.data
        if entry.event.type == _KEY_ROTATED and data["public_key"] in trusted and _vouched(origin, data):
            trusted.add(data["former_public_key"])
    return keys_by_id(origin, tuple(bytes.fromhex(key) for key in trusted))


def _vouched(origin: str, data: dict[str, str]) -> bool:
    statement = _statement(origin, data["former_public_key"], data["public_key"])
    return signature_holds(bytes.fromhex(data["signature"]), statement, bytes.fromhex(data["public_key"]))


def _statement(origin: str, former: str, new: str) -> bytes:
    return f"mendel-ledger-key-rotation\n{origin}\n{former}\n{new}\n".encode()
