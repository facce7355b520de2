"""
Measure the time to register a fitted model, and the time of the parity check at load, for each kind of model.

    .venv/bin/python benchmarks/registering.py

``register`` is one call of ``register_baseline`` with 1,000 training rows of 10 features, warm: the median of 7 calls
after the first, into an embedded data directory. ``load`` is the loading of the artefact as a server does it, and
``parity`` the part of it that answers and compares the probe rows, the median of 7.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import mendel
from mendel.serving import load_predictor
from mendel.serving.input_codec import InputCodec
from mendel.serving.parity import check_parity
from mendel.serving.probe_rows import read_probe

ROWS, COLUMNS, REPEATS = 1000, 10, 7
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({f"f{place}_": RNG.normal(size=ROWS) for place in range(COLUMNS)})
TRUTH = (FRAME["f0_"] + FRAME["f1_"] > 0).astype(int)


def models() -> Iterator[tuple[str, Any, pd.DataFrame]]:
    """Every kind whose package is installed, with the rows that it was fitted on."""
    yield "logistic regression", LogisticRegression().fit(FRAME, TRUTH), FRAME
    yield "forest, 100 trees", RandomForestClassifier(random_state=0).fit(FRAME, TRUTH), FRAME
    yield "histogram boosting", HistGradientBoostingClassifier(max_iter=50).fit(FRAME, TRUTH), FRAME
    mixed = FRAME.assign(city=RNG.choice(["Ulm", "Bonn"], ROWS))
    encoder = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    yield "columns by name", make_pipeline(encoder, LogisticRegression()).fit(mixed, TRUTH), mixed
    makers: dict[str, Callable[[], Any]] = {
        "xgboost": lambda: __import__("xgboost").XGBClassifier(n_estimators=50),
        "lightgbm": lambda: __import__("lightgbm").LGBMClassifier(n_estimators=50, verbose=-1),
        "catboost": lambda: __import__("catboost").CatBoostClassifier(
            iterations=50, verbose=False, allow_writing_files=False
        ),
    }
    for name, make in makers.items():
        try:
            model = make()
        except ImportError:
            print(f"{name}: not installed")
            continue
        yield name, model.fit(FRAME, TRUTH), FRAME


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"{'kind':22}{'register ms':>12}{'load ms':>10}{'parity ms':>11}  parity")
    with (
        tempfile.TemporaryDirectory() as scratch,
        mendel.connect(directory=str(Path(scratch) / ".mendel")) as client,
    ):
        for place, (name, model, frame) in enumerate(models()):
            times = []
            for _ in range(REPEATS + 1):
                began = time.perf_counter()
                result = client.register_baseline(
                    model=model, model_type="classification", name=f"m{place}", training_data=frame
                )
                times.append(time.perf_counter() - began)
            load, parity = _load(Path(result.artifact_path))
            told = client.version(result.model_id).parity
            print(f"{name:22}{median(times[1:]) * 1e3:12.0f}{load:10.0f}{parity:11.1f}  {told}", flush=True)


def _load(tree: Path) -> tuple[float, float]:
    loads, parities = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        predictor = load_predictor(tree, digest=None, project=None)
        loads.append(time.perf_counter() - began)
        codec = InputCodec(predictor.descriptor.contract, order=None, max_rows=100)
        began = time.perf_counter()
        check_parity(read_probe(tree), codec, predictor.predict, steady=time.perf_counter)
        parities.append(time.perf_counter() - began)
    return median(loads) * 1e3, median(parities) * 1e3


if __name__ == "__main__":
    main()
