"""The commands of the ledger on a data directory without a hub: checkpoints, copies elsewhere, receipts, keys."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from mendel.app.settings import HubSettings, Settings
from mendel.app.wiring import open_rooms


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A directory whose ledger was signed twice, with copies of the checkpoints elsewhere."""
    root = tmp_path_factory.mktemp("prepared")
    settings = Settings(directory=str(root / ".mendel"), hub=HubSettings(anchor_copies=(str(root / "copies"),)))
    with open_rooms(settings) as rooms:
        for _ in range(2):
            rooms.registry.keys.add(("read",), "reader", by="ann")
            rooms.notary.checkpoint(datetime.now(UTC))
    return root


@pytest.fixture
def house(prepared, tmp_path, monkeypatch):
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_copies_elsewhere_confirm_the_ledger(mendel, house):
    """With the copies, and with the public key that an auditor kept, an untouched ledger holds."""
    (house / "key.pem").write_text(json.loads(mendel("ledger", "keys", "--json").out)[0]["pem"])
    for words in ([], ["--anchors", "copies"], ["--anchors", "copies", "--key", "key.pem"]):
        said = mendel("ledger", "verify", *words)
        assert (said.code, said.out.splitlines()[-1][:38]) == (0, "Signed anchors confirm the entries up ")


def test_copies_elsewhere_reveal_what_the_installation_cannot(mendel, house):
    """Someone who cuts entries, tree, head row, record and anchors leaves a ledger that only the copies contradict."""
    (house / "key.pem").write_text(json.loads(mendel("ledger", "keys", "--json").out)[0]["pem"])
    with closing(sqlite3.connect(house / ".mendel" / "mendel.db")) as database:
        (entry,) = database.execute("SELECT hash FROM ledger WHERE sequence = 2").fetchone()
        (peak,) = database.execute("SELECT hash FROM ledger_tree WHERE size = 2 AND level = 1").fetchone()
        for table, column in (("ledger", "sequence"), ("ledger_tree", "size"), ("ledger_checkpoints", "size")):
            database.execute(f"DELETE FROM {table} WHERE {column} > 2")  # noqa: S608 - our own words
        database.execute("UPDATE ledger_head SET sequence = 2, hash = ?, peaks = ?", (entry, peak.hex()))
        database.commit()
    shutil.rmtree(house / ".mendel" / "artifacts" / "anchors")
    assert mendel("ledger", "verify").code == 0
    said = mendel("ledger", "verify", "--anchors", "copies", "--key", "key.pem")
    assert (said.code, said.out.count("tail cut: The copied anchor copies/")) == (1, 2)


def test_altered_copies_are_named(mendel, house):
    """A copy that was changed, that is no anchor, or that another key signed, is named with its file."""
    first, second = sorted((house / "copies").iterdir())
    first.write_text(first.read_text().replace("\nat 2", "\nat 3", 1))
    second.write_text("nonsense")
    said = mendel("ledger", "verify", "--anchors", "copies", "--json")
    findings = json.loads(said.out)["findings"]
    assert [(one["kind"], one["place"]) for one in findings] == [
        ("anchor changed", f"anchor copies/{first.name}"),
        ("anchor changed", f"anchor copies/{second.name}"),
    ]
    assert said.code == 1
    assert mendel("ledger", "verify", "--anchors", "nowhere").err.startswith("error: nowhere contains no checkpoint")


def test_a_receipt_is_written_as_files(mendel, house):
    """Each file of a receipt is named; a checkpoint makes a receipt possible."""
    mendel("keys", "add", "--scope", "read", "--label", "more")
    assert "No checkpoint covers entry 5 yet" in mendel("ledger", "receipt", "5").err
    assert mendel("ledger", "checkpoint").out.splitlines()[1] == "5"
    assert mendel("ledger", "receipt", "5").code == 0
    said = mendel("ledger", "receipt", "2", "--output", "receipt")
    assert (said.code, len(said.out.splitlines())) == (0, 5)
    assert {path.name for path in (house / "receipt").iterdir()} == {
        "receipt.tlog-proof",
        "entry",
        "proof",
        "checkpoint",
        "key.pem",
    }
    assert mendel("ledger", "receipt", "2").out == (house / "receipt" / "receipt.tlog-proof").read_text()


def test_a_key_is_rotated(mendel, house):
    """The new key signs, the former one is listed, and everything that it signed still verifies."""
    former = json.loads(mendel("ledger", "keys", "--json").out)[0]["id"]
    said = mendel("ledger", "rotate-key")
    assert said.out.startswith("Checkpoints are now signed with the key ")
    listed = mendel("ledger", "keys").out
    assert f"{former}: signed formerly; named by entry 3" in listed
    assert "signs; named by entry" in listed
    assert mendel("ledger", "verify", "--anchors", "copies").code == 0
    (house / ".mendel" / "ledger.key").unlink()
    assert "rotate-key --lost" in mendel("ledger", "rotate-key").err
    assert mendel("ledger", "rotate-key", "--lost").code == 0
    assert mendel("ledger", "verify").code == 0
