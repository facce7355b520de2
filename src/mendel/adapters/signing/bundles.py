"""
Sign and verify in-toto statements: DSSE envelopes in Sigstore bundles v0.3, with a local key.

This module uses only `cryptography`. The package model-signing signs only its own statements, loads 636 modules (0.7 s,
80 MB) to sign one, and cannot be imported with its declared dependencies.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

import msgspec

from mendel.adapters.signing.keys import SigningKey, VerifyingKey
from mendel.errors import SignatureInvalid
from mendel.images import IN_TOTO, SIGSTORE_BUNDLE
from mendel.values import to_json


class _Hint(msgspec.Struct, rename="camel"):
    hint: str = ""


class _Material(msgspec.Struct, rename="camel"):
    public_key: _Hint | None = None


class _Signature(msgspec.Struct, rename="camel"):
    sig: str


class _Envelope(msgspec.Struct, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_Signature]


class _Bundle(msgspec.Struct, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


@dataclass(frozen=True, slots=True)
class _Content:
    payload: bytes
    signature: bytes


def sign_statement(statement: bytes, key: SigningKey) -> bytes:
    """Sign an in-toto statement; gives the bundle as canonical JSON, equal for equal statement and key."""
    return to_json(
        {
            "mediaType": SIGSTORE_BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": key.public.hint}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(statement).decode(),
                "payloadType": IN_TOTO,
                "signatures": [{"sig": base64.b64encode(key.sign(_encoded(statement))).decode(), "keyid": ""}],
            },
        }
    )


def verify_bundle(bundle: bytes, key: VerifyingKey) -> bytes:
    """
    Verify a bundle with a trusted key; only the returned statement is trustworthy.

    Returns:
        The signed in-toto statement.

    Raises:
        SignatureInvalid: The bundle is invalid, was signed with another key, or was changed after signing.
    """
    parsed = _parsed(bundle)
    hint = parsed.verification_material.public_key.hint if parsed.verification_material.public_key else ""
    if hint and hint != key.hint:
        raise SignatureInvalid(
            f"The signature was made with another key: the signer's public key has the hash {hint[:12]}..., the given "
            f"public key has the hash {key.hint[:12]}...",
            remedy="Give the public key file of the signer.",
        )
    content = _content(parsed)
    if not key.holds(content.signature, _encoded(content.payload)):
        raise SignatureInvalid(
            "The signature does not match: the signed content was changed, or another key made the signature."
        )
    return content.payload


def _encoded(payload: bytes) -> bytes:
    """Encode *payload* with DSSE's pre-authentication encoding, protocol 1.0.0."""
    return b"DSSEv1 %d %s %d %s" % (len(IN_TOTO), IN_TOTO.encode(), len(payload), payload)


def _parsed(bundle: bytes) -> _Bundle:
    try:
        parsed = msgspec.json.decode(bundle, type=_Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SignatureInvalid(f"The signature file is not a complete Sigstore bundle: {error}.") from error
    if parsed.media_type != SIGSTORE_BUNDLE or parsed.dsse_envelope.payload_type != IN_TOTO:
        raise SignatureInvalid(
            f"The signature file has the type {parsed.media_type} with the content type "
            f"{parsed.dsse_envelope.payload_type}; Mendel reads only Sigstore bundles v0.3 of in-toto statements."
        )
    return parsed


def _content(bundle: _Bundle) -> _Content:
    envelope = bundle.dsse_envelope
    if len(envelope.signatures) != 1:
        raise SignatureInvalid(
            f"The signature file has {len(envelope.signatures)} signatures; Mendel reads only files with one signature."
        )
    try:
        return _Content(
            payload=base64.b64decode(envelope.payload, validate=True),
            signature=base64.b64decode(envelope.signatures[0].sig, validate=True),
        )
    except binascii.Error as error:
        raise SignatureInvalid(f"The content of the signature file is not base64: {error}.") from error
