"""Parity at registration, on leaving development, and at every load."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

import mendel
from mendel.errors import Conflict, InvalidInput
from mendel.values.parity import ParityStatus

FRAME = pd.DataFrame({"age": np.arange(40.0), "income": np.arange(40.0)[::-1]})
OUTCOME = np.array([0, 1] * 20)


class Forgetful(BaseEstimator):
    """Answers otherwise after it was pickled: what a class does that only the notebook has right."""

    def fit(self, x, y=None):
        del y
        self.feature_names_in_ = np.array(x.columns, dtype=object)
        self.shift = 1
        return self

    def __getstate__(self):
        return {**self.__dict__, "shift": 0}

    def predict(self, x):
        return np.asarray(x["age"]) + self.shift


class Random(Forgetful):
    """Never answers twice alike."""

    def predict(self, x):
        return np.random.default_rng().normal(size=len(x))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with mendel.connect(directory=str(tmp_path_factory.mktemp("hub") / ".mendel"), actor="ann") as client:
        yield client


def test_an_equal_version_passes(client):
    """A version whose served answers are the model's own leaves development, and says how it was tried."""
    result = client.register_baseline(
        model=LogisticRegression().fit(FRAME, OUTCOME), model_type="classification", name="equal", training_data=FRAME
    )
    assert client.version(result.model_id).parity.status is ParityStatus.PASSED
    assert "Parity: passed" in client.card(result.model_id)
    assert client.change_stage(result.model_id, "sandbox").stage == "sandbox"


def test_a_difference_keeps_a_version_in_development_until_a_person_accepts_it(client):
    """The refusal names row and both values; accepting needs a reason, and is on the card."""
    result = client.register_baseline(
        model=Forgetful().fit(FRAME), model_type="regression", name="differs", training_data=FRAME
    )
    with pytest.raises(Conflict, match=r"row 0, prediction: the model answered 1\.0, served is 0\.0"):
        client.change_stage(result.model_id, "sandbox")
    with pytest.raises(InvalidInput, match="reason"):
        client.accept_difference(result.model_id, reason=" ")
    client.accept_difference(result.model_id, reason="the notebook was wrong")
    assert client.change_stage(result.model_id, "sandbox").stage == "sandbox"
    assert "accepted by ann: the notebook was wrong" in client.card(result.model_id)


def test_nothing_is_accepted_where_nothing_differs(client):
    """Accepting an equal version is a conflict."""
    result = client.register_baseline(
        model=LogisticRegression().fit(FRAME, OUTCOME), model_type="classification", name="same", training_data=FRAME
    )
    with pytest.raises(Conflict, match="do not differ"):
        client.accept_difference(result.model_id, reason="none")


def test_a_model_that_never_answers_twice_alike_is_not_measured(client):
    """Its parity says why."""
    result = client.register_baseline(
        model=Random().fit(FRAME), model_type="regression", name="random", training_data=FRAME
    )
    parity = client.version(result.model_id).parity
    assert parity.status is ParityStatus.NOT_MEASURED
    assert "not reproducible" in parity.reason
    assert json.loads(json.dumps(str(parity))).startswith("not measured")
