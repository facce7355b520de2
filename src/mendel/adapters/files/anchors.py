"""Signed anchors of the ledger, stored as files outside the database."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from mendel.durable import Anchor, Ledger, UnitOfWork, sign_head
from mendel.errors import Corrupt, InvalidValue
from mendel.values import from_json, to_json
from mendel.values.atomic_files import write_atomically

_KEY_BYTES = 32


class FileAnchors:
    """
    Implements :class:`mendel.durable.Anchors`: one file per ledger sequence number, signed with the installation's key.

    Args:
        directory: The directory of the anchor files.
        key: The file of the private Ed25519 key, mode 0600; created on first use.
    """

    def __init__(self, directory: Path, key: Path) -> None:
        self._directory = directory
        self._key = key

    def all(self) -> tuple[Anchor, ...]:
        """
        Give every anchor, oldest first.

        Raises:
            Corrupt: A file in the directory is not a valid anchor.
        """
        return tuple(_read(path) for path in sorted(self._directory.glob("*.json")))

    def trusted(self) -> tuple[str, ...]:
        """Give the public key (hex) of the installation's private key; empty before the first anchor."""
        if not self._key.exists():
            return ()
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - start-up time

        return (Ed25519PrivateKey.from_private_bytes(self._private_key()).public_key().public_bytes_raw().hex(),)

    def sign(self, unit: UnitOfWork, now: datetime) -> Anchor | None:
        head = unit.read(lambda tx: tx.store(Ledger).head())
        if head is None:
            return None
        path = self._directory / f"{head.sequence:012d}.json"
        if path.exists():
            return None
        anchor = sign_head(head, private_key=self._private_key(), at=now)
        self._directory.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_json(anchor))
        return anchor

    def _private_key(self) -> bytes:
        if not self._key.exists():
            import secrets  # noqa: PLC0415 - once in the life of an installation

            write_atomically(self._key, secrets.token_bytes(_KEY_BYTES), mode=0o600)
        return self._key.read_bytes()


def _read(path: Path) -> Anchor:
    try:
        return from_json(path.read_bytes(), Anchor)
    except InvalidValue as error:
        raise Corrupt(
            (f"The ledger anchor {path} cannot be read: {error}"), remedy="Restore the file from a backup."
        ) from error
