"""
Fit the models of the comparison; peers run this file in environments of their own.

    python training.py NAME FILE
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

COLUMNS = 20
TRAINING_ROWS = 400
INPUT = "rows"
OUTPUT = "predict"


@dataclass(frozen=True)
class Fitted:
    """A model, with the rows that it was fitted on."""

    name: str
    model: Any
    rows: Any


def fit(name: str) -> Fitted:
    """Fit ``logistic`` or ``boosting``; every call gives the same model."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(TRAINING_ROWS, COLUMNS))
    labels = (rows[:, 0] + rows[:, 1] / 2 + rng.normal(size=TRAINING_ROWS) / 2 > 0).astype(np.int64)
    model = LogisticRegression() if name == "logistic" else GradientBoostingClassifier(random_state=0)
    return Fitted(name=name, model=model.fit(rows, labels), rows=rows)


if __name__ == "__main__":
    joblib.dump(fit(sys.argv[1]).model, sys.argv[2])
