"""One call of the model in place of two, where both give the same prediction."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from mendel.serving.decided_classes import DecidedClasses
from mendel.serving.predictor import Predictor, PredictorDescriptor
from mendel.serving.row_batches import Rows, Shape, assemble

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(300, 3))
TWO = (ROWS.sum(axis=1) + RNG.normal(size=300) > 0).astype(int)
THREE = np.array(["a", "b", "c"])[np.digitize(ROWS[:, 0] + 0.3 * RNG.normal(size=300), [-0.5, 0.5])]
KNOWN = [
    LogisticRegression(),
    RandomForestClassifier(5, random_state=0),
    ExtraTreesClassifier(5, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    HistGradientBoostingClassifier(max_iter=5),
    GaussianNB(),
    MLPClassifier((4,), max_iter=400, tol=0.01, random_state=0),
    DecisionTreeClassifier(max_depth=3),
    make_pipeline(StandardScaler(), LogisticRegression()),
]


def frame_of(rows: np.ndarray):
    shape = Shape.of_floats(("x", "y", "z"))
    return assemble([Rows(shape, len(rows), np.ascontiguousarray(rows, dtype=float).tobytes())])


def predictor_of(model) -> Predictor:
    descriptor = PredictorDescriptor(
        class_name=type(model).__name__, module="m", classes=tuple(model.classes_.tolist()), proba=True
    )
    return Predictor(model, descriptor)


@pytest.mark.parametrize("truth", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("model", KNOWN, ids=lambda model: type(model).__name__)
def test_one_call_gives_what_predict_gives(model, truth):
    """For every known estimator and two or three classes, the predictions equal those of ``predict``, also far out."""
    fitted = clone(model).fit(ROWS, truth)
    predictor = predictor_of(fitted)
    predictor.predict(frame_of(ROWS))
    predictor.checked()
    odd = np.random.default_rng(8).choice([0.0, 1e-12, -1e-12, 1.0, 30.0, -30.0, 1e6, -1e6], size=(300, 3))
    for rows in (ROWS, odd, *odd[:20, None, :]):
        answer = predictor.predict(frame_of(rows))
        assert answer.predictions == fitted.predict(rows).tolist()
        assert np.array_equal(answer.matrix, fitted.predict_proba(rows))


class Counted:
    """Counts the rows that pass, per call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, rows):
        self.calls.append(len(rows))
        return rows


@pytest.mark.parametrize(
    ("compared", "checked", "calls"), [(20, True, 1), (20, False, 2), (3, True, 2)], ids=["proved", "unchecked", "few"]
)
def test_the_model_is_called_once_only_after_the_proof(compared, checked, calls):
    """One call needs the checks of the load, and rows enough in them."""
    counted = Counted()
    model = make_pipeline(FunctionTransformer(counted), LogisticRegression()).fit(ROWS, TWO)
    predictor = predictor_of(model)
    predictor.predict(frame_of(ROWS[:compared]))
    if checked:
        predictor.checked()
    counted.calls.clear()
    predictor.predict(frame_of(ROWS[100:110]))
    assert counted.calls == [10] * calls


def test_undecided_rows_are_left_to_the_model():
    """A row whose two best classes are equally probable is predicted by the model, with all rows of its batch."""
    counted = Counted()
    model = make_pipeline(FunctionTransformer(counted), LogisticRegression(fit_intercept=False)).fit(ROWS, TWO)
    predictor = predictor_of(model)
    predictor.predict(frame_of(ROWS))
    predictor.checked()
    counted.calls.clear()
    even = np.vstack([ROWS[:2], np.zeros((1, 3))])
    assert predictor.predict(frame_of(even)).predictions == model.predict(even).tolist()
    assert counted.calls[:2] == [3, 3]


class Own(LogisticRegression):
    """Predicts another class than the most probable one."""

    def predict(self, rows):
        return self.classes_[np.zeros(len(rows), dtype=int)]


@pytest.mark.parametrize(
    "model",
    [SVC(probability=True), SGDClassifier(loss="log_loss"), Own(), make_pipeline(StandardScaler(), Own())],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_other_estimators_are_always_asked_twice(model):
    """A class of the user's own, or one that may predict another class than the most probable, is never derived."""
    assert DecidedClasses.of(model.fit(ROWS, TWO)) is None


def test_an_object_with_a_method_of_its_own_is_asked_twice():
    """A fitted object whose ``predict`` was replaced is no longer the known estimator."""
    model = LogisticRegression().fit(ROWS, TWO)
    model.predict = lambda rows: np.ones(len(rows), dtype=int)
    assert DecidedClasses.of(model) is None


def test_a_model_with_several_labels_per_row_is_not_derived():
    """A multilabel network has a list of labels in ``classes_``, and answers several of them per row."""
    labels = (ROWS > 0).astype(int)
    model = MLPClassifier((4,), max_iter=400, tol=0.01, random_state=0).fit(ROWS, labels)
    decision = DecidedClasses.of(model)
    for rows in (ROWS, ROWS[:1], ROWS[:3]):
        decision.compare(model.predict(rows), model.predict_proba(rows))
    assert not decision.accept()


def test_an_undecided_row_hides_no_contradiction_beside_it():
    """In a batch with a tied row, the other rows still count."""
    decision = DecidedClasses.of(LogisticRegression().fit(ROWS, TWO))
    decision.compare(np.array([0] * 20), np.array([[0.9, 0.1]] * 20))
    decision.compare(np.array([0, 0]), np.array([[0.5, 0.5], [0.1, 0.9]]))
    assert not decision.accept()


def test_a_single_contradiction_ends_it():
    """If the two methods disagree about one row of the checks, the model is always asked twice."""
    decision = DecidedClasses.of(LogisticRegression().fit(ROWS, TWO))
    decision.compare(np.array([0] * 20), np.array([[0.9, 0.1]] * 20))
    decision.compare(np.array([0]), np.array([[0.1, 0.9]]))
    assert not decision.accept()
