"""The keys that sign checkpoints: each is named in the ledger, and each new one vouches for the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from mendel.durable.checkpoints import TrustedKey
from mendel.durable.events import LedgerEntry
from mendel.durable.signatures import key_id, pem_of, public_key_of, sign, signature_holds

_KEY_PINNED: Final = "ledger.key_pinned"
_KEY_ROTATED: Final = "ledger.key_rotated"
KEY_EVENTS = (_KEY_PINNED, _KEY_ROTATED)
_KEY_BYTES = 32


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


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChain:
    """
    The keys that the ledger names one after the other, and the entries that name a key but continue no such chain.

    Attributes:
        links: The entry and the public key of each key, oldest first.
        strays: Entries that name a key without continuing the chain; they have no effect.
    """

    links: tuple[tuple[LedgerEntry, bytes], ...]
    strays: tuple[LedgerEntry, ...]

    @classmethod
    def read(cls, origin: str, entries: Sequence[LedgerEntry]) -> KeyChain:
        """
        Follow *entries*, which name keys: the first key is pinned once, and each later one is signed for.

        A key follows another one only if it signed so itself; the former key signs too, unless it was lost.
        """
        links: list[tuple[LedgerEntry, bytes]] = []
        strays = []
        for entry in entries:
            public = _continued(origin, links[-1][1] if links else None, entry)
            if public is None:
                strays.append(entry)
            else:
                links.append((entry, public))
        return cls(links=tuple(links), strays=tuple(strays))

    def replaced_without_consent(self, current: bytes | None) -> LedgerEntry | None:
        """Give the entry that replaces the key *current*, which is here, as one that was lost; None without such."""
        for (_, former), (entry, _) in pairwise(self.links):
            if former == current and entry.event.data.get("former_signature") is None:
                return entry
        return None

    def trusted(self, origin: str, current: bytes | None) -> dict[str, TrustedKey]:
        """
        Give the keys whose signatures count, by id: *current*, and those that came before it in the chain.

        Each counts for the checkpoints between the entry that names it and the entry that names its successor.
        """
        publics = [public for _, public in self.links]
        if current is None:
            return {}
        if current not in publics:
            return {key_id(origin, current): TrustedKey(public=current)}
        upto = publics.index(current) + 1
        starts = [0, *(entry.sequence for entry, _ in self.links[1:upto])]
        ends = [*starts[1:], None]
        return {
            key_id(origin, public): TrustedKey(public=public, since=since, before=before)
            for public, since, before in zip(publics[:upto], starts, ends, strict=True)
        }


def named_keys(origin: str, current: bytes | None, chain: KeyChain) -> tuple[LedgerKey, ...]:
    """Give the keys of *chain*, oldest first; *current* is the public key of this installation."""
    trusted = chain.trusted(origin, current)
    return tuple(
        LedgerKey(
            id=key_id(origin, public),
            pem=pem_of(public),
            since=entry.sequence,
            signs=public == current,
            trusted=key_id(origin, public) in trusted,
        )
        for entry, public in chain.links
    )


def _continued(origin: str, former: bytes | None, entry: LedgerEntry) -> bytes | None:
    """Give the public key that *entry* names, if the entry continues a chain that ends with *former*."""
    data = entry.event.data
    try:
        public = bytes.fromhex(data["public_key"])
        if len(public) != _KEY_BYTES:
            return None
        if former is None:
            return public if entry.event.type == _KEY_PINNED else None
        if entry.event.type != _KEY_ROTATED or data["former_public_key"] != former.hex():
            return None
        statement = _statement(origin, former.hex(), public.hex())
        signatures = [(data["signature"], public)]
        if data["former_signature"] is not None:
            signatures.append((data["former_signature"], former))
        holds = all(signature_holds(bytes.fromhex(signature), statement, key) for signature, key in signatures)
    except (KeyError, TypeError, ValueError):
        return None
    return public if holds else None


def _statement(origin: str, former: str, new: str) -> bytes:
    return f"mendel-ledger-key-rotation\n{origin}\n{former}\n{new}\n".encode()
