"""The contracts of Anchors and SigningKeys, over memory and files."""

from __future__ import annotations

import stat
import subprocess

import pytest

from mendel.adapters.files import FileAnchors, FileSigningKeys
from mendel.adapters.git import GitAnchors
from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.durable import StoredAnchor
from mendel.errors import Conflict, StoreUnavailable

FIRST = StoredAnchor(name="000000000007.checkpoint", content="name\n7\nroot\n\n\u2014 name signature\n".encode())
FORMER = StoredAnchor(name="000000000003.json", content=b'{"sequence":3}')


@pytest.fixture
def repository(tmp_path):
    """A git repository with one commit."""
    commit = ("-c", "user.name=ann", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first")
    for arguments in (("init", "-q"), commit):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, timeout=60)
    return tmp_path


@pytest.fixture(params=["memory", "files", "git"])
def anchors(request, tmp_path):
    if request.param == "git":
        return GitAnchors(request.getfixturevalue("repository"))
    return MemoryAnchors() if request.param == "memory" else FileAnchors(tmp_path / "anchors")


@pytest.fixture(params=["memory", "files"])
def keys(request, tmp_path):
    return MemorySigningKeys() if request.param == "memory" else FileSigningKeys(tmp_path / "ledger.key")


class TestAnchors:
    def test_what_is_stored_is_found(self, anchors):
        """Anchors of both forms are given in the order of their sizes; storing one again changes nothing."""
        assert (anchors.all(), anchors.newest()) == ((), None)
        for anchor in (FIRST, FORMER, FIRST):
            anchors.put(anchor)
        assert anchors.all() == (FORMER, FIRST)
        assert anchors.newest() == FIRST

    def test_another_anchor_of_the_same_name_is_refused(self, anchors):
        """An anchor is never overwritten."""
        anchors.put(FIRST)
        with pytest.raises(Conflict):
            anchors.put(StoredAnchor(name=FIRST.name, content=b"other"))
        assert anchors.all() == (FIRST,)


class TestSigningKeys:
    def test_a_key_is_made_once(self, keys):
        """There is no key before the first one is made, and then it stays."""
        assert (keys.current(), keys.next()) == (None, None)
        made = keys.create()
        assert len(made) == 32
        assert keys.create() == keys.current() == made

    def test_a_prepared_key_replaces_the_current_one(self, keys):
        """A key is prepared once, signs when it is adopted, and the former one is gone."""
        former, new = keys.create(), keys.prepare_next()
        assert new == keys.prepare_next() == keys.next()
        assert keys.current() == former
        keys.adopt_next()
        keys.adopt_next()
        assert (keys.current(), keys.next()) == (new, None)


def test_keys_are_for_their_owner_only(tmp_path):
    """Nobody else may read the files of the private keys, and nothing else is left beside them."""
    keys = FileSigningKeys(tmp_path / "ledger.key")
    keys.create()
    keys.prepare_next()
    found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert found == {"ledger.key": 0o600, "ledger.key.next": 0o600}


def test_a_directory_without_git_is_unavailable(tmp_path):
    """A place that is no git repository says so for reading and writing."""
    for act in (lambda anchors: anchors.all(), lambda anchors: anchors.put(FIRST)):
        with pytest.raises(StoreUnavailable, match="not a git repository"):
            act(GitAnchors(tmp_path))


def test_a_directory_that_cannot_be_written_is_unavailable(tmp_path):
    """A store of anchors in whose place a file stands says which path cannot be written."""
    (tmp_path / "anchors").write_text("a file")
    with pytest.raises(StoreUnavailable, match="anchors"):
        FileAnchors(tmp_path / "anchors").put(FIRST)
