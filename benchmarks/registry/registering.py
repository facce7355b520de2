"""Times of registering one fitted model: with Mendel, and with MLflow's own call."""

from __future__ import annotations

import contextlib
import io
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

import mendel

OWN_CALLS, MLFLOW_CALLS = 15, 3
_RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({f"f{place}": _RNG.normal(size=1000) for place in range(20)})
TRUTH = (FRAME["f0"] + FRAME["f1"] > 0).astype(int)


def own_calls(directory: Path, *, rows: bool) -> list[float]:
    """Milliseconds of each call of ``register_baseline`` after the first, with an input example or training *rows*."""
    fitted = LogisticRegression().fit(FRAME, TRUTH)
    times = []
    with mendel.connect(directory=str(directory)) as client:
        for _ in range(OWN_CALLS + 1):
            began = time.perf_counter()
            client.register_baseline(
                model=fitted,
                model_type="classification",
                training_data=FRAME if rows else None,
                input_example=None if rows else FRAME.head(5),
            )
            times.append((time.perf_counter() - began) * 1e3)
    return times[1:]


def mlflow_calls(directory: Path) -> list[float]:
    """Milliseconds of each call of ``mlflow.sklearn.log_model`` after the first, with an input example."""
    import mlflow.sklearn  # noqa: PLC0415 - slow to import

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    directory.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{directory}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("e", artifact_location=(directory / "a").as_uri()))
    fitted = LogisticRegression().fit(FRAME, TRUTH)
    times = []
    for _ in range(MLFLOW_CALLS + 1):
        began = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):
            mlflow.sklearn.log_model(fitted, name="model", registered_model_name="m", input_example=FRAME.head(5))
        times.append((time.perf_counter() - began) * 1e3)
    return times[1:]
