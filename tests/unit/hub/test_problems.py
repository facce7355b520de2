"""Errors keep their class, their particulars and their remedy over the wire."""

from __future__ import annotations

import inspect
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mendel.errors as tree
from mendel.errors import GenerationConflict, InvalidProject, MendelError, Overloaded, PromotionRefused
from mendel.operations.problems import STATUS, from_problem, status_of, to_problem

CLASSES = sorted(
    (one for _, one in inspect.getmembers(tree, inspect.isclass) if issubclass(one, MendelError)),
    key=lambda one: one.__name__,
)
SAMPLES = {
    "expected": 3,
    "actual": 4,
    "reasons": ("no gate report", "no bias check"),
    "release": "credit-v1.0.0-mlserver-0123abc",
    "sequence": 17,
    "path": "mlserver.yaml",
    "line": 12,
    "feature": "age",
    "difference_id": "d1",
    "kind": "ValueError",
    "at": "m.py:3",
    "log_tail": "Traceback ...",
    "retry_after": timedelta(seconds=1.5),
}


def made(kind):
    """An error of *kind* with every particular it can carry."""
    names = inspect.signature(kind.__init__).parameters
    return kind("It broke.", remedy="Mend it.", **{name: SAMPLES[name] for name in names if name in SAMPLES})


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_comes_back_as_itself(kind):
    """Class, message, remedy and particulars survive a problem document, for the whole tree."""
    error = made(kind)
    back = from_problem(json.loads(json.dumps(to_problem(error))))
    assert type(back) is kind
    assert (str(back), vars(back)) == (str(error), vars(error))


def test_no_particular_of_the_tree_is_forgotten():
    """Whatever an error's constructor takes beside message, remedy and detail is sampled here, so crosses the wire."""
    taken = {name for kind in CLASSES for name in inspect.signature(kind.__init__).parameters}
    assert taken - {"self", "message", "remedy", "detail"} == set(SAMPLES)


def test_the_words_of_a_model_stay_where_they_are():
    """The detail of a ModelError may quote training rows, and is not in a problem document."""
    document = to_problem(tree.ModelNotLoadable("It broke.", detail="age 41.625", difference_id="d1"))
    assert "41.625" not in json.dumps(document)
    assert from_problem(document).detail == ""


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (tree.Unauthenticated, 401),
        (tree.Forbidden, 403),
        (tree.RunNotFound, 404),
        (tree.NothingToReturnTo, 409),
        (tree.GenerationConflict, 412),
        (tree.TooLarge, 413),
        (tree.InvalidPolicy, 400),
        (tree.LedgerBroken, 422),
        (tree.Overloaded, 429),
        (tree.StepFailed, 500),
        (tree.Unsupported, 501),
        (tree.RunnerLimit, 502),
        (tree.StoreUnavailable, 503),
        (tree.DeadlineExceeded, 504),
    ],
)
def test_statuses_are_those_of_the_table(kind, status):
    """Each class has the HTTP status people expect of it."""
    assert status_of(made(kind)) == status
    assert to_problem(made(kind))["status"] == status


def test_narrow_classes_stand_before_wide_ones():
    """In a table where the first match wins, no class stands behind one it descends from."""
    kinds = [kind for kind, _ in STATUS]
    assert not [(late, early) for place, late in enumerate(kinds) for early in kinds[:place] if issubclass(late, early)]


def test_what_a_newer_hub_says_is_still_an_error():
    """An unknown class becomes a plain MendelError that keeps its words."""
    back = from_problem({"type": "urn:mendel:FluxInverted", "detail": "The flux is inverted.", "remedy": "Turn it."})
    assert type(back) is MendelError
    assert str(back) == "The flux is inverted. Turn it."


@pytest.mark.parametrize("kind", ["timedelta", "annotations", "__name__", "", "MendelError.__init__"])
def test_only_classes_of_the_tree_are_raised(kind):
    """A type that names anything else in the module is no class to raise."""
    assert type(from_problem({"type": f"urn:mendel:{kind}", "detail": "x"})) is MendelError


def test_missing_particulars_are_empty():
    """A document without the particulars of its class is still that class."""
    conflict, refused = (
        from_problem({"type": "urn:mendel:GenerationConflict"}),
        from_problem({"type": "urn:mendel:PromotionRefused"}),
    )
    assert isinstance(conflict, GenerationConflict)
    assert conflict.actual is None
    assert isinstance(refused, PromotionRefused)
    assert refused.reasons == ()


def test_a_project_error_names_its_place_once():
    """InvalidProject composes path and line into its message; on its way back it does not do so again."""
    back = from_problem(to_problem(InvalidProject("unknown key 'predctor'", path="mlserver.yaml", line=3)))
    assert str(back) == "mlserver.yaml:3: unknown key 'predctor'"


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3)))
def test_pauses_keep_their_length(pause):
    """retry_after crosses the wire to the microsecond."""
    assert from_problem(to_problem(Overloaded("Full.", retry_after=pause))).retry_after == pause
