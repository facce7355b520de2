"""How often the hub checks the counters of a model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mendel.app.hub.model_checks import ModelChecks
from mendel.healing import Finding, LookResult, SignalKind
from mendel.values import ModelName

MODEL = ModelName("credit")
START = datetime(2026, 1, 1, tzinfo=UTC)
SERVED = Finding(kind=SignalKind.NOT_CONVERGING, text="1 of 1 servers serve generation 1", measured=True)


class Checks(ModelChecks):
    """The checks of one model whose counters give always the same result, with their times in seconds."""

    def __init__(self, *looked):
        self.second, self.times, self.looked = 0, [], looked
        super().__init__(None, None, None, lambda: START + timedelta(seconds=self.second))

    def check_counters(self, model):
        self.times.append(self.second)
        return LookResult(model=model, ref=None, at=START, looked=self.looked)


@pytest.mark.parametrize(
    ("requests", "times"),
    [(False, [0, 5]), (True, [0, 1, 2, 3, 4, 5, 6])],
)
def test_a_model_without_requests_is_checked_less_often(requests, times):
    """A model is checked every 5 s while it gets no requests, and at every turn while their errors are measured."""
    checks = Checks(SERVED, Finding(kind=SignalKind.FAULTS, text="error rate", measured=requests))
    for checks.second in range(7):
        checks.check_counters_when_due(MODEL)
    assert checks.times == times
