"""The contract of Anchors, over memory and files; and what damage to the files says."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import pytest

from mendel.adapters.files import FileAnchors
from mendel.adapters.memory import MemoryUnitOfWork, all_stores
from mendel.adapters.memory.anchors import MemoryAnchors
from mendel.durable import Event, Ledger, check_anchor, verify_chain
from mendel.errors import Corrupt, LedgerBroken
from mendel.values import EPOCH, from_json, to_json

HOUR = timedelta(hours=1)


@pytest.fixture
def unit():
    return MemoryUnitOfWork(all_stores())


@pytest.fixture
def happen(unit):
    numbers = count(1)

    def append(times=1):
        for _ in range(times):
            event = Event(id=f"e{next(numbers)}", type="a", subject="s", time=EPOCH, actor="ann", data={})
            unit.write(lambda tx, event=event: tx.append(event))

    return append


@pytest.fixture
def files(tmp_path):
    return FileAnchors(tmp_path / "anchors", tmp_path / "ledger.key")


@pytest.fixture(params=["memory", "files"])
def anchors(request):
    return MemoryAnchors() if request.param == "memory" else request.getfixturevalue("files")


class TestEvery:
    def test_the_head_is_signed_once(self, unit, anchors, happen):
        """An empty ledger has nothing to sign; one that stands still is signed once; one that grew, again."""
        assert anchors.sign(unit, EPOCH) is None
        assert (anchors.all(), anchors.trusted()) == ((), ())
        happen(3)
        first = anchors.sign(unit, EPOCH)
        assert first.sequence == 3
        assert anchors.sign(unit, EPOCH + HOUR) is None
        happen()
        second = anchors.sign(unit, EPOCH + 2 * HOUR)
        assert anchors.all() == (first, second)
        assert {first.public_key, second.public_key} == set(anchors.trusted())

    def test_what_was_signed_is_checked(self, unit, anchors, happen):
        """Each anchor holds against its entry, and against no other."""
        happen(2)
        anchor = anchors.sign(unit, EPOCH)
        one, two = unit.read(lambda tx: tx.store(Ledger).entries())
        assert verify_chain((one, two)).last == 2
        check_anchor(anchor, two, trusted=anchors.trusted())
        with pytest.raises(LedgerBroken):
            check_anchor(anchor, one, trusted=anchors.trusted())


class TestFiles:
    def test_the_key_is_for_its_owner_only(self, unit, files, happen, tmp_path):
        """The private key is made at the first signature, and nobody else may read it."""
        happen()
        files.sign(unit, EPOCH)
        assert (tmp_path / "ledger.key").stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sequence": "x"}', b"\xff"])
    def test_a_file_that_is_no_anchor_is_corrupt(self, unit, files, happen, tmp_path, content):
        """Damage is told with the file's name and what to do, never skipped."""
        happen()
        files.sign(unit, EPOCH)
        (path,) = (tmp_path / "anchors").glob("*.json")
        path.write_bytes(content)
        with pytest.raises(Corrupt, match=r"000000000001\.json cannot be read") as caught:
            files.all()
        assert "backup" in caught.value.remedy

    def test_an_altered_anchor_is_noticed(self, unit, files, happen, tmp_path):
        """An anchor whose time was moved was not signed like that."""
        happen()
        files.sign(unit, EPOCH)
        (path,) = (tmp_path / "anchors").glob("*.json")
        path.write_bytes(to_json(from_json(path.read_bytes(), dict) | {"at": "2030-01-01T00:00:00Z"}))
        (altered,) = files.all()
        (entry,) = unit.read(lambda tx: tx.store(Ledger).entries())
        with pytest.raises(LedgerBroken, match="signature"):
            check_anchor(altered, entry, trusted=files.trusted())
