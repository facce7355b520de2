"""
Checkpoints: signed statements about the first entries of the ledger, which are kept outside the database as anchors.

A checkpoint is a signed note (https://c2sp.org/tlog-checkpoint) over the ledger's Merkle tree.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from mendel.durable.signatures import key_id, sign, signature_holds
from mendel.errors import Corrupt, InvalidValue
from mendel.values import from_json, require_utc, to_json

_AT = "at "
_TEXT = re.compile(rf"([^\s+]+)\n([1-9]\d{{0,15}})\n([A-Za-z0-9+/]{{43}}=)\n{_AT}(\S+)\n")
_SIGNATURE = re.compile(r"— (\S+) ([A-Za-z0-9+/=]+)")
_KEY_ID_BYTES = 4
_SUFFIX = ".checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """
    A public key whose signatures count.

    Attributes:
        since: The key counts for checkpoints of at least so many entries: the last of them names the key.
        before: The key counts for checkpoints of fewer entries only, because this entry names its successor; None means
            that it has none.
    """

    public: bytes
    since: int = 0
    before: int | None = None

    def may_sign(self, size: int) -> bool:
        """Whether this was the key that had to sign a checkpoint of *size* entries."""
        return self.since <= size and (self.before is None or size < self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """
    A signed statement that the Merkle tree over the first ``size`` entries has this root.

    Attributes:
        origin: The name of the ledger, and of the keys that sign for it.
        root: The root of the tree, in base64.
        at: When the statement was signed.
        key_id: The id of the key that signed it.
        note: The whole signed note.
    """

    origin: str
    size: int
    root: str
    at: datetime
    key_id: str
    note: str

    @property
    def name(self) -> str:
        """The name of the file that holds the note."""
        return f"{self.size:012d}{_SUFFIX}"

    def confirms(self, entry_hash: str | None, root: bytes) -> bool | None:  # noqa: ARG002 - the root covers the entry
        """Whether the tree over the first ``size`` entries has *root*."""
        return base64.b64decode(self.root) == root

    def signature_fault(self, keys: Mapping[str, TrustedKey]) -> str | None:
        """Say why no key of *keys* (by id) made the signature rightfully; None if a key did."""
        key = keys.get(self.key_id)
        if key is None:
            return f"was signed with the unknown key {self.key_id}"
        if not key.may_sign(self.size):
            return f"was signed with the key {self.key_id}, but then another key signed"
        text, signature = _parts(self.note)
        return None if signature_holds(signature, text, key.public) else "has an invalid signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class FormerAnchor:
    """
    An anchor as Mendel made it before checkpoints: a signed statement that entry ``sequence`` had this ``hash``.

    Attributes:
        signature: The Ed25519 signature over sequence, hash and time, in hex.
        public_key: The raw public key that verifies the signature, in hex.
    """

    sequence: int
    hash: str
    at: datetime
    signature: str
    public_key: str

    @property
    def name(self) -> str:
        """The name of the file that holds the anchor."""
        return f"{self.sequence:012d}.json"

    @property
    def size(self) -> int:
        """The number of the entry that the anchor confirms."""
        return self.sequence

    def confirms(self, entry_hash: str | None, root: bytes) -> bool | None:  # noqa: ARG002 - it names no tree
        """Whether entry ``sequence`` has *entry_hash*; None without a hash."""
        return None if entry_hash is None else entry_hash == self.hash

    def signature_fault(self, keys: Mapping[str, TrustedKey]) -> str | None:
        """Say why no key of *keys* made the signature rightfully; None if a key did."""
        key = next((key for key in keys.values() if key.public.hex() == self.public_key), None)
        if key is None:
            return "was signed with an unknown key"
        if not key.may_sign(self.size):
            return "was signed with a key at whose time another key signed"
        statement = to_json({"at": self.at, "hash": self.hash, "sequence": self.sequence})
        try:
            signature = bytes.fromhex(self.signature)
        except ValueError:
            signature = b""
        holds = signature_holds(signature, statement, bytes.fromhex(self.public_key))
        return None if holds else "has an invalid signature"


Anchor = Checkpoint | FormerAnchor


def sign_checkpoint(origin: str, size: int, root: bytes, *, at: datetime, private_key: bytes, key: str) -> Checkpoint:
    """
    Sign a statement about the first *size* entries.

    Args:
        root: The root of the Merkle tree over these entries.
        private_key: The Ed25519 key, 32 raw bytes.
        key: The id of the key.
    """
    moment = require_utc(at)
    told = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n{_AT}{to_json(moment).decode().strip(chr(34))}\n"
    signature = base64.b64encode(bytes.fromhex(key) + sign(told.encode(), private_key)).decode()
    return read_checkpoint(f"{told}\n— {origin} {signature}\n")


def read_anchor(name: str, content: bytes) -> Anchor:
    """
    Read an anchor of either form; its signature is not checked.

    Raises:
        Corrupt: The content is not an anchor, or an anchor of another size than the name says.
    """
    try:
        anchor: Anchor = (
            from_json(content, FormerAnchor) if name.endswith(".json") else read_checkpoint(content.decode())
        )
    except (InvalidValue, Corrupt, ValueError) as error:
        raise Corrupt(f"The anchor {name} cannot be read: {error}", remedy="Restore the file from a backup.") from error
    if anchor.name != name:
        raise Corrupt(f"The anchor {name} is about the first {anchor.size} entries.", remedy="Restore its name.")
    return anchor


def read_checkpoint(note: str) -> Checkpoint:
    """
    Read a signed note; its signature is not checked.

    Raises:
        Corrupt: The text is not a checkpoint of a ledger.
    """
    found = _TEXT.fullmatch(_parts(note)[0].decode())
    if found is None:
        raise Corrupt("The text is not a checkpoint of a ledger.")
    origin, size, root, at = found.groups()
    try:
        moment = require_utc(datetime.fromisoformat(at))
    except (ValueError, InvalidValue) as error:
        raise Corrupt(f"The checkpoint has the time {at}, which is not one in UTC.") from error
    return Checkpoint(origin=origin, size=int(size), root=root, at=moment, key_id=_signer(note, origin), note=note)


def _parts(note: str) -> tuple[bytes, bytes]:
    """Give the signed text and the first signature of a note, without the key's id."""
    text, _, lines = note.rpartition("\n\n")
    found = _SIGNATURE.fullmatch(lines.partition("\n")[0])
    if not text or found is None:
        raise Corrupt("The text is not a signed note.")
    try:
        return f"{text}\n".encode(), base64.b64decode(found[2], validate=True)[_KEY_ID_BYTES:]
    except ValueError as error:
        raise Corrupt("The signature of the note is not base64.") from error


def _signer(note: str, origin: str) -> str:
    """Give the id of the key whose signature stands first; the key must have the ledger's name."""
    found = _SIGNATURE.search(note.rpartition("\n\n")[2])
    if found is None or found[1] != origin:
        raise Corrupt(f"The first signature is not one of the ledger {origin}.")
    return base64.b64decode(found[2])[:_KEY_ID_BYTES].hex()


def keys_by_id(origin: str, keys: Iterable[bytes]) -> dict[str, TrustedKey]:
    """Give public keys by the ids that they have in signed notes of the ledger *origin*."""
    return {key_id(origin, key): TrustedKey(public=key) for key in keys}
