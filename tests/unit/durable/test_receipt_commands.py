"""The documented check of a receipt: shell, openssl and sha256sum, without Mendel."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.app.cli.ledger import receipt_files
from mendel.durable import Notary
from mendel.values import EPOCH
from support.ledgers import event

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "check-a-receipt.md"
COVERED, SIGNED = "The checkpoint covers the entry.", "Signature Verified Successfully"


@pytest.fixture(scope="module")
def notary():
    unit = MemoryUnitOfWork({})
    for number in range(12):
        unit.write(lambda tx, number=number: tx.append(event(number)))
    notary = Notary(unit, MemorySigningKeys(), [MemoryAnchors()], lambda: "key")
    notary.checkpoint(EPOCH)
    return notary


@pytest.fixture
def checked(notary, tmp_path):
    """Writes the files of a receipt, lets *alter* change them, and gives what the documented commands print."""

    def check(sequence, alter=lambda directory: None):
        for name, text, _ in receipt_files(notary.receipt(sequence)):
            (tmp_path / name).write_text(text)
        alter(tmp_path)
        commands = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
        done = subprocess.run(["sh", "-c", commands], cwd=tmp_path, capture_output=True, text=True, timeout=60)  # noqa: PLW1510 - our own page
        return done.stdout

    return check


@pytest.mark.parametrize("sequence", [1, 6, 12, 13])
def test_a_receipt_is_checked_by_the_documented_commands(checked, notary, sequence):
    """Exactly the commands of the page confirm entry and signature, wherever the entry stands in the tree."""
    told = checked(sequence)
    assert COVERED in told
    assert SIGNED in told
    assert hashlib.sha256(notary.receipt(sequence).entry.encode()).hexdigest() in told


def replaced(file, old, new):
    def alter(directory):
        text = (directory / file).read_text()
        (directory / file).write_text(text.replace(old, new, 1))

    return alter


@pytest.mark.parametrize(
    ("alter", "kept"),
    [
        (replaced("entry", "ann", "bob"), SIGNED),
        (replaced("checkpoint", "\n13\n", "\n14\n"), COVERED),
        (replaced("checkpoint", "at 1970", "at 1971"), COVERED),
    ],
    ids=["entry", "size", "time"],
)
def test_an_altered_receipt_is_refused(checked, alter, kept):
    """A changed entry leads to another root, and a changed checkpoint does not fit its signature."""
    told = checked(6, alter)
    assert {line for line in (COVERED, SIGNED) if line in told} == {kept}
