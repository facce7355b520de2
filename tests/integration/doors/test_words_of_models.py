"""What callers without a key get to know about a model that cannot be loaded: type, place and rule, never values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from mendel.serving import write_artifact
from mendel.values import ServedVersion, VersionUuid
from support.doors import DOOR_NAMES
from support.served_models import deployed

SECRET = "41.625"
ROWS = pd.DataFrame({"age": [float(SECRET), 99.0]})
PLACES = (
    "/v2/models/told/ready",
    "/v2/models/told/versions/1/ready",
    "/health",
    "/status",
    "/info",
    "/v2/health/ready",
)


class Unloadable(BaseEstimator):
    """Quotes a training row when it is unpickled."""

    def fit(self, x, y=None):
        del x, y
        return self

    def predict(self, x):
        return np.asarray(x)[:, 0]

    def __setstate__(self, state):
        raise ValueError(f"no bin for age {SECRET}")


class Unanswering(Unloadable):
    """Quotes a training row when it answers, but not for its owner."""

    def __init__(self, quoting=False):
        self.quoting = quoting

    def predict(self, x):
        if self.quoting:
            raise KeyError(f"age {SECRET}")
        return np.asarray(x)[:, 0]

    def __setstate__(self, state):
        self.quoting = True


class Differing(Unanswering):
    """Answers otherwise after it was unpickled."""

    def predict(self, x):
        return np.asarray(x)[:, 0] + self.quoting


def written(kind, directory):
    given = {} if kind is Unloadable else {"training": ROWS} if kind is Differing else {"input_example": ROWS}
    return write_artifact(kind().fit(ROWS), directory, task="regression", **given)


def put(shelf, kind, tmp_path):
    digest = written(kind, tmp_path / "told")
    shelf.trees[digest] = tmp_path / "told"
    shelf.served["told", 1] = ServedVersion(
        number=1,
        uuid=VersionUuid(f"m-{1:032x}"),
        artifact_digest=digest,
        flavor="sklearn",
        signature=None,
        task="regression",
        registered_at=datetime.now(UTC),
    )


@pytest.mark.parametrize(
    "fault",
    [
        (Unloadable, "Unpickling the model failed with ValueError at ", f"no bin for age {SECRET}"),
        (Unanswering, "Predicting the input example input_example.json failed with KeyError at ", f"age {SECRET}"),
        (Differing, "row 0 has another prediction than the fitted model gave (2 of 2 rows differ)", SECRET),
    ],
    ids=["unpickling", "predicting", "differing"],
)
async def test_a_model_that_cannot_be_loaded_quotes_no_row(fault, open_world, shelf, connect, tmp_path):
    """Every keyless answer, and every door, tells the type of the fault and its place; the report to the hub, all."""
    kind, says, detail = fault
    put(shelf, kind, tmp_path)
    world = await open_world()
    (line,) = await world.apply(deployed("told"))
    assert says in (line.error or "")
    assert SECRET not in (line.error or "")
    assert detail in (line.detail or "")
    assert bool(line.difference_id) is (kind is Differing)
    http = connect("rest", world).http
    answers = {place: (await http.get(place)).text for place in PLACES}
    for door in DOOR_NAMES:
        answers[door] = (await connect(door, world).predict("told", {"records": [{"age": 1.0}]})).message
    assert [place for place, answer in answers.items() if SECRET in answer] == []
    assert says.split(" at ", maxsplit=1)[0] in answers[PLACES[0]]


async def test_a_version_whose_difference_was_accepted_is_loaded(open_world, shelf, connect, tmp_path):
    """Exactly the difference that the server reported lets the version serve, without a restart or a new deployment."""
    put(shelf, Differing, tmp_path)
    world = await open_world()
    (line,) = await world.apply(deployed("told"))
    assert (line.version_serving, line.version_at_fault) == (None, True)
    for accepted, serving in (("another", None), (line.difference_id, 1)):
        shelf.served["told", 1] = replace(shelf.served["told", 1], accepted_difference=accepted)
        (line,) = await world.apply(deployed("told"))
        assert line.version_serving == serving
    assert (await connect("rest", world).predict("told", {"records": [{"age": 1.0}]})).body["predictions"] == [2.0]
