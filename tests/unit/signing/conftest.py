import sys
import types

import pytest

from mendel.adapters.signing import make_key, read_signing_key, read_verifying_key


@pytest.fixture
def keys(tmp_path):
    """A private and a public key, as files."""
    private = tmp_path / "signing.key"
    return private, make_key(private)


@pytest.fixture
def signer(keys):
    return read_signing_key(keys[0])


@pytest.fixture
def verifier(keys):
    return read_verifying_key(keys[1])


@pytest.fixture
def model(tmp_path):
    """A small model directory, with what git leaves in one."""
    tree = tmp_path / "bert"
    for name in ("MLmodel", "mendel/reference.json", "model.joblib", ".git/config"):
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return tree


@pytest.fixture
def reference(monkeypatch):
    """The reference implementation of OpenSSF Model Signing."""
    try:
        import OpenSSL  # noqa: F401, PLC0415 - only whether it is there
    except ModuleNotFoundError:
        # model-signing imports pyOpenSSL without declaring it, and needs it for certificates alone
        stand_in = types.ModuleType("OpenSSL")
        stand_in.crypto = types.ModuleType("OpenSSL.crypto")
        monkeypatch.setitem(sys.modules, "OpenSSL", stand_in)
    return pytest.importorskip("model_signing", reason="pip install model-signing")
