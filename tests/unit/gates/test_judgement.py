from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from mendel.drift import Task
from mendel.errors import InvalidPolicy, InvalidValue, ShapeMismatch
from mendel.gates import (
    Answers,
    Bounds,
    Evidence,
    GatePolicy,
    GateReport,
    RunCause,
    Verdict,
    judge,
    look_alpha,
    measure,
    relative_gain,
    rows_for_power,
)
from mendel.gates.paired_comparison import holm_bounds
from mendel.values import Measured, NotMeasured
from support.shared_data import shared_data

Make = Callable[..., Evidence]
DEFAULT = GatePolicy()


def judged(evidence: Evidence, policy: GatePolicy = DEFAULT, seed: int = 1) -> GateReport:
    return judge(evidence, policy, np.random.default_rng(seed))


def test_better_candidate_is_promoted(evidence: Make) -> None:
    """Right in 90 % where production is right in 80 % passes every gate."""
    report = judged(evidence())
    assert report.verdict is Verdict.PASS
    assert report.candidate_score is not None
    assert report.production_score is not None
    assert report.candidate_score > report.production_score


def test_worse_candidate_is_rejected(evidence: Make) -> None:
    """Right in 70 % where production is right in 80 % fails, and more rows could not change that."""
    assert judged(evidence(candidate=0.7))["improvement"].verdict is Verdict.FAIL


def test_equal_evidence_equal_report(evidence: Make) -> None:
    """The same rows, policy and seed give the same bytes."""
    assert judged(evidence()).to_json() == judged(evidence()).to_json()
    assert judged(evidence()).digest != judged(evidence(seed=1)).digest


def test_report_survives_its_json(evidence: Make) -> None:
    """A stored report is the report, digest included."""
    report = judged(evidence())
    assert GateReport.from_json(report.to_json()) == report
    assert report.as_dict()["digest"] == report.digest
    assert report.as_dict()["verdict"] == "pass"


OLD_REPORT = (
    b'{"alpha":0.0125,"candidate_score":0.84,"cause":"manual","first_deployment":false,"gates":[{"binding":true,'
    b'"bound":1.5,"family":"stability","gate":"latency","needs":"","text":"p95 1.09 ms after 0.67 ms, at most 1.5 times'
    b' that","value":1.626865671641791,"verdict":"fail"}],"look":1,"metric":"f1","production_score":0.8,'
    b'"profile":"default","samples":1000}'
)


def test_reports_without_intervals_stay_readable_with_their_digest() -> None:
    """A report stored before gates had intervals reads back as it was, to the byte."""
    report = GateReport.from_json(OLD_REPORT)
    assert report["latency"].interval is None
    assert report.to_json() == OLD_REPORT


def test_markdown_names_every_gate(evidence: Make) -> None:
    """People read every gate, its verdict and its evidence."""
    report = judged(evidence(candidate=0.81, schema_violations=("a|b",)))
    text = report.as_markdown()
    assert text.startswith("# Gates: fail")
    assert all(f"| {result.gate}" in text for result in report.gates)
    assert "a\\|b" in text
    assert "(informational)" in text


@pytest.mark.parametrize("metric", ["f1", "accuracy", "balanced_accuracy", "roc_auc", "log_loss", "brier"])
def test_every_metric_can_be_primary(metric: str, evidence: Make) -> None:
    """The better candidate is found by whatever the model is measured by, losses included."""
    report = judged(evidence(metric=metric, candidate=0.95))
    assert report["improvement"].verdict is Verdict.PASS
    assert judged(evidence(metric=metric, candidate=0.65))["improvement"].verdict is Verdict.FAIL


def test_regression_is_judged(rng_rows: Callable[..., Evidence]) -> None:
    """A regression is judged by its errors; what it has not (probabilities, decisions) binds nothing."""
    report = judged(rng_rows(candidate=1.0, production=1.3))
    assert report.verdict is Verdict.PASS
    assert not report["calibration"].binding
    assert not report["agreement"].binding
    assert judged(rng_rows(candidate=1.3, production=1.0)).verdict is Verdict.FAIL


