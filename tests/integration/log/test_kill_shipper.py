"""A shipper that is killed anywhere loses nothing and doubles nothing."""

from __future__ import annotations

import random
import signal
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mendel.adapters.arrow.delta_lake import DeltaLake
from mendel.adapters.files import FileInbox
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
from mendel.adapters.sql.predictions import STORES
from mendel.predictions import (
    LABELS_TABLE,
    LabelRow,
    PredictionBlock,
    PredictionLog,
    Spool,
    forward_segments,
    id_texts,
    mint_ids,
    predictions_table,
)
from mendel.values import ModelName, Window, to_micros

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KILLS = (
    *(("before:append", times) for times in (1, 2, 3)),
    *(("after:append", times) for times in (1, 2, 3)),
    ("after:profiles", 1),
    *(("after:remove", times) for times in (1, 2)),
)
"""Named points and how often each was passed before; a pass here commits to three tables."""
MODELS = (ModelName("credit"), ModelName("churn"))


def block(rows, model, rng):
    return PredictionBlock(
        model=model,
        version=3,
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


@pytest.fixture
def fill(tmp_path):
    """Put segments of two spools with rows of two models and labels into the inbox; the ids by model."""
    inbox, rng = FileInbox(tmp_path / "inbox"), random.Random(3)
    sent = {model: [] for model in MODELS}

    def put(segments=3):
        for name in ("s1", "s2"):
            with Spool(tmp_path / name, name) as spool:
                for _ in range(segments):
                    for model in MODELS:
                        batch = block(rng.randint(1, 5), model, rng)
                        spool.append(batch)
                        sent[model] += id_texts(batch.prediction_ids)
                        label = LabelRow(prediction_id=sent[model][-1], true_label=1, label_source="t", received_at=NOW)
                        spool.append_labels([label])
                    spool.seal()
            forward_segments(tmp_path / name, inbox)
        return sent

    return put


@pytest.fixture
def log(tmp_path):
    engine = open_engine(tmp_path / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, STORES, rng=random.Random(0))
    yield PredictionLog(FileInbox(tmp_path / "inbox"), DeltaLake(tmp_path / "lake"), unit, lambda *_: [])
    engine.dispose()


def check_everything_once(log, tmp_path, sent):
    lake = DeltaLake(tmp_path / "lake")
    window = Window.before(NOW + timedelta(hours=1), timedelta(hours=2))
    for model, ids in sent.items():
        stored = lake.snapshot(predictions_table(model)).read(columns=["prediction_id"])["prediction_id"].tolist()
        assert Counter(stored) == Counter(ids)
        assert sum(int(row.profile) for row in log.profile_rows(model, 3, "r1", window)) == len(ids)
        assert len(log.labelled(model, window)) == lake.snapshot(LABELS_TABLE).count() / len(MODELS)
    assert FileInbox(tmp_path / "inbox").pending() == ()


@pytest.fixture
def ship(start, tmp_path):
    """Run one pass of the shipper in another process; the signal that ended it, or 0."""
    shipper = start("ship_and_die", tmp_path)

    def run(how):
        shipper.stdin.write(f"{how}\n")
        shipper.stdin.flush()
        return int(shipper.stdout.readline())

    return run


def test_killed_at_every_named_point(ship, fill, log, tmp_path):
    """Killed before, between and after its records, a shipper loses no row; the next pass ends as if uninterrupted."""
    window = Window.before(NOW + timedelta(hours=1), timedelta(hours=2))
    for point, times in KILLS:
        sent = fill()
        assert ship(f"point {point} {times}") == signal.SIGKILL, point
        read = {model: len(log.predictions(model, window)) for model in MODELS}
        assert read == {model: len(ids) for model, ids in sent.items()}, point
        assert ship("never") == 0
        check_everything_once(log, tmp_path, sent)


def test_killed_again_and_again_without_a_whole_pass(ship, fill, log, tmp_path):
    """Killed at each point in turn, with more rows coming and no pass in peace between, nothing is lost or doubled."""
    for point, times in KILLS:
        sent = fill(1)
        ship(f"point {point} {times}")
    assert ship("never") == 0
    check_everything_once(log, tmp_path, sent)


def test_killed_at_random_moments(ship, fill, log, tmp_path):
    """Killed two dozen times at moments nobody chose, every row is in the lake once and the profiles sum to them."""
    rng = random.Random(5)
    endings = Counter()
    for _ in range(24):
        sent = fill(1)
        endings[ship(f"after {rng.uniform(0.0, 0.3)}")] += 1
    assert ship("never") == 0
    check_everything_once(log, tmp_path, sent)
    assert endings[signal.SIGKILL] > 0
