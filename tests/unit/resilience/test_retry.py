"""Retry decisions."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.resilience import GiveUp, RetryPolicy, TryAgain, decide_retry

SECOND = timedelta(seconds=1)


@given(
    attempts=st.integers(1, 2000),
    failures=st.integers(1, 2000),
    jitter=st.floats(0, 1),
    cap=st.integers(1, 10_000),
    seed=st.integers(),
)
def test_waits_are_capped_and_attempts_counted(attempts, failures, jitter, cap, seed):
    """There are never more attempts than allowed, and no wait is above the cap or below its jittered share."""
    policy = RetryPolicy(attempts=attempts, base=SECOND, cap=cap * SECOND, jitter=jitter)
    match decide_retry(policy, failures, random.Random(seed)):
        case GiveUp(attempts=made):
            assert made == failures >= attempts
        case TryAgain(after=wait):
            assert failures < attempts
            whole = min(cap, 2 ** (failures - 1))
            assert whole * (1 - jitter) - 1e-5 <= wait.total_seconds() <= whole


@given(elapsed=st.timedeltas(timedelta(0), timedelta(minutes=2)), failures=st.integers(1, 500))
def test_no_attempt_begins_after_the_time_is_over(elapsed, failures):
    """With a bound in time, each wait ends before it, however many attempts are left."""
    policy = RetryPolicy(attempts=1000, base=timedelta(milliseconds=10), within=timedelta(minutes=1))
    decision = decide_retry(policy, failures, random.Random(failures), elapsed=elapsed)
    if elapsed > policy.within:
        assert decision == GiveUp(attempts=failures)
    assert isinstance(decision, GiveUp) or elapsed + decision.after <= policy.within


def test_retry_policies_that_cannot_be_meant_are_refused():
    """A policy out of range is refused at birth."""
    with pytest.raises(InvalidValue):
        RetryPolicy(attempts=0)
    with pytest.raises(InvalidValue):
        RetryPolicy(base=2 * SECOND, cap=SECOND)
