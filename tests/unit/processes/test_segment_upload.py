"""What a server sends."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from mendel.adapters.processes.segment_upload import Reporting, SegmentUpload
from mendel.errors import Conflict, HubUnavailable
from mendel.predictions import LabelRow, Spool, check_segment, sealed_segments
from mendel.values import ServerReport
from support.waiting import until_async

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Intake:
    """Keeps what it is sent, as the hub does; may be away, or answer and be cut off before the answer arrives."""

    def __init__(self):
        self.segments, self.reports = {}, []
        self.away = self.cut_off = False
        self.refuse = set()

    async def put_segment(self, segment):
        if self.away:
            raise HubUnavailable("away")
        if (segment.spool_id, segment.seq) in self.refuse:
            raise Conflict("other content")
        self._check(segment)
        known = self.segments.setdefault((segment.spool_id, segment.seq), segment.path.read_bytes())
        assert known == segment.path.read_bytes()
        if self.cut_off:
            raise HubUnavailable("cut off")

    @staticmethod
    def _check(segment):
        check_segment(segment.spool_id, segment.seq, segment.path.read_bytes(), segment.checksum)

    async def post_report(self, report):
        if self.away:
            raise HubUnavailable("away")
        self.reports.append(report)


@pytest.fixture
def intake():
    """A memory in place of the hub."""
    return Intake()


@pytest.fixture
def spools(tmp_path):
    """Two spools with three sealed segments each."""
    for slot in "01":
        with Spool(tmp_path / slot, f"s.{slot}") as spool:
            for number in range(3):
                row = LabelRow(
                    prediction_id=f"0190163d-8694-7abc-8def-00000000000{number}",
                    true_label=number,
                    label_source="test",
                    received_at=NOW,
                )
                assert spool.append_labels([row])
                spool.seal()
    return tmp_path


@pytest.fixture
def upload(intake, spools, rng):
    """The upload of both spools."""
    return SegmentUpload(intake, spools, rng=rng, every=timedelta(milliseconds=10))


async def test_sends_everything_in_order_and_removes_what_was_taken(upload, intake, spools):
    """After one pass the hub has every segment, each spool's in order, and the disk is free again."""
    assert upload.waiting == 6
    await upload.send_all()
    assert list(intake.segments) == [(f"s.{slot}", seq) for slot in "01" for seq in (1, 2, 3)]
    assert upload.waiting == 0


async def test_nothing_is_lost_while_the_hub_is_away(upload, intake):
    """Segments wait on disk, and go when it is back."""
    intake.away = True
    task = asyncio.create_task(upload.run())
    await asyncio.sleep(0.05)
    assert upload.waiting == 6
    intake.away = False
    await until_async(lambda: not upload.waiting)
    task.cancel()
    assert len(intake.segments) == 6


async def test_an_answer_that_was_lost_is_asked_for_again(upload, intake):
    """A segment that was taken without our hearing so is sent again and is the same."""
    intake.cut_off = True
    with pytest.raises(HubUnavailable):
        await upload.send_all()
    assert upload.waiting == 6
    intake.cut_off = False
    await upload.send_all()
    assert upload.waiting == 0
    assert len(intake.segments) == 6


async def test_a_refused_segment_stops_its_own_spool_only(upload, intake, spools):
    """What follows a segment that the hub refuses for good must not overtake it; other spools go on, and it is told."""
    intake.refuse.add(("s.0", 2))
    await upload.send_all()
    assert [segment.seq for segment in sealed_segments(spools / "0")] == [2, 3]
    assert sealed_segments(spools / "1") == ()
    assert list(upload.refused) == ["s.0"]


async def test_a_damaged_segment_is_sent_with_what_is_whole(upload, intake, spools):
    """A disk that flips a bit costs the frame it stands in, not the spool; the damaged file is kept aside."""
    second = sealed_segments(spools / "0")[1].path
    content = bytearray(second.read_bytes())
    content[len(content) // 2] ^= 0xFF
    second.write_bytes(content)
    await upload.send_all()
    assert upload.waiting == 0
    assert upload.refused == {}
    assert len(intake.segments) == 6
    assert second.with_suffix(".corrupt").read_bytes() == bytes(content)


async def test_reports_count_on_and_a_lost_one_is_replaced(intake):
    """Sequence numbers grow with every report made; after an outage the next report carries everything."""

    def draw_up(seq):
        return ServerReport(server="s", epoch="e", seq=seq, at=NOW, revision=1, ready=True, spool={})

    reporting = Reporting(intake, draw_up, every=timedelta(seconds=2))
    assert await reporting.send()
    intake.away = True
    assert not await reporting.send()
    intake.away = False
    assert await reporting.send()
    assert [(report.epoch, report.seq) for report in intake.reports] == [("e", 1), ("e", 3)]


async def test_a_change_is_reported_at_once():
    """After :meth:`hasten` the next report does not wait for its interval, so that the hub believes no old state."""
    intake = Intake()

    def draw_up(seq):
        return ServerReport(server="s", epoch="e", seq=seq, at=NOW, revision=1, ready=True, spool={})

    reporting = Reporting(intake, draw_up, every=timedelta(hours=1))
    running = asyncio.get_running_loop().create_task(reporting.run())
    await until_async(lambda: len(intake.reports) == 1)
    reporting.hasten()
    await until_async(lambda: len(intake.reports) == 2)
    running.cancel()
