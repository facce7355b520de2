"""The spool: what was acknowledged is there, what was refused is not, and it says which."""

from __future__ import annotations

import os
import resource
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.errors import DirectoryInUse, InvalidSettings, InvalidValue, SegmentCorrupt
from mendel.predictions import (
    FeaturePrivacy,
    Spool,
    SpoolPolicy,
    id_texts,
    read_segment,
    salvage,
    seal_orphans,
    sealed_segments,
    spool_identity,
)
from mendel.predictions.segments import BLOCK, encode_frame, segment_header
from mendel.values import from_mapping

DROP, HASH = FeaturePrivacy.DROP, FeaturePrivacy.HASH


def logged(directory):
    """Every prediction id in the sealed segments, in order."""
    return [
        name
        for segment in sealed_segments(directory)
        for block in read_segment(segment.path).blocks
        for name in id_texts(block.prediction_ids)
    ]


def numbers(directory):
    return [segment.seq for segment in sealed_segments(directory)]


class TestSealing:
    def test_by_age(self, tmp_path, make_block, now):
        """A segment is sealed when its first row is two seconds old, and not before."""
        with Spool(tmp_path, "s1") as spool:
            assert spool.append(make_block(2, at=now))
            spool.tick(now + timedelta(seconds=1.99))
            assert numbers(tmp_path) == []
            spool.tick(now + timedelta(seconds=2))
            assert numbers(tmp_path) == [1]

    def test_by_size(self, tmp_path, make_block):
        """A segment is sealed as soon as it has its size."""
        with Spool(tmp_path, "s1", policy=SpoolPolicy(segment_bytes=2000)) as spool:
            while not sealed_segments(tmp_path):
                spool.append(make_block(1))
            assert 2000 <= sealed_segments(tmp_path)[0].path.stat().st_size < 3000

    def test_by_closing(self, tmp_path, make_block, make_label):
        """Leaving the spool seals rows and labels in the order they came."""
        block = make_block(3)
        with Spool(tmp_path, "s1") as spool:
            spool.append(block)
            spool.append_labels([make_label("a"), make_label("b")])
        segment = read_segment(sealed_segments(tmp_path)[0].path)
        assert logged(tmp_path) == id_texts(block.prediction_ids)
        assert [label.prediction_id for label in segment.labels] == ["a", "b"]
        assert (segment.spool_id, segment.seq) == ("s1", 1)

    def test_what_holds_nothing_is_not_sealed(self, tmp_path, now):
        """An idle spool makes no segments."""
        with Spool(tmp_path, "s1") as spool:
            spool.tick(now)
            spool.seal()
            assert spool.append_labels([])
        assert numbers(tmp_path) == []


class TestOwnership:
    def test_one_writer(self, tmp_path):
        """A second spool on the same directory is refused while the first is open."""
        with Spool(tmp_path, "s1"), pytest.raises(DirectoryInUse):
            Spool(tmp_path, "s1")
        Spool(tmp_path, "s1").close()

    def test_one_id_for_ever(self, tmp_path):
        """A directory keeps the id it was first given."""
        Spool(tmp_path, "s1").close()
        with pytest.raises(InvalidValue, match="belongs to spool s1"):
            Spool(tmp_path, "s2")
        assert spool_identity(tmp_path, lambda: "s3") == "s1"
        assert spool_identity(tmp_path / "new", lambda: "s3") == "s3"

    @pytest.mark.parametrize("bad", ["", "..", "a/b", "é", "x" * 129])
    def test_ids_fit_a_path(self, tmp_path, bad):
        """A spool id that could leave its directory is refused."""
        with pytest.raises(InvalidValue):
            Spool(tmp_path, bad)

    def test_closed_spool_takes_nothing(self, tmp_path, make_block):
        """Appending after closing answers False and says why."""
        spool = Spool(tmp_path, "s1")
        spool.close()
        spool.close()
        assert not spool.append(make_block(1))
        assert spool.condition.degraded == "The spool (prediction log) is closed, because the server is stopping."


