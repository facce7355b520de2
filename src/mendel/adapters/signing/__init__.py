"""Sign images and models so that standard tools can verify them: DSSE in Sigstore bundles, OpenSSF Model Signing."""

from mendel.adapters.signing.bundles import sign_statement, verify_bundle
from mendel.adapters.signing.keys import SigningKey, VerifyingKey, make_key, read_signing_key, read_verifying_key
from mendel.adapters.signing.models import SignedModel, sign_model, verify_model

__all__ = [
    "SignedModel",
    "SigningKey",
    "VerifyingKey",
    "make_key",
    "read_signing_key",
    "read_verifying_key",
    "sign_model",
    "sign_statement",
    "verify_bundle",
    "verify_model",
]
