"""The circuit breaker (closed, open, half-open) as an immutable state; each event gives a new state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from mendel.errors import InvalidValue
from mendel.values import EPOCH

_SLOTS = 10  # the window slides in tenths
_PROBES_END = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """
    When the circuit breaker of a version opens, and when it closes again.

    Attributes:
        failure_rate: The share of failed calls in the window at which the breaker opens, a fraction in (0, 1].
        minimum_calls: The breaker stays closed while the window holds fewer calls.
        window: The period whose calls count; it slides in steps of a tenth of its length.
        open_for: How long the open breaker refuses every call before it admits probes.
        probes: How many probe calls the half-open breaker admits; it closes when all of them succeed.
    """

    failure_rate: float = 0.5
    minimum_calls: int = 4
    window: timedelta = timedelta(seconds=60)
    open_for: timedelta = timedelta(seconds=20)
    probes: int = 3

    def __post_init__(self) -> None:
        counts = self.minimum_calls >= 1 and self.probes >= 1
        spans = self.window > timedelta(0) and self.open_for > timedelta(0)
        if not (0 < self.failure_rate <= 1 and counts and spans):
            raise InvalidValue(
                f"The circuit breaker settings are invalid: {self}.",
                remedy=(
                    "Under resilience.circuit_breaker, set failure_rate in (0, 1], minimum_calls and "
                    "probes >= 1, window and open_for > 0."
                ),
            )


class BreakerPhase(StrEnum):
    """The three phases of a circuit breaker: calls pass, calls are refused, or only probe calls pass."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """
    The breaker lets the call pass.

    Attributes:
        epoch: The caller gives this number to :meth:`Breaker.record`; results of earlier epochs are ignored.
        probe: True when the call is a probe of the half-open breaker.
    """

    epoch: int
    probe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRefused:
    """
    The breaker refuses the call.

    Attributes:
        retry_after: The time until an open breaker admits probes. One second for a half-open breaker, because the
            duration of its running probes is unknown.
    """

    retry_after: timedelta


Admission = Admitted | CallRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Calls and failed calls in one tenth of the window; ``index`` counts tenths since 1970."""

    index: int
    calls: int
    faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """
    The state of a circuit breaker.

    Only faults of the version open the breaker: a call with invalid input counts neither as success nor as fault. When
    the result of a probe is not recorded within ``open_for``, the breaker admits a new set of probes.

    Attributes:
        epoch: Grows with every change of phase.
        since: When the phase began.
        probes_running: Probes without a result yet; 0 unless half-open.
        probes_passed: Probes that succeeded; 0 unless half-open.
    """

    policy: BreakerPolicy
    phase: BreakerPhase = BreakerPhase.CLOSED
    epoch: int = 0
    since: datetime = EPOCH
    probes_running: int = 0
    probes_passed: int = 0
    slots: tuple[_Slot, ...] = ()

    def admit(self, now: datetime) -> tuple[Breaker, Admission]:
        """Admit or refuse a call that arrives *now*; give the new state and the decision."""
        if self.phase is BreakerPhase.CLOSED:
            return self, Admitted(epoch=self.epoch, probe=False)
        wait = self.since + self.policy.open_for - now
        if wait <= timedelta(0):
            trial = self._moved(BreakerPhase.HALF_OPEN, now)
            return replace(trial, probes_running=1), Admitted(epoch=trial.epoch, probe=True)
        if self.phase is BreakerPhase.HALF_OPEN and self.probes_running + self.probes_passed < self.policy.probes:
            return replace(self, probes_running=self.probes_running + 1), Admitted(epoch=self.epoch, probe=True)
        return self, CallRefused(retry_after=wait if self.phase is BreakerPhase.OPEN else min(wait, _PROBES_END))

    def record(self, now: datetime, *, epoch: int, good: int = 0, faults: int = 0, neutral: int = 0) -> Breaker:
        """
        Record the results of calls that were admitted in *epoch*; give the new state.

        Args:
            good: How many calls were answered.
            faults: How many calls failed because the version is at fault.
            neutral: How many calls say nothing about the version: invalid input, or a caller that disconnected.
        """
        if epoch != self.epoch or self.phase is BreakerPhase.OPEN:
            return self
        if self.phase is BreakerPhase.HALF_OPEN:
            return self._tried(now, good=good, faults=faults, neutral=neutral)
        if not good and not faults:
            return self
        slots = _counted(self.slots, _index(now, self.policy), calls=good + faults, faults=faults)
        calls, failed = sum(slot.calls for slot in slots), sum(slot.faults for slot in slots)
        if faults and calls >= self.policy.minimum_calls and failed >= self.policy.failure_rate * calls:
            return self._moved(BreakerPhase.OPEN, now)
        return replace(self, slots=slots)

    def _tried(self, now: datetime, *, good: int, faults: int, neutral: int) -> Breaker:
        if faults:
            return self._moved(BreakerPhase.OPEN, now)
        passed = self.probes_passed + good
        if passed >= self.policy.probes:
            return self._moved(BreakerPhase.CLOSED, now)
        return replace(self, probes_passed=passed, probes_running=max(0, self.probes_running - good - neutral))

    def _moved(self, phase: BreakerPhase, now: datetime) -> Breaker:
        return Breaker(policy=self.policy, phase=phase, epoch=self.epoch + 1, since=now)


def _index(now: datetime, policy: BreakerPolicy) -> int:
    return (now - EPOCH) // (policy.window / _SLOTS)


def _counted(slots: tuple[_Slot, ...], index: int, *, calls: int, faults: int) -> tuple[_Slot, ...]:
    last = slots[-1] if slots else _Slot(index=index, calls=0, faults=0)
    index = max(index, last.index)  # a clock that goes back does not reorder the window
    kept = tuple(slot for slot in slots if index - _SLOTS < slot.index < index)
    before = last if last.index == index else _Slot(index=index, calls=0, faults=0)
    return (*kept, _Slot(index=index, calls=before.calls + calls, faults=before.faults + faults))
