"""Outcomes of steps: what is remembered is what happened."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mendel import errors
from mendel.durable import ExecutionAbandoned, StepOutcome, result_or_raise, run_step
from mendel.errors import Fenced, GenerationConflict, InvalidProject, LedgerBroken, MendelError, Overloaded, StepFailed
from mendel.values import from_json, to_json

CARRIERS = [
    GenerationConflict("Moved.", expected=3, actual=4, remedy="Look again."),
    InvalidProject("No.", path="mlserver.yaml", line=7),
    Overloaded("Full.", retry_after=timedelta(seconds=1.5)),
    LedgerBroken("Broken.", sequence=9),
    StepFailed("KeyError: 'x'", kind="KeyError"),
]


def remembered(act):
    return from_json(to_json(run_step(act)), StepOutcome)


def raising(error):
    def act():
        raise error

    return act


def test_a_result_comes_back_as_json_keeps_it():
    """A result is the same whether it was just made or remembered."""
    outcome = run_step(lambda: {"pair": (1, 2)})
    assert result_or_raise(outcome) == result_or_raise(remembered(lambda: {"pair": (1, 2)})) == {"pair": [1, 2]}
    assert result_or_raise(remembered(dict)) == {}


@pytest.mark.parametrize("error", CARRIERS, ids=lambda error: type(error).__name__)
def test_errors_come_back_with_what_they_carry(error):
    """Class, text and fields of a Mendel error survive being remembered."""
    with pytest.raises(type(error)) as caught:
        result_or_raise(remembered(raising(error)))
    assert vars(caught.value) == vars(error)
    assert str(caught.value) == str(error)
    assert caught.value.args[0] == error.message


def test_every_error_class_comes_back_as_itself():
    """No class of the tree is lost, whatever its constructor asks for."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MendelError)]
    for kind in set(kinds) - {Fenced}:
        error = kind.__new__(kind)
        error.message, error.remedy = "It happened.", ""
        with pytest.raises(MendelError) as caught:
            result_or_raise(remembered(raising(error)))
        assert type(caught.value) is kind


def test_what_nobody_foresaw_is_step_failed():
    """Any other exception is remembered with its type, its text and where it was raised."""
    with pytest.raises(StepFailed, match=r"KeyError: 'x' \(.*test_step_outcomes.py:\d+\)") as caught:
        result_or_raise(remembered(raising(KeyError("x"))))
    assert caught.value.kind == "KeyError"


def test_being_fenced_or_killed_is_no_outcome():
    """Who lost its lease abandons the run; an interrupt passes through."""
    with pytest.raises(ExecutionAbandoned, match="lease"):
        run_step(raising(Fenced("The lease was lost.")))
    with pytest.raises(KeyboardInterrupt):
        run_step(raising(KeyboardInterrupt()))
