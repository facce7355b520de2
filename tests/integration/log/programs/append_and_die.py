"""
Append batches to a spool, printing the ids of each batch once it was acknowledged, and die by SIGKILL: many times.

Arguments: directory, number of deaths, seed. The writers are forked, so that each begins at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from mendel.predictions import LabelRow, PredictionBlock, Spool, SpoolPolicy, id_texts, mint_ids
from mendel.values import ModelName, to_micros


def block(rows: int, now: datetime) -> PredictionBlock:
    """A batch of *rows* rows."""
    return PredictionBlock(
        model=ModelName("credit"),
        version=1,
        uuid="m-" + "0" * 32,
        generation=1,
        prediction_ids=mint_ids(rows, micros=to_micros(now), randbytes=os.urandom),
        timestamp_micros=to_micros(now),
        door="rest",
        feature_names=("a", "b", "c"),
        features=np.ones((rows, 3)),
        predictions=np.ones(rows),
        latency_ms=0.5,
    )


def append_forever(directory: Path) -> None:
    """Many small segments, so that kills hit sealing too; one write per batch, so that no line is torn."""
    policy = SpoolPolicy(seal_after=timedelta(milliseconds=5), segment_bytes=20_000)
    spool = Spool(directory, "s1", policy=policy)
    count = 0
    while True:
        now = datetime.now(UTC)
        batch = block(1 + count % 40, now)
        label = LabelRow(prediction_id="l", true_label=1, label_source="t", received_at=now)
        if spool.append(batch) and spool.append_labels([label]):
            os.write(1, ("\n".join(id_texts(batch.prediction_ids)) + "\n").encode())
        spool.tick(now)
        count += 1


def main(directory: Path, deaths: int, seed: int) -> None:
    """Fork, wait a random while, kill."""
    rng = random.Random(seed)
    for _ in range(deaths):
        child = os.fork()
        if child == 0:
            append_forever(directory)
        time.sleep(rng.uniform(0.0005, 0.08))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
