from __future__ import annotations

from datetime import timedelta

import pytest

from mendel.drift import EffectThresholds, FeatureType, LogRule, MonitoringPolicy, Task
from mendel.errors import InvalidPolicy
from mendel.values import from_mapping


def test_reads_what_people_write() -> None:
    """Every key of the section is read, and what is not written keeps its default."""
    policy = from_mapping(
        MonitoringPolicy,
        {
            "target": "default",
            "task": "classification",
            "positive_label": 1,
            "primary_metric": "f1",
            "every": "30s",
            "lookback": "10m",
            "min_rows": 100,
            "effects": {"wasserstein": 0.2, "psi": None},
            "features": {"zip": {"type": "category", "log": "hash"}},
            "segments": {"age": [30, 60]},
        },
        at="monitoring",
    )
    assert policy.every == timedelta(seconds=30)
    assert policy.effects == EffectThresholds(wasserstein=0.2, psi=None)
    assert policy.types == {"zip": FeatureType.CATEGORY}
    assert policy.features["zip"].log is LogRule.HASH
    assert policy.segments == {"age": (30.0, 60.0)}
    assert (policy.alpha, policy.confirm, policy.drift_share) == (0.05, 2, 0.3)


def test_primary_metric_follows_the_task() -> None:
    """Without one named, classification is judged by F1 and regression by RMSE."""
    assert MonitoringPolicy().metric == "f1"
    assert MonitoringPolicy(task=Task.REGRESSION).metric == "rmse"


@pytest.mark.parametrize(
    "section",
    [
        {"alfa": 0.05},
        {"effects": {"wassersten": 0.1}},
        {"alpha": 0},
        {"drift_share": 0.6},
        {"min_rows": 0},
        {"effects": {"js": -1}},
        {"every": "0s"},
        {"features": {"zip": {"type": "integer"}}},
    ],
    ids=lambda section: next(iter(section)),
)
def test_nonsense_is_refused(section: dict[str, object]) -> None:
    """A key that nobody reads, or a bound that cannot be, is refused."""
    with pytest.raises(InvalidPolicy):
        from_mapping(MonitoringPolicy, section, at="monitoring")
