"""Run with pytest in this directory."""

import json
from pathlib import Path

from likelihood.predictor import RfqLikelihood
from make_data import TARGET, requests
from sklearn.metrics import roc_auc_score
from training import train_all

CHANCE = 0.5
HERE = Path(__file__).resolve().parent


def test_who_knows_more_tells_better(tmp_path):
    """Each further group of features ranks unseen requests better than the one before."""
    train_all(requests(4000, seed=7), tmp_path)
    unseen = requests(2000, seed=8)
    ranked = [
        roc_auc_score(unseen[TARGET], RfqLikelihood(tmp_path / name).predict_proba(unseen[columns].to_numpy())[:, 1])
        for name, columns in (
            (name, json.loads((HERE / "features" / f"{name}.json").read_text()))
            for name in ("rfq_features_only", "with_market", "with_quote")
        )
    ]
    assert CHANCE + 0.1 < ranked[0] < ranked[1] < ranked[2]


def test_the_data_are_the_same_every_time():
    """One seed, one table."""
    assert requests(50, seed=3).equals(requests(50, seed=3))
