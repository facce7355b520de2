"""A fitted model is registered with the task that its answers belong to."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mendel.client.model_registration import task_of

X = np.random.default_rng(0).random((60, 3))
GRADES = (X[:, 0] * 3).astype(int)
HALVES = [30, 30]


def lightgbm_ranker():
    lightgbm = pytest.importorskip("lightgbm", reason="the extra lightgbm is not installed")
    return lightgbm.LGBMRanker(n_estimators=2, verbose=-1).fit(X, GRADES, group=HALVES)


def xgboost_ranker():
    xgboost = pytest.importorskip("xgboost", reason="the extra xgboost is not installed")
    return xgboost.XGBRanker(n_estimators=2).fit(X, GRADES, group=HALVES)


def catboost(kind, **given):
    catboost = pytest.importorskip("catboost", reason="the extra catboost is not installed")
    return getattr(catboost, kind)(iterations=2, verbose=0, allow_writing_files=False).fit(X, GRADES, **given)


@pytest.mark.parametrize(
    ("make", "task"),
    [
        (lightgbm_ranker, "regression"),
        (xgboost_ranker, "regression"),
        (lambda: make_pipeline(StandardScaler(), xgboost_ranker()), "regression"),
        (lambda: catboost("CatBoostRanker", group_id=[0] * 30 + [1] * 30), "regression"),
        (lambda: catboost("CatBoostRegressor"), "regression"),
        (lambda: catboost("CatBoostClassifier"), "classification"),
        (lambda: LinearRegression().fit(X, GRADES), "regression"),
        (lambda: LogisticRegression().fit(X, GRADES), "classification"),
    ],
    ids=["lightgbm ranker", "xgboost ranker", "pipeline", "catboost ranker", "catboost", "classes", "linear", "logit"],
)
def test_scores_are_regression_and_classes_are_classification(make, task):
    """A ranker answers scores, as a regressor does; only a model with classes is a classifier."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert task_of(make(), "credit") == task