class TestRecovery:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
    @given(cut=st.integers(0, 2000))
    def test_torn_tail_is_cut_off(self, tmp_path_factory, make_block, cut):
        """However a killed writer's file was torn, its whole batches are sealed and nothing else."""
        directory = tmp_path_factory.mktemp("torn")
        batches = [make_block(rows) for rows in (1, 3, 2)]
        with Spool(directory, "s1") as spool:
            ends = []
            for block in batches:
                spool.append(block)
                ends.append(spool._segment.size)
        [segment] = sealed_segments(directory)
        content = segment.path.read_bytes()[:cut]
        for path in directory.glob("0*"):
            path.unlink()
        (directory / f"{1:016d}.open").write_bytes(content)
        with Spool(directory, "s1") as spool:
            whole = [block for block, end in zip(batches, ends, strict=True) if end <= len(content)]
            assert logged(directory) == [name for block in whole for name in id_texts(block.prediction_ids)]
            assert spool.condition.recovered == sum(map(len, whole))
            spool.append(make_block(1))
        assert numbers(directory) == ([1, 2] if whole else [1])

    def test_numbers_go_on_when_everything_was_sent(self, tmp_path, make_block):
        """A number is never given twice, even when no segment is left to remember it."""
        for expected in (1, 2, 3):
            with Spool(tmp_path, "s1") as spool:
                spool.append(make_block(1))
            assert numbers(tmp_path) == [expected]
            sealed_segments(tmp_path)[0].path.unlink()

    def test_killed_between_the_next_segment_and_sealing(self, tmp_path, make_block):
        """Two open segments are one interrupted sealing: the first is sealed, the second goes on."""
        block = make_block(2)
        spool = Spool(tmp_path, "s1")
        spool.append(block)
        (tmp_path / f"{2:016d}.open").touch()
        spool._segment.close()
        os.close(spool._lock)
        with Spool(tmp_path, "s1") as again:
            assert logged(tmp_path) == id_texts(block.prediction_ids)
            again.append(make_block(1))
        assert numbers(tmp_path) == [1, 2]

    def test_frames_nobody_can_read_are_set_aside(self, tmp_path, make_block):
        """A frame of an unknown shape does not keep the spool from opening, and leaves no gap in the numbers."""
        Spool(tmp_path, "s1").close()
        (tmp_path / f"{1:016d}.open").write_bytes(segment_header("s1", 1) + encode_frame(BLOCK, b"\xc0"))
        with Spool(tmp_path, "s1") as spool:
            spool.append(make_block(1))
        assert numbers(tmp_path) == [1, 2]
        assert len(list(tmp_path.glob("*.corrupt"))) == 1

    def test_salvage_keeps_the_whole_frames_of_a_damaged_segment(self, tmp_path, make_block):
        """A sealed segment that the disk damaged is replaced by one with what is whole, under its number."""
        first, second = make_block(1), make_block(1)
        with Spool(tmp_path, "s1") as spool:
            spool.append(first)
            middle = spool._segment.size
            spool.append(second)
        [segment] = sealed_segments(tmp_path)
        content = bytearray(segment.path.read_bytes())
        content[middle + 20] ^= 1
        segment.path.write_bytes(content)
        with pytest.raises(SegmentCorrupt):
            read_segment(segment.path)
        salvage(segment)
        assert logged(tmp_path) == id_texts(first.prediction_ids)

    def test_orphans_are_sealed_and_living_spools_left_alone(self, tmp_path, make_block):
        """What a dead worker left is sealed by whoever looks; a living one is not disturbed."""
        dead = Spool(tmp_path / "dead", "s1")
        dead.append(make_block(1))
        dead._segment.close()
        os.close(dead._lock)
        with Spool(tmp_path / "living", "s2") as living:
            living.append(make_block(1))
            assert seal_orphans(tmp_path) == (tmp_path / "dead",)
            assert numbers(tmp_path / "dead") == [1]
            assert numbers(tmp_path / "living") == []


