"""A disk that is really full."""

from __future__ import annotations

import os
import random
import subprocess
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest

from mendel.errors import StoreUnavailable
from mendel.predictions import PredictionBlock, Spool, id_texts, mint_ids, read_segment, sealed_segments
from mendel.values import ModelName, to_micros

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DISK_BYTES = 256 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip("needs the right to mount a tmpfs: run as root")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def block(rng, rows=20):
    return PredictionBlock(
        model=ModelName("credit"),
        version=1,
        uuid="m-" + "0" * 32,
        generation=1,
        prediction_ids=mint_ids(rows, micros=to_micros(NOW), randbytes=rng.randbytes),
        timestamp_micros=to_micros(NOW),
        door="rest",
        feature_names=("a",),
        features=np.ones((rows, 1)),
        predictions=np.ones(rows),
        latency_ms=0.5,
    )


def test_logging_stops_loudly_and_goes_on_when_there_is_room(small_disk):
    """Filled to the last byte and emptied again, the spool holds what it acknowledged and never said more."""
    rng = random.Random(2)
    taken = []
    ballast = small_disk / "ballast"
    ballast.write_bytes(os.urandom(64 * 1024))
    with Spool(small_disk / "spool", "s1") as spool:
        while spool.append(batch := block(rng)):
            taken += id_texts(batch.prediction_ids)
        assert spool.condition.degraded == "The disk of the spool is full."
        assert spool.condition.refused == 20
        spool.seal()
        assert sealed_segments(spool.directory) == ()
        assert not spool.append(block(rng))
        ballast.unlink()
        batch = block(rng)
        assert spool.append(batch)
        assert spool.condition.degraded is None
        taken += id_texts(batch.prediction_ids)
    logged = [
        name
        for segment in sealed_segments(small_disk / "spool")
        for kept in read_segment(segment.path).blocks
        for name in id_texts(kept.prediction_ids)
    ]
    assert logged == taken


def test_a_spool_on_a_full_disk_opens_when_there_is_room(small_disk):
    """Opening says that the disk is full, holds no lock then, and works when room came back."""
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    with pytest.raises(StoreUnavailable):
        Spool(small_disk / "spool", "s1")
    ballast.unlink()
    with Spool(small_disk / "spool", "s1") as spool:
        assert spool.append(block(random.Random(3)))
