import stat

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mendel.adapters.signing import make_key, read_signing_key, read_verifying_key
from mendel.errors import AlreadyExists, InvalidInput, NotFound


def test_key_pair(keys):
    """The private half is its owner's alone, and what it signs the public half beside it confirms."""
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = read_signing_key(private)
    assert read_verifying_key(public).holds(key.sign(b"content"), b"content")
    assert not read_verifying_key(public).holds(key.sign(b"content"), b"other")
    assert not read_verifying_key(public).holds(b"no signature", b"content")


def test_signing_twice(signer):
    """The same content signed twice is the same signature, so that what carries it keeps its digest."""
    assert signer.sign(b"content") == signer.sign(b"content")


def test_keys_are_never_written_over(keys):
    """A key that exists stays, whichever half is in the way, and no half key is left."""
    private, public = keys
    before = private.read_bytes()
    with pytest.raises(AlreadyExists):
        make_key(private)
    assert private.read_bytes() == before
    private.unlink()
    with pytest.raises(AlreadyExists):
        make_key(private)
    assert not private.exists()
    assert public.exists()


def test_password(tmp_path):
    """An encrypted key opens with its password only, and a plain one with none."""
    make_key(tmp_path / "locked", password=b"sesame")
    read_signing_key(tmp_path / "locked", password=b"sesame")
    for wrong in (None, b"other"):
        with pytest.raises(InvalidInput, match="password"):
            read_signing_key(tmp_path / "locked", password=wrong)
    make_key(tmp_path / "open")
    with pytest.raises(InvalidInput, match="is not encrypted"):
        read_signing_key(tmp_path / "open", password=b"sesame")


def test_what_is_no_key(tmp_path, keys):
    """A missing file, nonsense, the wrong half and a key of another kind are refused by name."""
    with pytest.raises(NotFound):
        read_signing_key(tmp_path / "absent")
    (tmp_path / "nonsense").write_text("nonsense")
    ledger = ed25519.Ed25519PrivateKey.generate()
    (tmp_path / "ed").write_bytes(ledger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "ed.pub").write_bytes(ledger.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for path in (tmp_path / "nonsense", tmp_path / "ed", keys[1], tmp_path):
        with pytest.raises(InvalidInput, match=path.name):
            read_signing_key(path)
    for path in (tmp_path / "nonsense", tmp_path / "ed.pub", keys[0]):
        with pytest.raises(InvalidInput, match=path.name):
            read_verifying_key(path)


def test_key_in_a_missing_directory(tmp_path):
    """A key that cannot be written is refused in a sentence."""
    with pytest.raises(InvalidInput, match="cannot be written"):
        make_key(tmp_path / "absent" / "key")
