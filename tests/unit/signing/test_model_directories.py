import base64
import json
import os

import pytest

from mendel.adapters.signing import make_key, read_verifying_key, sign_model, sign_statement, verify_model
from mendel.errors import InvalidInput, NotFound, SignatureInvalid, Unsupported


@pytest.fixture
def signature(model, signer):
    where = model / "model.sig"
    sign_model(model, signer, signature=where)
    return where


def _refused(model, verifier, signature):
    with pytest.raises(SignatureInvalid) as refused:
        verify_model(model, verifier, signature=signature)
    return refused.value.reasons


def test_signed_model(model, signature, verifier):
    """An untouched directory holds; what git leaves there and the signature itself are not counted."""
    (model / ".git" / "config").write_text("elsewhere")
    told = verify_model(model, verifier, signature=signature)
    assert told.name == "bert"
    assert told.files == ("MLmodel", "mendel/reference.json", "model.joblib")


def test_moved_signature(model, signature, verifier, tmp_path):
    """A signature holds for a copy elsewhere, and from wherever it lies."""
    outside = signature.rename(tmp_path / "away.sig")
    copied = model.rename(tmp_path / "another name")
    verify_model(copied, verifier, signature=outside)
    verify_model(copied, verifier, signature=outside.rename(copied / "renamed.sig"))


def test_every_change_is_named(model, signature, verifier):
    """Changed, added, missing and renamed files are each named, all at once."""
    (model / "model.joblib").write_text("poison")
    (model / "extra.py").write_text("import os")
    (model / "MLmodel").rename(model / "mlmodel")
    (model / "mendel" / "reference.json").unlink()
    assert _refused(model, verifier, signature) == (
        "MLmodel was renamed to mlmodel",
        "mendel/reference.json is missing",
        "extra.py was added",
        "model.joblib was changed",
    )


def test_swapped_files(model, signature, verifier):
    """Two files that change names are both changed."""
    one, other = model / "MLmodel", model / "model.joblib"
    first, second = one.read_text(), other.read_text()
    one.write_text(second)
    other.write_text(first)
    assert _refused(model, verifier, signature) == ("MLmodel was changed", "model.joblib was changed")


def test_links_are_refused(model, signature, signer, verifier):
    """A link in a model is neither signed nor verified: what it points to may change."""
    (model / "link").symlink_to(model / "MLmodel")
    with pytest.raises(InvalidInput, match="link"):
        verify_model(model, verifier, signature=signature)
    with pytest.raises(InvalidInput, match="link"):
        sign_model(model, signer, signature=signature)


def test_special_files_are_refused(model, signature, verifier):
    """A pipe in a model is refused instead of read."""
    os.mkfifo(model / "pipe")
    with pytest.raises(InvalidInput, match="pipe"):
        verify_model(model, verifier, signature=signature)


def test_wrong_key(model, signature, tmp_path):
    """A directory signed by somebody else is refused before it is read."""
    stranger = read_verifying_key(make_key(tmp_path / "stranger"))
    with pytest.raises(SignatureInvalid, match="another key"):
        verify_model(model, stranger, signature=signature)


def test_truncated_signature(model, signature, verifier):
    """Half a signature is refused."""
    signature.write_bytes(signature.read_bytes()[:300])
    with pytest.raises(SignatureInvalid, match="complete"):
        verify_model(model, verifier, signature=signature)


def test_what_is_missing(model, signer, verifier, tmp_path):
    """A missing directory, a missing signature and an empty directory are refused by name."""
    with pytest.raises(NotFound, match="absent"):
        sign_model(tmp_path / "absent", signer, signature=tmp_path / "sig")
    with pytest.raises(NotFound, match="sig"):
        verify_model(model, verifier, signature=tmp_path / "sig")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no file"):
        sign_model(tmp_path / "empty", signer, signature=tmp_path / "sig")


def _changed(signature, signer, change):
    """Sign a statement that was changed by hand: the owner of the key is the one who errs."""
    bundle = json.loads(signature.read_bytes())
    statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
    change(statement)
    signature.write_bytes(sign_statement(json.dumps(statement).encode(), signer))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["predicate"].update(resources=[]),
        lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0]),
        lambda s: s["predicate"]["resources"][0].update(digest="00" * 32),
        lambda s: s["predicate"]["resources"][0].update(digest="no hex"),
        lambda s: s["subject"].clear(),
        lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda s: s.pop("predicate"),
        lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
    ],
)
def test_statements_that_contradict_themselves(model, signature, signer, verifier, change):
    """A signed statement that is no list of files, or contradicts itself, is refused."""
    _changed(signature, signer, change)
    with pytest.raises(SignatureInvalid):
        verify_model(model, verifier, signature=signature)


@pytest.mark.parametrize("how", [{"method": "shards"}, {"hash_type": "blake3"}, {"allow_symlinks": True}])
def test_other_ways_of_signing(model, signature, signer, verifier, how):
    """Ways of the standard that Mendel does not read are refused as such, with who does."""
    _changed(signature, signer, lambda s: s["predicate"]["serialization"].update(how))
    with pytest.raises(Unsupported, match="model_signing"):
        verify_model(model, verifier, signature=signature)


def test_reference_verifies_ours(model, signature, keys, reference):
    """The reference implementation verifies what Mendel signed, and refuses it changed."""
    config = reference.verifying.Config().use_elliptic_key_verifier(public_key=keys[1])
    config.verify(model, signature)
    (model / "model.joblib").write_text("poison")
    with pytest.raises(ValueError, match=r"model\.joblib"):
        reference.verifying.Config().use_elliptic_key_verifier(public_key=keys[1]).verify(model, signature)


@pytest.mark.parametrize("algorithm", ["sha256", "blake2"])
def test_ours_verifies_reference(model, keys, verifier, reference, algorithm):
    """Mendel verifies what the reference implementation signed, and refuses it changed."""
    signature = model / "theirs.sig"
    hashing = reference.hashing.Config().use_file_serialization(hashing_algorithm=algorithm)
    hashing.set_ignored_paths(paths=["theirs.sig"])
    signing = reference.signing.Config().use_elliptic_key_signer(private_key=keys[0])
    signing.set_hashing_config(hashing).sign(model, signature)
    assert len(verify_model(model, verifier, signature=signature).files) == 3
    (model / "model.joblib").write_text("poison")
    assert _refused(model, verifier, signature) == ("model.joblib was changed",)


def test_digest_is_the_references(model, signature, verifier, reference):
    """The digest of a signed model is the one that the reference implementation computes."""
    told = verify_model(model, verifier, signature=signature)
    payload = reference.signing.signing.Payload(
        reference.hashing.Config().set_ignored_paths(paths=["model.sig"]).hash(model)
    )
    assert payload.statement.pb.subject[0].digest["sha256"] == told.digest.hex
