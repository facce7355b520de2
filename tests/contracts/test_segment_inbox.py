"""The contract of SegmentInbox, over memory and files."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from mendel.adapters.files import FileInbox
from mendel.adapters.memory.predictions import MemoryInbox
from mendel.errors import AlreadyExists, DigestMismatch, InvalidValue, SegmentCorrupt, StoreUnavailable
from mendel.predictions import LabelRow, Spool, sealed_segments
from mendel.values import Digest

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(params=["memory", "files"])
def inbox(request, tmp_path):
    return MemoryInbox() if request.param == "memory" else FileInbox(tmp_path / "inbox")


@pytest.fixture
def make_segment(tmp_path_factory):
    def make(spool_id, seq, outcome=1):
        """A sealed segment of one label, with the number asked for."""
        directory = tmp_path_factory.mktemp("spool")
        label = LabelRow(prediction_id="p", true_label=outcome, label_source="t", received_at=NOW)
        with Spool(directory, spool_id) as spool:
            for _ in range(seq):
                spool.append_labels([label])
                spool.seal()
        return sealed_segments(directory)[-1].path.read_bytes()

    return make


def checksum(content):
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


def waiting(inbox):
    return [(segment.spool_id, segment.seq) for segment in inbox.pending()]


def test_what_was_put_is_read_until_removed(inbox, make_segment):
    """A segment waits with its bytes and size, and removing it twice is once."""
    content = make_segment("s1", 1)
    inbox.put("s1", 1, content, checksum(content))
    [segment] = inbox.pending()
    assert segment.size_bytes == len(content)
    assert inbox.read("s1", 1) == content
    inbox.remove("s1", 1)
    inbox.remove("s1", 1)
    assert (inbox.pending(), inbox.read("s1", 1)) == ((), None)


def test_pending_is_sorted(inbox, make_segment):
    """Segments are listed by spool and number, not by arrival."""
    for spool_id, seq in [("b", 1), ("a", 10), ("a", 9)]:
        content = make_segment(spool_id, seq)
        inbox.put(spool_id, seq, content, checksum(content))
    assert waiting(inbox) == [("a", 9), ("a", 10), ("b", 1)]


def test_the_same_again_changes_nothing(inbox, make_segment):
    """A sender that never heard the answer may send again."""
    content = make_segment("s1", 1)
    for _ in range(3):
        inbox.put("s1", 1, content, checksum(content))
    assert waiting(inbox) == [("s1", 1)]


def test_other_content_under_a_number_is_refused(inbox, make_segment):
    """Two spools with one id are noticed, and the first content stays."""
    first, second = make_segment("s1", 1, 0), make_segment("s1", 1, 1)
    inbox.put("s1", 1, first, checksum(first))
    with pytest.raises(AlreadyExists):
        inbox.put("s1", 1, second, checksum(second))
    assert inbox.read("s1", 1) == first


def test_what_was_changed_on_the_way_is_refused(inbox, make_segment):
    """Bytes without their checksum, of another name, or not whole, never wait."""
    content = make_segment("s1", 1)
    with pytest.raises(DigestMismatch):
        inbox.put("s1", 1, content[:-1], checksum(content))
    with pytest.raises(SegmentCorrupt):
        inbox.put("s1", 1, content[:-1], checksum(content[:-1]))
    with pytest.raises(SegmentCorrupt):
        inbox.put("s2", 1, content, checksum(content))
    assert inbox.pending() == ()


def test_concurrent_puts_leave_one_of_each(inbox, make_segment):
    """Many senders at once, some with the same segment, leave every segment once and whole."""
    contents = {seq: make_segment("s1", seq) for seq in range(1, 6)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seq: inbox.put("s1", seq, contents[seq], checksum(contents[seq])), [*contents] * 8))
    assert waiting(inbox) == [("s1", seq) for seq in contents]
    assert all(inbox.read("s1", seq) == content for seq, content in contents.items())


def test_of_two_different_at_once_one_is_refused(inbox, make_segment):
    """A race under one number has one winner, and the loser hears of it."""
    contents = [make_segment("s1", 1, outcome) for outcome in (0, 1)]

    def put(content):
        try:
            inbox.put("s1", 1, content, checksum(content))
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(put, contents)) == [False, True]
    assert inbox.read("s1", 1) in contents


class TestFiles:
    def test_it_survives_the_process(self, tmp_path, make_segment):
        """What was put is there after opening again; what was half written is not."""
        content = make_segment("s1", 1)
        FileInbox(tmp_path).put("s1", 1, content, checksum(content))
        (tmp_path / "s1" / "half.part").write_bytes(b"half")
        again = FileInbox(tmp_path)
        assert waiting(again) == [("s1", 1)]
        assert [path.suffix for path in (tmp_path / "s1").iterdir()] == [".segment"]

    def test_names_cannot_leave_the_directory(self, tmp_path):
        """A spool id with a path in it is refused."""
        with pytest.raises(InvalidValue):
            FileInbox(tmp_path / "inbox").read("../outside", 1)

    def test_a_disk_that_does_not_take_it_is_said(self, tmp_path, make_segment):
        """A failing disk is StoreUnavailable, so that the sender keeps the segment."""
        inbox = FileInbox(tmp_path / "inbox")
        (tmp_path / "inbox" / "s1").write_text("in the way")
        content = make_segment("s1", 1)
        with pytest.raises(StoreUnavailable):
            inbox.put("s1", 1, content, checksum(content))
