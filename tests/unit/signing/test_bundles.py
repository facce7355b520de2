import base64
import json

import pytest
from sigstore_models.bundle.v1 import Bundle

from mendel.adapters.signing import make_key, read_verifying_key, sign_statement, verify_bundle
from mendel.errors import SignatureInvalid

STATEMENT = b'{"_type":"https://in-toto.io/Statement/v1"}'


@pytest.fixture
def bundle(signer):
    return json.loads(sign_statement(STATEMENT, signer))


def test_bundle(signer, verifier):
    """What was signed comes back, and the same statement signed twice is the same bundle."""
    signed = sign_statement(STATEMENT, signer)
    assert verify_bundle(signed, verifier) == STATEMENT
    assert sign_statement(STATEMENT, signer) == signed


def test_bundle_is_a_sigstore_bundle(bundle, verifier):
    """The models of Sigstore read the bundle, and its parts are where their readers look for them."""
    parsed = Bundle.from_dict(bundle)
    assert parsed.media_type == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert parsed.verification_material.public_key.hint == verifier.hint
    assert base64.b64decode(bundle["dsseEnvelope"]["payload"]) == STATEMENT


def test_another_key(bundle, tmp_path):
    """A bundle of another key is refused, whether it names its key or not."""
    stranger = read_verifying_key(make_key(tmp_path / "stranger"))
    with pytest.raises(SignatureInvalid, match="another key"):
        verify_bundle(json.dumps(bundle).encode(), stranger)
    bundle["verificationMaterial"]["publicKey"] = {}
    with pytest.raises(SignatureInvalid, match="another key"):
        verify_bundle(json.dumps(bundle).encode(), stranger)


def test_forged_content(bundle, verifier):
    """A payload changed after signing is refused, and so is another payload type."""
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(b"{}").decode()
    with pytest.raises(SignatureInvalid, match="does not match"):
        verify_bundle(json.dumps(bundle).encode(), verifier)
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"
    with pytest.raises(SignatureInvalid, match="text/plain"):
        verify_bundle(json.dumps(bundle).encode(), verifier)


def test_every_truncation_is_refused(signer, verifier):
    """Cut off anywhere, a bundle is refused as one."""
    signed = sign_statement(STATEMENT, signer)
    for end in range(0, len(signed), 7):
        with pytest.raises(SignatureInvalid):
            verify_bundle(signed[:end], verifier)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"null", b"[" * 100_000, b"{}", b'{"mediaType":1}'],
)
def test_nonsense_is_refused(content, verifier):
    """What is no bundle at all is refused as one."""
    with pytest.raises(SignatureInvalid):
        verify_bundle(content, verifier)


@pytest.mark.parametrize("signatures", [[], [{"sig": "AA=="}, {"sig": "AA=="}], [{"sig": "no base64!"}]])
def test_signatures_of_a_bundle(bundle, verifier, signatures):
    """A bundle has exactly one signature, in base64."""
    bundle["dsseEnvelope"]["signatures"] = signatures
    with pytest.raises(SignatureInvalid):
        verify_bundle(json.dumps(bundle).encode(), verifier)
