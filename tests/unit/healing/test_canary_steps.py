"""Decisions about one step of a canary, from what both routes did in the same period."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidPolicy
from mendel.healing import AtEnd, CanaryPolicy, StepVerdict, decide_step, paired_errors
from mendel.registry import CanaryRun, Opening, Snapshot
from mendel.values import EPOCH, ModelName, VersionRef, Window

BEGAN = EPOCH + timedelta(days=20_000)
POLICY = CanaryPolicy(bake=timedelta(minutes=10), patience=timedelta(hours=1))
REF = VersionRef(ModelName("credit"), 2)


def did(requests, errors=0, p95=None):
    rate = errors / requests if requests else None
    window = Window(BEGAN, BEGAN + timedelta(minutes=1))
    return Snapshot(
        ref=REF, window=window, source="counters", num_requests=requests, error_rate=rate, latency_p95_ms=p95
    )


def decide(canary, production, *, minutes=10, step=0, policy=POLICY, closed=""):
    run = CanaryRun(ref=REF, steps=policy.steps, step=step, began=BEGAN, step_began=BEGAN, by="ann")
    now = BEGAN + timedelta(minutes=minutes)
    opening = Opening(at=now + timedelta(hours=9) if closed else now, why=closed)
    return decide_step(run, policy, canary, production, opening=opening, now=now)


@pytest.mark.parametrize(
    ("canary", "production", "how", "verdict", "said"),
    [
        (did(400), did(8000), {}, "move_on", "as good"),
        (did(400), did(8000), {"step": 2}, "promote", "as good"),
        (did(400), did(8000), {"minutes": 9}, "wait", "lasts until"),
        (did(299), did(8000), {}, "wait", "299 requests of the canary"),
        (did(400), did(299), {}, "wait", "299 of production"),
        (did(400), did(8000), {"closed": "frozen: audit"}, "wait", "frozen: audit"),
        (did(20, 20), did(400), {"minutes": 1}, "demote", "more than the margin 1.00%"),
        (did(3, 1), did(400), {"minutes": 1}, "wait", "3 requests"),
        (did(400, 6), did(8000), {}, "wait", "may exceed"),
        (did(400, 40), did(8000, 800), {}, "wait", "may exceed"),
        (did(20_000, 2000), did(20_000, 2000), {}, "move_on", "as good"),
        (did(400, p95=31.0), did(8000, p95=20.0), {}, "demote", "1.55 times"),
        (did(400, p95=30.0), did(8000, p95=20.0), {}, "move_on", "as good"),
        (did(10), did(8000), {"minutes": 60}, "demote", "without proof: 10 requests"),
        (did(0), did(0), {}, "wait", "0 requests"),
    ],
)
def test_a_step(canary, production, how, verdict, said):
    """A step passes, waits or ends as the evidence says, and the reason tells the numbers."""
    decision = decide(canary, production, **how)
    assert (decision.verdict, said in decision.why) == (verdict, True), decision.why


def test_the_last_step_can_hold():
    """With ``at_end: hold`` a person promotes; the canary keeps its share."""
    policy = CanaryPolicy(at_end=AtEnd.HOLD)
    assert decide(did(400), did(8000), step=2, policy=policy).verdict is StepVerdict.WAIT


def test_the_interval_of_two_rates():
    """Newcombe (1998), table II, method 10: 56/70 against 48/80 gives 0.0524 to 0.3339 with confidence 0.95."""
    both = paired_errors(did(70, 56), did(80, 48))
    assert 0.0524 < both.low < both.high < 0.3339  # ours has confidence 0.9
    assert both.sure_low < 0.0524


@given(st.integers(1, 400), st.integers(1, 400), st.data())
def test_equal_rates_never_demote(requests, production, data):
    """A canary that fails no more often than production is never demoted for its errors."""
    errors = data.draw(st.integers(0, requests))
    rate = errors / requests
    more = data.draw(st.integers(0, production))
    if more / production >= rate:
        assert decide(did(requests, errors), did(production, more)).verdict is not StepVerdict.DEMOTE


@pytest.mark.parametrize(
    "section", [{"steps": []}, {"steps": [0.5, 0.2]}, {"steps": [0.5, 1.0]}, {"bake": "0s"}, {"latency_ratio": 0.5}]
)
def test_sections_that_are_refused(section):
    """Steps that do not grow within (0, 1), and bounds without sense, are refused when the policy is set."""
    with pytest.raises(InvalidPolicy, match="canary"):
        CanaryPolicy.of({"canary": section})
