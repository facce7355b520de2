"""
How much faster a model answers with ``serving.accelerate: onnx``, per kind of model.

    .venv/bin/python benchmarks/accelerating.py

``off`` and ``onnx`` are the medians in milliseconds of decoding and answering one request of 1 or 100 rows, taken in
turns in one process; ``times`` is their ratio. ``proof`` is how long converting and comparing takes, once per load.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mendel.serving import Predictor, Records, accelerated, load_predictor, read_probe, write_artifact
from mendel.serving.input_codec import InputCodec
from mendel.serving.row_batches import assemble

ROWS, COLUMNS, REPEATS = 1000, 10, 60
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({f"f{place}_": RNG.normal(size=ROWS) for place in range(COLUMNS)})
TRUTH = (FRAME["f0_"] + FRAME["f1_"] ** 2 > 1).astype(int)


def models() -> Iterator[tuple[str, Any, pd.DataFrame]]:
    """Every kind, with the rows that it is fitted on."""
    yield "logistic regression", LogisticRegression(), FRAME
    yield "scaled logistic regression", make_pipeline(StandardScaler(), LogisticRegression()), FRAME
    yield "forest, 100 trees", RandomForestClassifier(random_state=0), FRAME
    yield "boosting, 100 trees", GradientBoostingClassifier(random_state=0), FRAME
    yield "histogram boosting, 100 trees", HistGradientBoostingClassifier(), FRAME
    mixed = FRAME.assign(city=RNG.choice(["Ulm", "Bonn"], ROWS))
    encoder = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    yield "texts, logistic regression", make_pipeline(encoder, LogisticRegression()), mixed


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"{'kind':30}{'proof s':>8}{'rows':>6}{'off ms':>9}{'onnx ms':>9}{'times':>7}")
    for name, model, frame in models():
        with tempfile.TemporaryDirectory() as scratch:
            tree = Path(scratch) / "model"
            write_artifact(model.fit(frame, TRUTH), tree, training=frame)
            original = load_predictor(tree, digest=None, project=None)
            began = time.perf_counter()
            quick = accelerated(original, read_probe(tree), rng=np.random.default_rng(0))
            proof = time.perf_counter() - began
        for rows in (1, 100):
            off, onnx = _medians(original, quick, frame.head(rows).to_dict(orient="records"))
            print(f"{name:30}{proof:8.1f}{rows:6}{off:9.3f}{onnx:9.3f}{off / onnx:7.1f}", flush=True)


def _medians(original: Predictor, quick: Predictor, records: list[dict[str, Any]]) -> tuple[float, float]:
    codec = InputCodec(original.descriptor.contract, order=None, max_rows=len(records))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for predictor, taken in zip((original, quick), times, strict=True):
            began = time.perf_counter()
            predictor.predict(assemble([codec.decode(Records(rows=records))]))
            taken.append((time.perf_counter() - began) * 1e3)
    return median(times[0]), median(times[1])


if __name__ == "__main__":
    main()
