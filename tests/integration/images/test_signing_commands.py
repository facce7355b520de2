import json
import subprocess
import sys

import pytest


@pytest.fixture
def mendel(tmp_path, monkeypatch):
    monkeypatch.delenv("MENDEL_SIGNING_PASSWORD", raising=False)

    def run(*words):
        command = [sys.executable, "-m", "mendel.app.cli", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def model(tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "model.joblib").write_text("weights")
    return tmp_path / "bert"


def test_from_key_to_refusal(mendel, model):
    """A key is made, a model signed and verified; once changed, the refusal names the file and exits with 1."""
    assert "private key, not encrypted" in mendel("signing-key", "new", "k").stdout
    assert "signature of 1 files" in mendel("sign", "model", "bert", "--key", "k").stdout
    verified = mendel("verify-model", "bert", "--key", "k.pub", "--json")
    assert json.loads(verified.stdout)["files"] == ["model.joblib"]
    (model / "model.joblib").write_text("poison")
    refused = mendel("verify-model", "bert", "--key", "k.pub")
    assert refused.returncode == 1
    assert "error: The files in bert differ from the signed files." in refused.stderr
    assert "  - model.joblib was changed" in refused.stderr


def test_encrypted_key(mendel, model, monkeypatch):
    """With a password in the environment the key is encrypted, and signs only where the password is."""
    monkeypatch.setenv("MENDEL_SIGNING_PASSWORD", "sesame")
    assert json.loads(mendel("signing-key", "new", "k", "--json").stdout)["encrypted"]
    signed = mendel("sign", "model", "bert", "--key", "k", "-o", "away.sig", "--ignore", "notes")
    assert signed.returncode == 0, signed.stderr
    (model / "notes").mkdir()
    (model / "notes" / "today").write_text("rain")
    verified = mendel("verify-model", "bert", "--signature", "away.sig", "--key", "k.pub")
    assert verified.returncode == 0, verified.stderr
    monkeypatch.delenv("MENDEL_SIGNING_PASSWORD")
    refused = mendel("sign", "model", "bert", "--key", "k")
    assert refused.returncode == 1
    assert "is encrypted" in refused.stderr