@pytest.fixture
def rng_rows() -> Callable[..., Evidence]:
    def make(*, candidate: float, production: float) -> Evidence:
        rng = np.random.default_rng(0)
        labels = rng.normal(100, 10, 1000)
        return Evidence(
            task=Task.REGRESSION,
            metric="rmse",
            labels=labels,
            candidate=Answers(outputs=labels + rng.normal(0, candidate, 1000)),
            production=Answers(outputs=labels + rng.normal(0, production, 1000)),
            segments={"heavy": labels > 100, "light": labels <= 100},
            window_rows=1000,
            schema_violations=(),
            candidate_latencies_ms=(0.5,) * 15,
            candidate_bytes=10,
            production_bytes=10,
        )

    return make


def test_production_at_zero(evidence: Make) -> None:
    """Where production never finds a positive, any candidate that does has gained."""
    rows = evidence()
    blind = Answers(outputs=np.zeros(1000), probabilities={"0": np.full(1000, 0.6), "1": np.full(1000, 0.4)})
    report = judged(replace(rows, production=blind))
    assert report.production_score == 0
    assert report["improvement"].value == 1.0
    assert report["improvement"].verdict is Verdict.PASS
    assert judged(replace(rows, production=blind, candidate=blind))["improvement"].verdict is Verdict.FAIL


def test_relative_gain_by_hand() -> None:
    """0.50 to 0.51 is +2 %; a loss from 0.4 to 0.3 is +25 %; from 0 it is all or nothing; from -1 to 0 it is +100 %."""
    pairs = [(0.51, 0.50, True, 0.02), (0.3, 0.4, False, 0.25), (0.1, 0.0, True, 1.0), (0.0, 0.0, True, 0.0)]
    pairs += [(0.1, 0.0, False, -1.0), (0.0, -1.0, True, 1.0)]
    for candidate, production, higher, by_hand in pairs:
        assert float(relative_gain(candidate, production, higher_is_better=higher)) == pytest.approx(by_hand)


def test_few_rows_say_how_many_more(evidence: Make) -> None:
    """A gain that 400 rows cannot show is undecided, with the number of rows that could."""
    report = judged(evidence(rows=400, candidate=0.83))
    assert report["improvement"].verdict is Verdict.UNDECIDED
    assert report.needs[-1].startswith("need about ")
    assert report.needs[-1].endswith(" more labelled rows")


def test_power_by_simulation() -> None:
    """At the planned size the lower bound is above 0 in about 80 % of runs with just that difference."""
    alpha, power, deviation, difference = 0.025, 0.8, 1.0, 0.1
    rows = rows_for_power(deviation, difference, alpha=alpha, power=power)
    rng = np.random.default_rng(3)
    means = rng.normal(difference, deviation / math.sqrt(rows), 20_000)
    assert (means > 1.959964 * deviation / math.sqrt(rows)).mean() == pytest.approx(power, abs=0.01)


def test_no_better_candidate_is_rarely_promoted(evidence: Make) -> None:
    """Of 200 candidates exactly as good as production, at most alpha pass improvement in three looks: 2.5 %."""
    policy, promoted = GatePolicy(improvement=0.0), 0
    for seed in range(200):
        rows = evidence(rows=1200, candidate=0.8, metric="accuracy", seed=seed, segments={})
        looks = [_first_rows(rows, count, look) for look, count in enumerate((400, 800, 1200))]
        promoted += any(judged(look, policy)["improvement"].verdict is Verdict.PASS for look in looks)
    assert promoted <= 10  # the 97.5 % bound of 5 expected


def _first_rows(rows: Evidence, count: int, spent: int) -> Evidence:
    def cut(answers: Answers) -> Answers:
        scores = {name: column[:count] for name, column in (answers.probabilities or {}).items()}
        return Answers(outputs=answers.outputs[:count], probabilities=scores)

    assert rows.production is not None
    return replace(
        rows,
        labels=rows.labels[:count],
        candidate=cut(rows.candidate),
        production=cut(rows.production),
        looks_spent=spent,
    )