class TestFull:
    def test_bound_refuses_loudly_and_heals(self, tmp_path, make_block, now):
        """Above its bytes a spool takes nothing and says so; when segments were sent, it takes rows again."""
        with Spool(tmp_path, "s1", policy=SpoolPolicy(max_bytes=4000)) as spool:
            taken = []
            while spool.append(block := make_block(1)):
                taken += id_texts(block.prediction_ids)
            assert "limit of 4000 bytes" in spool.condition.degraded
            assert spool.condition.refused == 1
            spool.seal()
            assert logged(tmp_path) == taken
            sealed_segments(tmp_path)[0].path.unlink()
            spool.tick(now)
            assert spool.condition.degraded is None
            assert spool.append(make_block(1))

    def test_disk_without_room(self, tmp_path, make_block):
        """A real ENOSPC is answered False and named; the next append with room is taken."""
        with Spool(tmp_path, "s1") as spool:
            kept = make_block(1)
            assert spool.append(kept)
            file = os.dup(spool._segment.fd)
            full = os.open("/dev/full", os.O_WRONLY)
            os.dup2(full, spool._segment.fd)
            assert not spool.append(make_block(1))
            assert spool.condition.degraded == "The disk of the spool is full."
            os.dup2(file, spool._segment.fd)
            os.close(file)
            os.close(full)
            later = make_block(1)
            assert spool.append(later)
            assert spool.condition.degraded is None
        assert logged(tmp_path) == id_texts(kept.prediction_ids) + id_texts(later.prediction_ids)

    def test_half_a_frame_is_taken_back(self, tmp_path, make_block):
        """When the disk takes part of a batch and then no more, that part is cut off again."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        with Spool(tmp_path, "s1") as spool:
            kept = make_block(1)
            spool.append(kept)
            size = spool._segment.size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, limits[1]))
            try:
                assert not spool.append(make_block(1))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert spool.condition.degraded == "The disk of the spool is full."
            assert spool._segment.path.stat().st_size == size
        assert logged(tmp_path) == id_texts(kept.prediction_ids)

    def test_durable_appends(self, tmp_path, make_block):
        """With fsync per batch the spool keeps the same rows."""
        block = make_block(5)
        with Spool(tmp_path, "s1", policy=SpoolPolicy(fsync="batch")) as spool:
            assert spool.append(block)
        assert logged(tmp_path) == id_texts(block.prediction_ids)


class TestDiscretion:
    def features(self, directory):
        [block] = read_segment(sealed_segments(directory)[0].path).blocks
        return block.feature_names, block.features

    def test_dropped_features_never_reach_the_disk(self, tmp_path, make_block):
        """A dropped feature is in no segment; the others are as they were."""
        with Spool(tmp_path, "s1", policy=SpoolPolicy(features={"age": DROP})) as spool:
            spool.append(make_block(2))
        names, matrix = self.features(tmp_path)
        assert names == ("income",)
        assert matrix.tolist() == [[1.0], [3.0]]

    def test_hashed_features_keep_equality_and_nothing_else(self, tmp_path, make_block):
        """Equal values hash equally under one key, other keys give other hashes, and null stays null."""
        matrix = np.array([[31.0, 1.0], [31.0, 2.0], [np.nan, 3.0]])
        hashes = {}
        for key in ("one", "two"):
            directory = tmp_path / key
            policy = SpoolPolicy(features={"age": HASH}, feature_key=key)
            with Spool(directory, "s1", policy=policy) as spool:
                spool.append(make_block(3, features=matrix))
            _, (age, income) = self.features(directory)
            assert income.tolist() == [1.0, 2.0, 3.0]
            assert age[0] == age[1]
            assert age[2] is None
            hashes[key] = age[0]
        assert hashes["one"] != hashes["two"]

    def test_hashing_needs_a_key(self, tmp_path):
        """Hashing without a secret would be a guessing game, so it is refused."""
        with pytest.raises(InvalidSettings, match="feature_key is empty"):
            Spool(tmp_path, "s1", policy=SpoolPolicy(features={"age": HASH}))

    def test_policy_as_people_write_it(self):
        """The policy is read from configuration, and an unknown fsync is refused."""
        policy = from_mapping(SpoolPolicy, {"seal_after": "500ms", "features": {"name": "drop"}}, at="spool")
        assert policy == SpoolPolicy(seal_after=timedelta(milliseconds=500), features={"name": DROP})
        with pytest.raises(InvalidSettings):
            SpoolPolicy(fsync="sometimes")
