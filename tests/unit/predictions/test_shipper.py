"""The shipper: in order, without gaps, each row once."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.predictions import STORES
from mendel.durable import Leases
from mendel.errors import Fenced
from mendel.predictions import (
    LABELS_TABLE,
    PendingSegment,
    ProfileStore,
    Shipper,
    id_texts,
    plan_spool,
    predictions_table,
    sealed_segments,
)
from mendel.values import Digest, ModelName

CREDIT = ModelName("credit")


def progress(unit, spool_id="s1"):
    return unit.read(lambda tx: tx.store(ProfileStore).progress(spool_id))


def lake_ids(lake, model=CREDIT):
    return lake.snapshot(predictions_table(model)).read(columns=["prediction_id"])["prediction_id"].tolist()


def profiled(road):
    return sum(int(row.profile) for row in road.log.profile_rows(CREDIT, 3, "r1", road.window))


@given(numbers=st.sets(st.integers(1, 20)), done=st.integers(0, 20))
def test_a_plan_ships_what_follows_and_nothing_else(numbers, done):
    """Every segment is dropped, shipped or waits; what is shipped follows the progress without a gap."""
    pending = [PendingSegment(spool_id="s", seq=seq, size_bytes=1) for seq in sorted(numbers)]
    plan = plan_spool(pending, done)
    assert [*plan.recorded, *plan.next, *plan.waiting] == pending
    assert all(segment.seq <= done for segment in plan.recorded)
    assert [segment.seq for segment in plan.next] == list(range(done + 1, done + 1 + len(plan.next)))
    assert done + 1 + len(plan.next) not in {segment.seq for segment in plan.waiting}


def test_one_commit_for_many_segments(road, make_block, make_label, now):
    """A pass appends every waiting segment, records its profiles and its progress, and empties the inbox."""
    blocks = [make_block(rows) for rows in (1, 2, 3)]
    for block in blocks:
        road.spool.append(block)
        road.spool.append_labels([make_label(id_texts(block.prediction_ids)[0])])
        road.send()
    shipped = road.shipper.ship(now)
    assert (shipped.segments, shipped.rows, shipped.profiles) == (3, 9, 3)
    assert lake_ids(road.lake) == [name for block in blocks for name in id_texts(block.prediction_ids)]
    assert road.lake.snapshot(LABELS_TABLE).count() == 3
    assert (progress(road.unit), road.inbox.pending(), profiled(road)) == (3, (), 6)
    assert road.shipper.ship(now).segments == 0


def test_a_gap_waits(road, make_block, now):
    """Segments after a missing one wait until it comes, so that no mark passes it."""
    for _ in range(3):
        road.spool.append(make_block(1))
        road.send()
    held = road.inbox.read("s1", 2)
    road.inbox.remove("s1", 2)
    shipped = road.shipper.ship(now)
    assert (shipped.segments, shipped.waiting) == (1, 1)
    road.inbox.put("s1", 2, held, Digest(f"sha256:{hashlib.sha256(held).hexdigest()}"))
    assert road.shipper.ship(now).segments == 2
    assert len(lake_ids(road.lake)) == 3


def test_a_segment_that_comes_again_changes_nothing(road, make_block, now):
    """A segment put again after it was shipped is dropped unread."""
    road.spool.append(make_block(2))
    road.spool.seal()
    [segment] = sealed_segments(road.spool.directory)
    content, checksum = segment.path.read_bytes(), segment.checksum
    for _ in range(2):
        road.inbox.put("s1", 1, content, checksum)
        road.shipper.ship(now)
    assert (len(lake_ids(road.lake)), profiled(road), road.inbox.pending()) == (2, 2, ())


def test_a_database_older_than_the_lake_does_not_stop_the_road(road, make_block, now):
    """With the database lost, the lake's own marks tell where to go on, and nothing is doubled."""
    for _ in range(2):
        road.spool.append(make_block(1))
        road.send()
        road.shipper.ship(now)
    fresh = MemoryUnitOfWork(STORES)
    road.spool.append(make_block(1))
    road.send()
    assert Shipper(road.inbox, road.lake, fresh, lambda *_: []).ship(now).segments == 1
    assert (len(lake_ids(road.lake)), progress(fresh)) == (3, 3)


def test_a_pass_is_bounded(road, make_block, now):
    """A pass takes no more bytes than its bound, but always one segment."""
    for _ in range(3):
        road.spool.append(make_block(1))
        road.send()
    small = Shipper(road.inbox, road.lake, road.unit, lambda *_: [], max_bytes=1)
    assert [small.ship(now).segments for _ in range(4)] == [1, 1, 1, 0]


def test_a_damaged_segment_stops_its_spool_and_says_so(road, make_block, now):
    """What cannot be read is named and left, and what follows it waits."""
    for _ in range(2):
        road.spool.append(make_block(1))
        road.send()
    content, checksum = road.inbox._segments["s1", 1]
    road.inbox._segments["s1", 1] = (content[:-1], checksum)
    shipped = road.shipper.ship(now)
    assert [segment.seq for segment in shipped.corrupt] == [1]
    assert (shipped.segments, len(road.inbox.pending())) == (0, 2)


def test_without_the_lease_nothing_is_touched(road, make_block, now):
    """A shipper whose lease went to another changes neither lake nor inbox."""
    ttl = timedelta(seconds=1)
    lease = road.unit.write(lambda tx: tx.store(Leases).acquire("shipper", "a", now=now, ttl=ttl))
    later = now + timedelta(seconds=5)
    assert road.unit.write(lambda tx: tx.store(Leases).acquire("shipper", "b", now=later, ttl=ttl))
    road.spool.append(make_block(1))
    road.send()
    stale = Shipper(road.inbox, road.lake, road.unit.fenced(lease), lambda *_: [])
    with pytest.raises(Fenced):
        stale.ship(later)
    assert (road.lake.tables(), len(road.inbox.pending())) == ((), 1)


def test_two_shippers_at_once_double_nothing(road, make_block, now):
    """When another ships between this one's look and its append, this one is fenced by the lake itself."""
    road.spool.append(make_block(2))
    road.send()
    slow = Shipper(
        road.inbox,
        road.lake,
        road.unit,
        lambda *_: [],
        at=lambda point: road.shipper.ship(now) if point == "before:append" else None,
    )
    with pytest.raises(Fenced):
        slow.ship(now)
    assert (len(lake_ids(road.lake)), profiled(road)) == (2, 2)


def test_readers_see_every_row_once_at_every_point_of_a_pass(road, make_block, make_label, now):
    """Whoever reads while a pass runs sees each row, label and profile once, wherever the pass stands."""
    sent = []
    for rows in (2, 3):
        block = make_block(rows)
        sent += id_texts(block.prediction_ids)
        road.spool.append(block)
        road.spool.append_labels([make_label(sent[-1], rows)])
        road.send()
    seen = []

    def look(point):
        seen.append(point)
        assert road.log.predictions(CREDIT, road.window)["prediction_id"].tolist() == sent
        assert sorted(road.log.labelled(CREDIT, road.window)["label"]) == [2, 3]
        assert len(road.log.find(sent[-1]).labels) == 1
        assert profiled(road) == len(sent)

    look("start")
    road.shipper_that(look).ship(now)
    look("end")
    assert set(seen) == {"start", "before:append", "after:append", "after:profiles", "after:remove", "end"}