def test_alpha_is_spent_once() -> None:
    """All looks of one candidate, and of the candidates after it, spend no more than alpha."""
    bounds = Bounds()
    first = [look_alpha(bounds, look=look) for look in range(1, 6)]
    assert sum(first) == pytest.approx(bounds.alpha)
    assert first[3:] == [0.0, 0.0]
    second = [look_alpha(bounds, look=look, spent=first[0]) for look in (1, 2, 3)]
    assert first[0] + sum(second) == pytest.approx(bounds.alpha)
    assert look_alpha(bounds, look=1, spent=bounds.alpha) == 0


def test_fourth_look_fails(evidence: Make) -> None:
    """The best candidate is not promoted at a fourth look."""
    assert judged(evidence(candidate=0.99, looks_spent=3))["improvement"].verdict is Verdict.FAIL


def test_hurt_segment_fails(evidence: Make) -> None:
    """A candidate that is better overall and surely worse for some is refused, naming them."""
    rows = evidence(candidate=0.97, production=0.8)
    old = rows.segments["age >= " + next(name for name in rows.segments if ">=" in name).split(">= ")[1]]
    answers = rows.candidate.outputs.copy()
    answers[old] = np.where(np.arange(old.sum()) % 3 == 0, 1 - rows.labels[old], rows.labels[old])
    report = judged(replace(rows, candidate=replace(rows.candidate, outputs=answers), metric="accuracy"))
    assert report["segments"].verdict is Verdict.FAIL
    assert "segments with a loss: age >= " in report["segments"].text


def test_small_segments_are_not_measured(evidence: Make) -> None:
    """29 rows are not measured, 30 are."""
    masks = {f"first {count}": np.arange(1000) < count for count in (29, 30)}
    found = measure(evidence(segments=masks, metric="accuracy"), Bounds(), np.random.default_rng(0))
    assert found.segments[0].gain == NotMeasured(reason="too few labelled rows", have=29, need=30)
    assert isinstance(found.segments[1].gain, Measured)


def test_holm_by_hand() -> None:
    """
    Of three segments at alpha 0.06, Holm rejects p = 0.01 (<= 0.02) and p = 0.025 (<= 0.03), and not p = 0.5.

    Bonferroni would not reject the second, uncorrected levels would not care.
    """
    grid = np.linspace(0, 1, 100_001)

    def with_p(p: float) -> np.ndarray:
        return np.where(grid >= 1 - p, 0.0, -0.1)

    highs = holm_bounds({"a": with_p(0.01), "b": with_p(0.025), "c": with_p(0.5)}, loss=0.05, alpha=0.06)
    assert {name: high < -0.05 for name, high in highs.items()} == {"a": True, "b": True, "c": False}
    alone = holm_bounds({"b": with_p(0.025), "c": with_p(0.5), "d": with_p(0.5)}, loss=0.05, alpha=0.06)
    assert not any(high < -0.05 for high in alone.values())


def test_segments_rarely_alarm(evidence: Make) -> None:
    """Candidates as good as production in each of 20 random segments hardly ever fail the gate."""
    rng = np.random.default_rng(5)
    failed = 0
    for seed in range(25):
        masks = {f"segment {number}": rng.random(600) < 0.2 for number in range(20)}
        rows = evidence(rows=600, candidate=0.8, metric="accuracy", segments=masks, seed=seed)
        failed += judged(rows)["segments"].verdict is Verdict.FAIL
    assert failed <= 1


def test_unlabelled_rows_count_in_coverage_only(evidence: Make) -> None:
    """Rows whose label has not arrived are not evaluated."""
    rows = evidence(window_rows=1000)
    labels = rows.labels.copy()
    labels[700:] = np.nan
    report = judged(replace(rows, labels=labels))
    assert report.samples == 700
    assert report["coverage"].value == pytest.approx(0.7)


def test_unanswered_row_is_an_error(evidence: Make) -> None:
    """A candidate that leaves a labelled row without an answer cannot be judged by the others."""
    rows = evidence()
    outputs = rows.candidate.outputs.copy()
    outputs[3] = np.nan
    with pytest.raises(InvalidValue, match="candidate gave no answer for 1 labelled row"):
        judged(replace(rows, candidate=replace(rows.candidate, outputs=outputs)))


