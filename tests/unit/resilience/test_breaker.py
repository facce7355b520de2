"""The circuit breaker, by hand and as a state machine."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mendel.errors import InvalidValue
from mendel.resilience import Admitted, Breaker, BreakerPhase, BreakerPolicy, CallRefused
from mendel.values import EPOCH

SECOND = timedelta(seconds=1)
POLICY = BreakerPolicy()


def after(breaker, seconds, **counts):
    return breaker.record(EPOCH + seconds * SECOND, epoch=breaker.epoch, **counts)


def opened():
    return after(Breaker(policy=POLICY), 0, faults=4)


def test_opens_at_the_failure_rate_of_the_window():
    """Half of four calls failing opens it; fewer calls or a smaller share do not."""
    assert after(Breaker(policy=POLICY), 0, good=2, faults=2).phase is BreakerPhase.OPEN
    assert after(Breaker(policy=POLICY), 0, faults=3).phase is BreakerPhase.CLOSED
    assert after(Breaker(policy=POLICY), 0, good=3, faults=2).phase is BreakerPhase.CLOSED


def test_a_good_call_never_opens_it():
    """Reaching the minimum with a success leaves it closed, however bad the share is."""
    breaker = after(Breaker(policy=POLICY), 0, faults=3)
    assert after(breaker, 0, good=1).phase is BreakerPhase.CLOSED


def test_faults_older_than_the_window_are_forgotten():
    """The window slides: what happened 60 s ago no longer counts."""
    breaker = after(Breaker(policy=POLICY), 0, faults=3)
    assert after(breaker, 53, faults=1).phase is BreakerPhase.OPEN
    assert after(breaker, 60, faults=1).phase is BreakerPhase.CLOSED


def test_refuses_while_open_and_says_how_long():
    """Open, it refuses with the time that is left of its 20 s."""
    breaker, admission = opened().admit(EPOCH + 5 * SECOND)
    assert admission == CallRefused(retry_after=15 * SECOND)
    assert breaker.phase is BreakerPhase.OPEN


def test_all_probes_must_succeed_to_close():
    """After 20 s three probes go; the third success closes it with an empty window."""
    breaker = opened()
    for _ in range(3):
        breaker, admission = breaker.admit(EPOCH + 20 * SECOND)
        assert admission == Admitted(epoch=2, probe=True)
    breaker, admission = breaker.admit(EPOCH + 21 * SECOND)
    assert admission == CallRefused(retry_after=1 * SECOND)
    breaker = after(breaker, 22, good=2)
    assert breaker.phase is BreakerPhase.HALF_OPEN
    breaker = after(breaker, 22, good=1)
    assert (breaker.phase, breaker.slots) == (BreakerPhase.CLOSED, ())


def test_one_failed_probe_opens_it_again():
    """A fault of a probe opens it for another 20 s."""
    breaker, _ = opened().admit(EPOCH + 20 * SECOND)
    breaker = after(breaker, 22, faults=1)
    assert breaker.admit(EPOCH + 41 * SECOND)[1] == CallRefused(retry_after=1 * SECOND)


def test_a_neutral_probe_gives_its_place_back():
    """A probe that ended by the caller's error says nothing, and another may go."""
    breaker, _ = opened().admit(EPOCH + 20 * SECOND)
    breaker = after(breaker, 20, neutral=1)
    assert (breaker.phase, breaker.probes_running, breaker.probes_passed) == (BreakerPhase.HALF_OPEN, 0, 0)


def test_lost_probes_are_given_up():
    """Probes that never end do not keep it half-open for ever."""
    breaker = opened()
    for _ in range(3):
        breaker, _ = breaker.admit(EPOCH + 20 * SECOND)
    lost = breaker.epoch
    breaker, admission = breaker.admit(EPOCH + 40 * SECOND)
    assert isinstance(admission, Admitted)
    assert breaker.record(EPOCH + 41 * SECOND, epoch=lost, faults=3) == breaker


@pytest.mark.parametrize(
    "values",
    [{"failure_rate": 0}, {"failure_rate": 1.1}, {"minimum_calls": 0}, {"probes": 0}, {"window": timedelta(0)}],
)
def test_policies_that_cannot_be_meant_are_refused(values):
    """A policy out of range is refused at birth."""
    with pytest.raises(InvalidValue, match="circuit breaker settings are invalid"):
        BreakerPolicy(**values)


class BreakerMachine(RuleBasedStateMachine):
    """Any order of arrivals, ends of any kind, losses and waits."""

    def __init__(self):
        super().__init__()
        self.policy = BreakerPolicy(minimum_calls=3, probes=2)
        self.breaker = Breaker(policy=self.policy)
        self.now = EPOCH
        self.flying = []
        self.ends = 0
        self.faults = 0

    def note(self, before, after_):
        if after_.epoch != before.epoch:
            self.ends = self.faults = 0

    @rule(seconds=st.sampled_from([0, 0.5, 7, 20, 61]))
    def wait(self, seconds):
        self.now += seconds * SECOND

    @rule()
    def arrive(self):
        before = self.breaker
        self.breaker, admission = before.admit(self.now)
        self.note(before, self.breaker)
        if isinstance(admission, Admitted):
            assert admission.probe == (self.breaker.phase is BreakerPhase.HALF_OPEN)
            self.flying.append(admission)
        else:
            assert timedelta(0) < admission.retry_after <= self.policy.open_for
            assert before.phase is not BreakerPhase.CLOSED

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), how=st.sampled_from(["good", "faults", "neutral", "lost"]))
    def end(self, data, how):
        call = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        if how == "lost":
            return
        before = self.breaker
        self.breaker = before.record(self.now, epoch=call.epoch, **{how: 1})
        if call.epoch != before.epoch:
            assert self.breaker == before, "an end of a former epoch changes nothing"
            return
        self.ends += how != "neutral"
        self.faults += how == "faults"
        if self.breaker.phase is BreakerPhase.OPEN and before.phase is BreakerPhase.CLOSED:
            assert how == "faults"
            assert self.ends >= self.policy.minimum_calls
        if how == "neutral":
            assert self.breaker.phase is before.phase
        self.note(before, self.breaker)

    @invariant()
    def never_more_probes_than_allowed(self):
        probes = [call for call in self.flying if call.probe and call.epoch == self.breaker.epoch]
        assert len(probes) <= self.policy.probes
        assert self.breaker.probes_running + self.breaker.probes_passed <= self.policy.probes


BreakerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBreaker = BreakerMachine.TestCase
