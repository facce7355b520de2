"""Ed25519 keys and signatures of the ledger (RFC 8032), as raw bytes."""

from __future__ import annotations

import base64
import hashlib
import secrets

_PRIVATE_KEY_BYTES = 32
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""The DER bytes before a raw Ed25519 public key in a SubjectPublicKeyInfo (RFC 8410)."""
_ED25519 = b"\x01"
"""The type of signature in the key ids of signed notes."""


def new_private_key() -> bytes:
    """Make a private key."""
    return secrets.token_bytes(_PRIVATE_KEY_BYTES)


def public_key_of(private_key: bytes) -> bytes:
    """Give the public key, 32 bytes, that verifies the signatures of *private_key*."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - start-up time

    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def sign(message: bytes, private_key: bytes) -> bytes:
    """Sign *message*; gives 64 bytes, equal for equal input."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - start-up time

    return Ed25519PrivateKey.from_private_bytes(private_key).sign(message)


def signature_holds(signature: bytes, message: bytes, public_key: bytes) -> bool:
    """Whether the private key of *public_key* made *signature* over *message*."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - start-up time
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - start-up time

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_id(name: str, public_key: bytes) -> str:
    """Give the id (8 hex digits) by which the signatures of a note with the key name *name* refer to a key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public_key).hexdigest()[:8]


def pem_of(public_key: bytes) -> str:
    """Write a public key in PEM format, which ``openssl`` reads."""
    text = base64.b64encode(_SPKI_PREFIX + public_key).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n"


def from_pem(pem: str) -> bytes | None:
    """Read an Ed25519 public key from PEM text; None if the text is not one."""
    body = "".join(line for line in pem.split("\n") if line and not line.startswith("-----"))
    try:
        der = base64.b64decode(body, validate=True)
    except ValueError:
        return None
    return der[len(_SPKI_PREFIX) :] if der.startswith(_SPKI_PREFIX) and len(der) == _SPKI_LENGTH else None


_SPKI_LENGTH = 44