def test_other_rows_are_refused(evidence: Make) -> None:
    """Answers to other rows than the labels' are no pair."""
    rows = evidence()
    with pytest.raises(ShapeMismatch):
        replace(rows, labels=rows.labels[:-1])


def test_metric_of_another_task_is_refused(evidence: Make) -> None:
    """A classifier is not judged by RMSE."""
    with pytest.raises(InvalidPolicy):
        judged(evidence(metric="rmse"))


def test_classes_that_only_one_version_knows(evidence: Make) -> None:
    """A class that production never answers is scored all the same."""
    words = np.array(["a", "b", "c"] * 100, dtype=object)
    flat = np.array(["a", "b", "a"] * 100, dtype=object)
    rows = evidence(
        rows=300,
        labels=words,
        candidate=Answers(outputs=words),
        production=Answers(outputs=flat),
        segments={"all but one": np.arange(300) > 0},
    )
    report = judged(rows)
    assert report.candidate_score == 1.0
    assert report["improvement"].verdict is Verdict.PASS
    assert not report["calibration"].binding


def test_one_version_without_probabilities(evidence: Make) -> None:
    """A candidate that gives up probabilities which production gave is undecided."""
    rows = evidence()
    report = judged(replace(rows, candidate=replace(rows.candidate, probabilities=None)))
    assert report["calibration"].verdict is Verdict.UNDECIDED
    assert report["calibration"].binding


def test_first_deployment_by_rows(evidence: Make) -> None:
    """A first version better than chance passes; one that guesses, or always says the same, does not."""
    assert judged(evidence(production=None)).promotes
    assert not judged(evidence(production=None, candidate=0.5)).promotes
    constant = Answers(outputs=np.zeros(1000), probabilities={"0": np.ones(1000), "1": np.zeros(1000)})
    assert judged(evidence(production=None, candidate=0.9)).first_deployment
    assert not judged(replace(evidence(production=None), candidate=constant)).promotes


def test_policy_floor(evidence: Make) -> None:
    """A policy may ask more of a first version than to beat chance."""
    rows = evidence(production=None, candidate=0.8, metric="accuracy")
    assert judged(rows, GatePolicy(floor=0.7)).promotes
    assert not judged(rows, GatePolicy(floor=0.79)).promotes


def test_no_label_at_all(evidence: Make) -> None:
    """Before labels arrive everything about quality is undecided, and nothing breaks."""
    report = judged(evidence(labels=np.full(1000, np.nan), cause=RunCause.MANUAL))
    assert report.verdict is Verdict.UNDECIDED
    waiting = {result.gate for result in report.gates if result.verdict is Verdict.UNDECIDED}
    assert waiting == {"samples", "coverage", "improvement", "calibration", "segments", "agreement"}


def test_judging_real_applicants() -> None:
    """On real rows a forest beats a stump by ROC AUC, and a stump does not beat a forest."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import, for this test only
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415

    rows = np.genfromtxt(shared_data("credit.csv"), delimiter=",", skip_header=1, max_rows=8000)[:, 1:]
    features, labels = rows[:, 1:], rows[:, 0]
    forest = RandomForestClassifier(50, min_samples_leaf=20, random_state=0).fit(features[:5000], labels[:5000])
    stump = DecisionTreeClassifier(max_depth=1).fit(features[:5000], labels[:5000])

    def answers(model: RandomForestClassifier | DecisionTreeClassifier) -> Answers:
        said = model.predict_proba(features[5000:])[:, 1]
        return Answers(outputs=(said > 0.5).astype(float), probabilities={"0": 1 - said, "1": said})

    facts = {
        "candidate_latencies_ms": (0.5,) * 15,
        "candidate_bytes": 10,
        "production_bytes": 10,
        "schema_violations": (),
    }
    young = features[5000:, 1] < 45
    pairs = [(forest, stump), (stump, forest)]
    verdicts = [
        judged(
            Evidence(
                metric="roc_auc",
                labels=labels[5000:],
                candidate=answers(candidate),
                production=answers(production),
                segments={"young": young, "old": ~young},
                window_rows=3000,
                **facts,
            )
        ).verdict
        for candidate, production in pairs
    ]
    assert verdicts == [Verdict.PASS, Verdict.FAIL]
