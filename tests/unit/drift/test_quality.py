from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics as oracle

from mendel.drift import (
    METRICS,
    LabelledOutcomes,
    MonitoringPolicy,
    Quality,
    Task,
    bootstrap,
    evaluate_quality,
    metric,
    quality_signal,
    score_of,
    wilson_interval,
)
from mendel.errors import InvalidPolicy, InvalidValue, ShapeMismatch
from mendel.values import Measured, NotMeasured, Table


@pytest.fixture
def binary(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, answers and probabilities of the positive class, 2,000 rows."""
    said = rng.random(2000).round(2)
    return (rng.random(2000) < said**2).astype(float), (said > 0.5).astype(float), said


@pytest.fixture
def three(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for three classes, of which one is never answered."""
    said = rng.dirichlet(np.ones(3), 2000)
    answers = said.argmax(axis=1)
    answers[answers == 2] = 1
    return np.array([rng.choice(3, p=row) for row in said]), answers, said


def outcomes_of(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> LabelledOutcomes:
    labels, answers, said = binary
    return LabelledOutcomes.classification(labels, answers, {"0": 1 - said, "1": said})


def test_binary_metrics_are_sklearns(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Every binary metric equals scikit-learn's."""
    labels, answers, said = binary
    theirs = {
        "accuracy": oracle.accuracy_score(labels, answers),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, answers),
        "precision": oracle.precision_score(labels, answers),
        "recall": oracle.recall_score(labels, answers),
        "f1": oracle.f1_score(labels, answers),
        "roc_auc": oracle.roc_auc_score(labels, said),
        "log_loss": oracle.log_loss(labels, said),
        "brier": oracle.brier_score_loss(labels, said),
    }
    ours = {name: score_of(metric(name), outcomes_of(binary)) for name in theirs}
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_many_class_metrics_are_sklearns(three: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Every metric over several classes equals scikit-learn's macro average, never-answered classes included."""
    labels, answers, said = three
    theirs = {
        "accuracy": oracle.accuracy_score(labels, answers),
        "balanced_accuracy": oracle.balanced_accuracy_score(labels, answers),
        "precision": oracle.precision_score(labels, answers, average="macro", zero_division=0),
        "recall": oracle.recall_score(labels, answers, average="macro"),
        "f1": oracle.f1_score(labels, answers, average="macro"),
        "log_loss": oracle.log_loss(labels, said),
        "brier": ((said - np.eye(3)[labels]) ** 2).sum(axis=1).mean(),
    }
    outcomes = LabelledOutcomes.classification(labels, answers, {str(n): said[:, n] for n in range(3)})
    assert {name: score_of(metric(name), outcomes) for name in theirs} == pytest.approx(theirs, abs=1e-12)


def test_regression_metrics_are_sklearns(rng: np.random.Generator) -> None:
    """Every regression metric equals scikit-learn's, far from zero too."""
    labels = rng.normal(1e6, 1, 500)
    answers = labels + rng.normal(0, 0.5, 500)
    theirs = {
        "mae": oracle.mean_absolute_error(labels, answers),
        "rmse": oracle.root_mean_squared_error(labels, answers),
        "r2": oracle.r2_score(labels, answers),
    }
    outcomes = LabelledOutcomes.regression(labels, answers)
    assert {name: score_of(metric(name), outcomes) for name in theirs} == pytest.approx(theirs, rel=1e-9)


def test_calibration_error_by_hand() -> None:
    """Two bins: 0.9 said and 1/2 true on four rows, 0.2 said and 0 true on one: (4 * 0.4 + 1 * 0.2) / 5 = 0.36."""
    said = np.array([0.9, 0.9, 0.9, 0.9, 0.2])
    outcomes = LabelledOutcomes.classification([1, 1, 0, 0, 0], [1, 1, 1, 1, 0], {"0": 1 - said, "1": said})
    assert score_of(metric("calibration_error"), outcomes) == pytest.approx(0.36)


def test_confusion(binary: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    """Rows are true, columns answered classes, in order."""
    found = evaluate_quality(outcomes_of(binary), rng)
    assert found.classes == ("0", "1")
    assert found.confusion == tuple(map(tuple, oracle.confusion_matrix(binary[0], binary[1]).tolist()))


def test_every_metric_has_its_interval(
    binary: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    """Every measured value lies in its interval, which is not the whole world."""
    for measured in evaluate_quality(outcomes_of(binary), rng).metrics.values():
        assert isinstance(measured, Measured)
        assert measured.low is not None
        assert measured.high is not None
        assert measured.low <= measured.value <= measured.high
        assert measured.high - measured.low < 0.1


def test_bootstrap_intervals_cover(rng: np.random.Generator) -> None:
    """About 95 of 100 intervals of F1 hold the true value."""
    truth = 2 * 0.4 / (0.5 + 0.5)  # half are positive, four in five of them answered so, and as many of those answered
    held = 0
    for _ in range(100):
        labels = rng.random(400) < 0.5
        answers = np.where(rng.random(400) < 0.8, labels, ~labels)
        measured = evaluate_quality(LabelledOutcomes.classification(labels, answers), rng)["f1"]
        assert isinstance(measured, Measured)
        held += measured.low <= truth <= measured.high
    assert held >= 88


def test_equal_seed_equal_interval(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Chance is an argument: the same seed gives the same interval."""
    outcomes = outcomes_of(binary)
    assert evaluate_quality(outcomes, np.random.default_rng(1)) == evaluate_quality(outcomes, np.random.default_rng(1))


def test_undefined_is_not_measured(rng: np.random.Generator) -> None:
    """Precision without a positive answer, AUC without a positive label, losses without probabilities: not 0."""
    outcomes = LabelledOutcomes.classification(np.zeros(50), np.zeros(50), positive=1, classes=[0, 1])
    found = evaluate_quality(outcomes, rng)
    assert isinstance(found["accuracy"], Measured)
    assert all(isinstance(found[name], NotMeasured) for name in ("precision", "recall", "f1", "roc_auc", "log_loss"))
    assert isinstance(found["no such metric"], NotMeasured)


def test_too_few_rows_are_not_measured(rng: np.random.Generator) -> None:
    """29 rows are not measured, 30 are."""
    found = [
        evaluate_quality(LabelledOutcomes.classification([0, 1] * 15, [0, 1] * 15).take(np.arange(n)), rng)
        for n in (29, 30)
    ]
    assert found[0]["accuracy"] == NotMeasured(reason="insufficient_data", have=29, need=30, unit="labelled rows")
    assert isinstance(found[1]["accuracy"], Measured)


def test_no_row_at_all(rng: np.random.Generator) -> None:
    """Nothing labelled yet is not an error."""
    assert evaluate_quality(LabelledOutcomes.classification([], []), rng).samples == 0
    assert evaluate_quality(LabelledOutcomes.regression(np.array([]), np.array([])), rng).samples == 0


def test_rows_without_truth_are_left_out() -> None:
    """A label that has not arrived, or an answer that was not given, is no row."""
    outcomes = LabelledOutcomes.classification([1, None, 0, 1], [1.0, 0.0, None, 0.0])
    assert len(outcomes) == 2


def test_labels_match_however_stored() -> None:
    """1, 1.0, True and "1" are one class."""
    for labels in ([1, 0], [1.0, 0.0], [True, False], ["1", "0"]):
        assert score_of(metric("accuracy"), LabelledOutcomes.classification(labels, np.array([1.0, 0.0]))) == 1.0


def test_positive_class() -> None:
    """It may be absent from a window without positives, but not be none of two classes."""
    assert LabelledOutcomes.classification([0] * 3, [0] * 3, positive="1").classes == ("0", "1")
    with pytest.raises(InvalidValue):
        LabelledOutcomes.classification(["no", "yes"], ["no", "yes"], positive="1")


def test_columns_of_one_length() -> None:
    """Labels and answers of different rows are refused."""
    with pytest.raises(ShapeMismatch):
        LabelledOutcomes.classification([0, 1], [0])
    with pytest.raises(ShapeMismatch):
        LabelledOutcomes.regression(np.zeros(2), np.zeros(1))


def test_reads_labelled_predictions(binary: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The prediction log's columns become outcomes by name."""
    labels, answers, said = binary
    columns = {"label": labels, "prediction": answers, "proba.0": 1 - said, "proba.1": said, "latency_ms": said}
    found = LabelledOutcomes.of(Table(columns))
    assert score_of(metric("roc_auc"), found) == pytest.approx(oracle.roc_auc_score(labels, said))
    with pytest.raises(InvalidValue, match="'label'"):
        LabelledOutcomes.of(Table({"prediction": answers}))


def test_bootstrap_is_paired(binary: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator) -> None:
    """A model resampled beside itself never differs from itself."""
    outcomes = outcomes_of(binary)
    for chosen in METRICS.values():
        if chosen.task is Task.CLASSIFICATION:
            drawn = bootstrap(chosen, [outcomes, outcomes], rng, draws=20)
            assert drawn.shape == (20, 2)
            assert drawn[:, 0] == pytest.approx(drawn[:, 1], abs=1e-9)


@pytest.mark.parametrize("name", ["f1", "roc_auc", "log_loss", "calibration_error"])
def test_bootstrap_is_resampling(
    name: str, binary: tuple[np.ndarray, np.ndarray, np.ndarray], rng: np.random.Generator
) -> None:
    """Patterns and the normal limit give the interval that resampling row by row gives, within a tenth of its width."""
    outcomes, chosen = outcomes_of(binary).take(np.arange(600)), metric(name)
    slow = [score_of(chosen, outcomes.take(rng.integers(0, 600, 600))) for _ in range(2000)]
    fast = bootstrap(chosen, [outcomes], rng, draws=4000)[:, 0]
    low, high = np.quantile(slow, [0.025, 0.975])
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx([low, high], abs=(high - low) / 10)


def test_unknown_metric_is_refused() -> None:
    """A metric that is none is named, with those there are."""
    with pytest.raises(InvalidPolicy, match="accuracy"):
        metric("acuracy")


def test_wilson_by_hand() -> None:
    """8 of 10, z = 1.96: Wilson's formula worked out."""
    z = 1.959963984540054
    half = z / (1 + z * z / 10) * math.sqrt(0.8 * 0.2 / 10 + z * z / 400)
    middle = (0.8 + z * z / 20) / (1 + z * z / 10)
    assert wilson_interval(8, 10) == pytest.approx((middle - half, middle + half), abs=1e-12)


def quality(accuracy: float, low: float | None = None, high: float | None = None) -> Quality:
    measured = Measured(value=accuracy, samples=1000, low=low, high=high)
    return Quality(task=Task.CLASSIFICATION, samples=1000, classes=(), metrics={"accuracy": measured}, confusion=())


@pytest.mark.parametrize(
    ("high", "crossed"), [(0.891, False), (0.890, False), (0.889, True)], ids=["overlaps", "touches", "below"]
)
def test_quality_falls_beyond_chance(high: float, crossed: bool) -> None:
    """Signal when the whole interval is below the reference's lower bound less the margin: 0.90 - 0.01."""
    policy = MonitoringPolicy(primary_metric="accuracy")
    reading = quality_signal(quality(0.92, 0.90, 0.94), quality(0.87, 0.85, high), policy)
    assert reading.crossed is crossed
    assert reading.threshold == pytest.approx(0.89)


def test_quality_floor() -> None:
    """Below a floor is a signal even without a reference."""
    policy = MonitoringPolicy(primary_metric="accuracy")
    unknown = Quality(task=Task.CLASSIFICATION, samples=0, classes=(), metrics={}, confusion=())
    assert quality_signal(unknown, quality(0.6, 0.55, 0.65), policy, floor=0.7).crossed is True
    assert quality_signal(unknown, quality(0.8, 0.75, 0.85), policy, floor=0.7).crossed is False
    assert quality_signal(unknown, quality(0.6, 0.55, 0.65), policy).crossed is None


def test_unmeasured_quality_is_neither_good_nor_bad() -> None:
    """Too few labels cross nothing and clear nothing."""
    policy = MonitoringPolicy(primary_metric="accuracy")
    few = NotMeasured(reason="insufficient_data", have=12, need=30, unit="labelled rows")
    window = Quality(task=Task.CLASSIFICATION, samples=12, classes=(), metrics={"accuracy": few}, confusion=())
    reading = quality_signal(quality(0.9, 0.88, 0.92), window, policy)
    assert reading.crossed is None
    assert reading.value == few


def test_losses_fall_upwards() -> None:
    """For a loss worse is above, and its margin is a share of its value where it has the label's unit."""
    policy = MonitoringPolicy(task=Task.REGRESSION)

    def rmse(value: float, low: float, high: float) -> Quality:
        measured = Measured(value=value, samples=500, low=low, high=high)
        return Quality(task=Task.REGRESSION, samples=500, classes=(), metrics={"rmse": measured}, confusion=())

    before = rmse(100, 95, 105)
    assert quality_signal(before, rmse(110, 105.9, 114), policy).crossed is False
    assert quality_signal(before, rmse(110, 106.1, 114), policy).crossed is True


def test_steady_quality_rarely_alarms(rng: np.random.Generator) -> None:
    """Fresh rows of a model as good as it was raise no signal in 100 windows, at either sample's size."""
    policy = MonitoringPolicy(primary_metric="accuracy", quality_margin=0.0)

    def window(rows: int) -> Quality:
        labels = rng.random(rows) < 0.3
        return evaluate_quality(
            LabelledOutcomes.classification(labels, np.where(rng.random(rows) < 0.85, labels, ~labels)), rng
        )

    assert sum(quality_signal(window(300), window(300), policy).crossed is True for _ in range(100)) <= 2
