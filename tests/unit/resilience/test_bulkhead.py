"""The bulkhead's decision, by hand and as properties."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.resilience import BulkheadPolicy, Rejected

SECOND = timedelta(seconds=1)
NARROW = BulkheadPolicy(max_concurrent=1, max_queue=2, queue_timeout=5 * SECOND)


def entered(*, waiting=0, wait=0, remaining=60.0):
    return NARROW.refusal(waiting=waiting, wait_seconds=wait, remaining_seconds=remaining)


def test_a_full_queue_refuses():
    """Two may wait; the third is refused and learns when its turn would have come."""
    assert entered(waiting=1, wait=1) is None
    assert entered(waiting=2, wait=1) == Rejected(retry_after=SECOND, reason="2 requests already wait")


def test_a_wait_that_would_outlive_the_deadline_is_refused():
    """When the turn comes in 2 s, a call with 3 s left waits, and one with 1 s left learns when to come back."""
    assert entered(wait=2, remaining=3.0) is None
    assert entered(wait=2, remaining=1.0) == Rejected(retry_after=2 * SECOND, reason="the expected wait is 2.0 s")


def test_a_wait_longer_than_the_queue_timeout_is_refused():
    """A slow model does not collect calls whose time would run out in the queue."""
    assert entered(wait=6) == Rejected(retry_after=6 * SECOND, reason="the expected wait is 6.0 s")


@given(waiting=st.integers(0, 5), wait=st.integers(0, 10), remaining=st.floats(0, 10))
def test_only_calls_within_every_limit_wait(waiting, wait, remaining):
    """A call waits exactly when the queue has a place and its turn comes before its deadline and the queue timeout."""
    fits = waiting < NARROW.max_queue and wait <= min(remaining, NARROW.queue_timeout.total_seconds())
    refusal = entered(waiting=waiting, wait=wait, remaining=remaining)
    assert (refusal is None) == fits
    assert refusal is None or refusal.retry_after == wait * SECOND


def test_a_policy_without_width_is_refused():
    """A policy out of range is refused at birth."""
    with pytest.raises(InvalidValue, match="bulkhead settings are invalid"):
        BulkheadPolicy(max_concurrent=0)
