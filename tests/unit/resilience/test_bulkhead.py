"""The bulkhead, by hand and as a state machine."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mendel.errors import InvalidValue
from mendel.resilience import Bulkhead, BulkheadPolicy, Rejected, RunNow, WaitForPlace

SECOND = timedelta(seconds=1)
NARROW = BulkheadPolicy(max_concurrent=1, max_queue=2, queue_timeout=5 * SECOND)


def filled(*, waiting=0, took=2 * SECOND):
    bulkhead, _ = Bulkhead(policy=NARROW).arrived()
    bulkhead, _ = bulkhead.finished(took)
    for _ in range(1 + waiting):
        bulkhead, _ = bulkhead.arrived()
    return bulkhead


def test_runs_waits_and_is_full():
    """One runs, two wait, the fourth is turned away with the time of its turn."""
    bulkhead, first = Bulkhead(policy=NARROW).arrived()
    bulkhead, second = bulkhead.arrived()
    bulkhead, third = bulkhead.arrived()
    bulkhead, fourth = bulkhead.arrived()
    assert (first, second, third) == (RunNow(), WaitForPlace(at_most=5 * SECOND), WaitForPlace(at_most=5 * SECOND))
    assert fourth == Rejected(retry_after=timedelta(0), reason="full")


def test_a_place_goes_to_who_waits():
    """The end of a call hands its place on; with nobody waiting it becomes free."""
    bulkhead, handed_on = filled(waiting=1).finished(SECOND)
    assert (handed_on, bulkhead.running, bulkhead.waiting) == (True, 1, 0)
    bulkhead, handed_on = bulkhead.finished(SECOND)
    assert (handed_on, bulkhead.running) == (False, 0)


def test_a_wait_that_would_outlive_the_deadline_is_refused():
    """At 2 s a call, the next turn is in 2 s: patience for 3 s waits, for 1 s is told when to come back."""
    assert filled().arrived(remaining=3 * SECOND)[1] == WaitForPlace(at_most=3 * SECOND)
    assert filled().arrived(remaining=1 * SECOND)[1] == Rejected(retry_after=2 * SECOND, reason="too late")


def test_a_wait_longer_than_the_queue_timeout_is_refused():
    """A slow model does not collect waiters whose time would run out in the queue."""
    assert filled(took=6 * SECOND).arrived()[1] == Rejected(retry_after=6 * SECOND, reason="too late")


def test_leaving_makes_room():
    """A waiter that gives up makes room for another; ends and departures of nobody are refused."""
    bulkhead = filled(waiting=1).gave_up()
    assert bulkhead.waiting == 0
    with pytest.raises(InvalidValue):
        bulkhead.gave_up()
    with pytest.raises(InvalidValue):
        Bulkhead(policy=NARROW).finished(SECOND)


def test_a_policy_without_width_is_refused():
    """A policy out of range is refused at birth."""
    with pytest.raises(InvalidValue, match="not a valid bulkhead policy"):
        BulkheadPolicy(max_concurrent=0)


class BulkheadMachine(RuleBasedStateMachine):
    """Any order of arrivals, ends and departures."""

    def __init__(self):
        super().__init__()
        self.policy = BulkheadPolicy(max_concurrent=3, max_queue=4, queue_timeout=30 * SECOND)
        self.bulkhead = Bulkhead(policy=self.policy)
        self.running = self.waiting = 0

    @rule(remaining=st.none() | st.integers(0, 60).map(lambda n: n * SECOND))
    def arrive(self, remaining):
        self.bulkhead, entry = self.bulkhead.arrived(remaining=remaining)
        match entry:
            case RunNow():
                assert self.waiting == 0, "nobody overtakes those who wait"
                self.running += 1
            case WaitForPlace(at_most=at_most):
                assert self.running == self.policy.max_concurrent
                assert at_most <= self.policy.queue_timeout
                self.waiting += 1
            case Rejected(retry_after=retry_after):
                assert retry_after >= timedelta(0)
                assert self.running == self.policy.max_concurrent

    @precondition(lambda self: self.running)
    @rule(took=st.integers(0, 20).map(lambda n: n * SECOND))
    def finish(self, took):
        self.bulkhead, handed_on = self.bulkhead.finished(took)
        assert handed_on == bool(self.waiting)
        if handed_on:
            self.waiting -= 1
        else:
            self.running -= 1

    @precondition(lambda self: self.waiting)
    @rule()
    def leave(self):
        self.bulkhead = self.bulkhead.gave_up()
        self.waiting -= 1

    @invariant()
    def never_wider_than_it_is(self):
        assert (self.bulkhead.running, self.bulkhead.waiting) == (self.running, self.waiting)
        assert self.running <= self.policy.max_concurrent
        assert self.waiting <= self.policy.max_queue


BulkheadMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBulkhead = BulkheadMachine.TestCase
