"""
How the models are made: by hand for the project itself, and by Mendel's runner for a registered version.

    python training.py rfq.csv        writes models/<features>/model.joblib, one for each file in features/
"""

import json
import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

HERE = Path(__file__).resolve().parent
TARGET = "won"


def train(frame, *, target, seed):
    """A fitted model on every column but *target*."""
    pairs = PolynomialFeatures(2, include_bias=False)  # a side means something only together with the inventory
    model = make_pipeline(StandardScaler(), pairs, LogisticRegression(C=0.1, max_iter=500, random_state=seed))
    return model.fit(frame.drop(columns=target).to_numpy(dtype=float), frame[target].to_numpy())


def train_all(frame, into, *, seed=0):
    """One model for each list of features, below *into*."""
    for file in sorted((HERE / "features").glob("*.json")):
        directory = Path(into) / file.stem
        directory.mkdir(parents=True, exist_ok=True)
        columns = json.loads(file.read_text())
        joblib.dump(train(frame[[*columns, TARGET]], target=TARGET, seed=seed), directory / "model.joblib")


if __name__ == "__main__":
    train_all(pd.read_csv(sys.argv[1]), HERE / "models")
