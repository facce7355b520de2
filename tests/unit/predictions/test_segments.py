"""The segment file: what is written is read, and what is torn or changed is noticed."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from uuid import RFC_4122, UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from mendel.errors import DigestMismatch, SegmentCorrupt, ShapeMismatch
from mendel.predictions import LabelRow, PredictionBlock, check_segment, id_micros, id_texts, mint_ids, pack_ids
from mendel.predictions.encoding import decode_block, decode_labels, encode_block, encode_labels
from mendel.predictions.segments import (
    BLOCK,
    LABELS,
    decode_frames,
    encode_frame,
    parse_segment,
    segment_footer,
    segment_header,
    whole_frames,
)
from mendel.values import Digest, ModelName, from_micros

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text()
MICROS = st.integers(0, 4_000_000_000_000_000)


def objects(values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def one_or_each(draw, single, rows, kind):
    return draw(single | st.lists(single, min_size=rows, max_size=rows).map(lambda v: np.array(v, dtype=kind)))


@st.composite
def columns(draw, rows):
    floats = stn.arrays(np.float64, rows)
    truths = stn.arrays(np.bool_, rows)
    mixed = st.lists(SCALARS, min_size=rows, max_size=rows).map(objects)
    return draw(floats | truths | mixed)


@st.composite
def blocks(draw):
    rows, width, classes = draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    texts = st.lists(st.none() | st.text(max_size=5), min_size=rows, max_size=rows).map(tuple)
    separate = st.tuples(*[columns(rows)] * width)
    return PredictionBlock(
        model=ModelName("credit"),
        version=draw(st.integers(1, 99)),
        uuid="m-" + "a" * 32,
        generation=draw(st.integers(0, 99)),
        prediction_ids=draw(st.binary(min_size=16 * rows, max_size=16 * rows)),
        timestamp_micros=one_or_each(draw, MICROS, rows, np.int64),
        door=draw(
            st.just("rest") | st.lists(st.sampled_from(["rest", "zmq"]), min_size=rows, max_size=rows).map(tuple)
        ),
        feature_names=tuple(f"f{place}" for place in range(width)),
        features=draw(stn.arrays(np.float64, (rows, width)) | separate),
        predictions=draw(st.none() | columns(rows)),
        latency_ms=one_or_each(draw, st.floats(0, 1e6), rows, np.float64),
        release_tag=draw(st.none() | st.text(max_size=5)),
        image_digest=draw(st.none() | st.just(f"sha256:{'5' * 64}")),
        correlation_ids=draw(st.none() | st.text(max_size=5) | texts),
        probabilities=draw(stn.arrays(np.float64, (rows, classes))) if classes else None,
        classes=tuple(str(place) for place in range(classes)),
        event_micros=draw(st.none() | st.lists(st.none() | MICROS, min_size=rows, max_size=rows).map(tuple)),
        ood=draw(st.none() | stn.arrays(np.bool_, rows)),
        errors=draw(st.none() | texts),
        shadow=draw(st.booleans()),
        simulated=one_or_each(draw, st.booleans(), rows, np.bool_),
    )


def same(left, right):
    if isinstance(left, np.ndarray):
        return (left.dtype == right.dtype and left.tolist() == right.tolist()) or np.array_equal(
            left, right, equal_nan=True
        )
    if isinstance(left, tuple) and left and isinstance(left[0], np.ndarray):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


def sealed(*frames, rows=0, labels=0, spool_id="s1", seq=1):
    whole = segment_header(spool_id, seq) + b"".join(frames)
    return whole + segment_footer(rows=rows, labels=labels, sha256=hashlib.sha256(whole).digest())


def checksum(content):
    return Digest(f"sha256:{hashlib.sha256(content).hexdigest()}")


class TestEncoding:
    @given(block=blocks())
    def test_block_comes_back_as_it_was(self, block):
        """Every field of every block survives the disk, nulls, NaNs and mixed columns included."""
        block.check()
        again = decode_block(encode_block(block))
        for field in dataclasses.fields(PredictionBlock):
            assert same(getattr(block, field.name), getattr(again, field.name)), field.name

    @given(outcome=SCALARS, received=MICROS, known=st.none() | MICROS)
    def test_label_comes_back_as_it_was(self, outcome, received, known):
        """A label of any scalar survives the disk."""
        label = LabelRow(
            prediction_id="p",
            true_label=outcome,
            label_source="test",
            received_at=from_micros(received),
            label_timestamp=None if known is None else from_micros(known),
        )
        assert decode_labels(encode_labels([label])) == (label,)

    def test_what_msgpack_cannot_say_is_kept_as_text(self, make_block):
        """Integers beyond 64 bits and broken text never make an append fail."""
        odd = objects([2**70, "\ud800", 1 + 2j])
        again = decode_block(encode_block(make_block(3, feature_names=("x",), features=(odd,))))
        assert again.features[0].tolist() == [str(2**70), "?", "(1+2j)"]

    def test_numpy_scalars_in_object_columns_become_plain(self, make_block):
        """An object column may hold numpy's own numbers."""
        odd = objects([np.float32(0.5), np.int64(3), np.bool_(True)])
        again = decode_block(encode_block(make_block(3, predictions=odd)))
        assert again.predictions.tolist() == [0.5, 3, True]

    def test_ids_pack_and_unpack(self):
        """Minted ids are UUIDv7s of their time, all different, and read the same both ways."""
        packed = mint_ids(100, micros=1_700_000_000_123_456, randbytes=random.Random(0).randbytes)
        texts = id_texts(packed)
        assert len(set(texts)) == 100
        assert {id_micros(text) for text in texts} == {1_700_000_000_123_000}
        assert pack_ids(texts) == packed
        assert id_micros("no uuid") is None

    @pytest.mark.parametrize("count", [1, 3])
    def test_ids_sort_by_time(self, count):
        """An id of a later millisecond is greater; version and variant are those of RFC 9562."""
        chance = random.Random(0).randbytes
        first, later = (id_texts(mint_ids(count, micros=at, randbytes=chance)) for at in (10**15, 10**15 + 1000))
        assert max(first) < min(later)
        assert {(UUID(text).version, UUID(text).variant) for text in first + later} == {(7, RFC_4122)}

    def test_columns_of_different_lengths_are_refused_by_name(self, make_block):
        """A block that does not fit itself is named before it reaches the log."""
        with pytest.raises(ShapeMismatch, match="predictions"):
            make_block(3, predictions=np.ones(2)).check()


