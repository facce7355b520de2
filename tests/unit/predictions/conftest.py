"""Blocks of predictions and a place to log them, made small."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.predictions import STORES, MemoryInbox, MemoryLake
from mendel.predictions import (
    LabelRow,
    PredictionBlock,
    PredictionLog,
    ProfileRow,
    Shipper,
    Spool,
    forward_segments,
    mint_ids,
)
from mendel.values import ModelName, Window, from_micros, to_micros

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def now():
    return NOW


@pytest.fixture
def make_block():
    rng = random.Random(7)

    def make(rows=1, *, at=NOW, **changes):
        fields = {
            "model": ModelName("credit"),
            "version": 3,
            "uuid": "m-" + "0" * 32,
            "generation": 5,
            "prediction_ids": mint_ids(rows, micros=to_micros(at), randbytes=rng.randbytes),
            "timestamp_micros": to_micros(at),
            "door": "rest",
            "feature_names": ("age", "income"),
            "features": np.arange(2.0 * rows).reshape(rows, 2),
            "predictions": np.ones(rows),
            "probabilities": np.tile([0.25, 0.75], (rows, 1)),
            "classes": ("0", "1"),
            "latency_ms": 0.5,
        }
        return PredictionBlock(**(fields | changes))

    return make


@pytest.fixture
def make_label():
    def make(prediction_id, outcome=1, *, at=NOW, known=None, source="test"):
        return LabelRow(
            prediction_id=prediction_id,
            true_label=outcome,
            label_source=source,
            received_at=at,
            label_timestamp=known,
        )

    return make


def count_rows(model, version, table):
    """One profile per five minutes that says how many rows there are, of one reference."""
    starts = [Window.containing(from_micros(int(at)), timedelta(minutes=5)) for at in table["event_time"]]
    return [
        ProfileRow(model=model, version=version, reference_id="r1", window=window, profile=str(starts.count(window)))
        for window in sorted(set(starts))
    ]


@pytest.fixture
def road(tmp_path):
    """A spool, an inbox, a lake and a log, in memory as far as possible; ``send`` moves what is in the spool on."""
    inbox, lake, unit = MemoryInbox(), MemoryLake(), MemoryUnitOfWork(STORES)
    with Spool(tmp_path / "road", "s1") as spool:

        def send():
            spool.seal()
            return forward_segments(spool.directory, inbox)

        yield SimpleNamespace(
            spool=spool,
            inbox=inbox,
            lake=lake,
            unit=unit,
            log=PredictionLog(inbox, lake, unit, count_rows),
            shipper=Shipper(inbox, lake, unit, count_rows),
            shipper_that=lambda at: Shipper(inbox, lake, unit, count_rows, at=at),
            send=send,
            window=Window.before(NOW + timedelta(hours=1), timedelta(hours=2)),
        )
