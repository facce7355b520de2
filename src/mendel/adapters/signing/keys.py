"""Keys for signing images and models: NIST elliptic curves in PEM, as used by cosign and OpenSSF Model Signing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from mendel.errors import AlreadyExists, InvalidInput, NotFound

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, which verifies signatures."""

    key: ec.EllipticCurvePublicKey

    @property
    def pem(self) -> bytes:
        """The key in PEM format."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def hint(self) -> str:
        """The SHA-256 of the PEM text in hex, by which a bundle names its key."""
        return hashlib.sha256(self.pem).hexdigest()

    def holds(self, signature: bytes, content: bytes) -> bool:
        """Whether *signature* is a signature of *content* by the matching private key."""
        try:
            self.key.verify(signature, content, ec.ECDSA(_HASHES[self.key.curve.name]))
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key; its repr does not show the key."""

    key: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> VerifyingKey:
        """The matching public key."""
        return VerifyingKey(self.key.public_key())

    def sign(self, content: bytes) -> bytes:
        """
        Sign *content* with deterministic ECDSA (RFC 6979), so that equal content gives an equal signature, in DER.
        """
        return self.key.sign(content, ec.ECDSA(_HASHES[self.key.curve.name], deterministic_signing=True))


def make_key(path: Path, *, password: bytes | None = None) -> Path:
    """
    Make a P-256 key pair: the private key in *path*, readable only by its owner, and the public key beside it.

    Args:
        password: The password that encrypts the private key; None leaves the key unencrypted.

    Returns:
        The file of the public key, ``<path>.pub``.

    Raises:
        AlreadyExists: One of the two files exists; keys are never overwritten.
    """
    key = SigningKey(ec.generate_private_key(ec.SECP256R1()))
    public = path.with_name(f"{path.name}.pub")
    encryption: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
    private_pem = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    if public.exists():
        raise _exists(public)
    _create(path, private_pem, mode=0o600)
    try:
        _create(public, key.public.pem, mode=0o644)
    except AlreadyExists:
        path.unlink()
        raise
    return public


def read_signing_key(path: Path, *, password: bytes | None = None) -> SigningKey:
    """
    Read a private key from a PEM file.

    Raises:
        NotFound: The file does not exist.
        InvalidInput: The file is not a private key of a supported curve, or the password is wrong.
    """
    pem = _read(path)
    try:
        key = load_pem_private_key(pem, password)
    except TypeError as error:  # a password for an unencrypted key, or none for an encrypted key
        wanted, remedy = ("is not encrypted", "Unset") if password else ("is encrypted", "Set")
        raise InvalidInput(f"The key {path} {wanted}.", remedy=f"{remedy} MENDEL_SIGNING_PASSWORD.") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            f"The file {path} is not a private key, or the password in MENDEL_SIGNING_PASSWORD is wrong.",
            remedy="Make a private key with: mendel signing-key new FILE",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in _HASHES:
        raise _not_elliptic(path)
    return SigningKey(key)


def read_verifying_key(path: Path) -> VerifyingKey:
    """
    Read a public key from a PEM file.

    Raises:
        NotFound: The file does not exist.
        InvalidInput: The file is not a public key of a supported curve.
    """
    pem = _read(path)
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidInput(
            f"The file {path} is not a public key in PEM format.", remedy="Give the signer's .pub file."
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
        raise _not_elliptic(path)
    return VerifyingKey(key)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except FileNotFoundError as error:
        raise NotFound(
            f"The key file {path} does not exist.", remedy="Make a key with: mendel signing-key new FILE"
        ) from error
    except OSError as error:
        raise InvalidInput(f"The key file {path} cannot be read: {error.strerror}.") from error


def _create(path: Path, content: bytes, *, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise _exists(path) from error
    except OSError as error:
        raise InvalidInput(f"The key file {path} cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _exists(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"The key file {path} already exists.", remedy="Choose another file name; Mendel never overwrites keys."
    )


def _not_elliptic(path: Path) -> InvalidInput:
    return InvalidInput(
        f"The key {path} is not on the curve P-256, P-384 or P-521.",
        remedy="Make a key with: mendel signing-key new FILE",
    )