class TestSegments:
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.floats(0, 1))
    def test_any_truncation_leaves_a_prefix_of_whole_frames(self, make_block, cut):
        """Wherever a file is cut, its whole frames are read and the torn one is not."""
        frames = [encode_frame(BLOCK, encode_block(make_block(rows))) for rows in (1, 3, 2)]
        whole = sealed(*frames, rows=6)
        prefix = whole_frames(whole[: int(cut * len(whole))])
        every = whole_frames(whole).frames
        assert prefix.frames == every[: len(prefix.frames)]
        assert prefix.size <= int(cut * len(whole))
        longer = every[: len(prefix.frames) + 1]
        assert len(prefix.frames) == len(every) or longer[-1].end > int(cut * len(whole))

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_changed_byte_is_noticed(self, make_block, data):
        """A sealed segment with one byte changed is refused."""
        whole = bytearray(sealed(encode_frame(BLOCK, encode_block(make_block(2))), rows=2))
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] ^= data.draw(st.integers(1, 255))
        with pytest.raises(SegmentCorrupt):
            parse_segment(bytes(whole))

    def test_blocks_and_labels_are_read_in_order(self, make_block, make_label):
        """A segment gives back its blocks and labels, each in the order of writing."""
        first, second = make_block(1), make_block(2)
        labels = [make_label("a"), make_label("b")]
        whole = sealed(
            encode_frame(BLOCK, encode_block(first)),
            encode_frame(LABELS, encode_labels(labels)),
            encode_frame(BLOCK, encode_block(second)),
            rows=3,
            labels=2,
        )
        segment = parse_segment(whole)
        assert [len(block) for block in segment.blocks] == [1, 2]
        assert list(segment.labels) == labels
        assert decode_frames(whole_frames(whole).frames)[1] == tuple(labels)

    def test_a_segment_must_be_what_it_is_sent_as(self):
        """The hub refuses a segment under another name, number or checksum."""
        content = sealed()
        check_segment("s1", 1, content, checksum(content))
        with pytest.raises(SegmentCorrupt, match="names another segment: 1 of spool s1"):
            check_segment("s1", 2, content, checksum(content))
        with pytest.raises(DigestMismatch):
            check_segment("s1", 1, content, checksum(b"other"))

    def test_counts_in_the_foot_must_hold(self, make_block):
        """A segment that was sealed over other rows than it holds is refused."""
        with pytest.raises(SegmentCorrupt, match="2 rows"):
            parse_segment(sealed(encode_frame(BLOCK, encode_block(make_block(1))), rows=2))
