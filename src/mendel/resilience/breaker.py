"""The circuit breaker: closed, open, half-open; every change is a function of a value, an event and a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from mendel.errors import InvalidValue
from mendel.values import EPOCH

_SLOTS = 10  # the window slides in tenths


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """
    When a version is taken out of use, and how it comes back.

    Attributes:
        failure_rate: The share of faults in the window at which it opens, a fraction in (0, 1].
        minimum_calls: Fewer calls in the window never open it.
        window: How far back calls count; it slides in tenths of itself.
        open_for: How long it refuses everything before it tries again.
        probes: How many calls it admits to try; all of them must succeed for it to close.
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
                f"{self} is not a breaker policy.",
                remedy="failure_rate in (0, 1], minimum_calls and probes >= 1, window and open_for > 0.",
            )


class BreakerPhase(StrEnum):
    """Where a breaker stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """
    The call may go.

    Attributes:
        epoch: To be given back with its end; ends of former epochs no longer count.
        probe: Whether the breaker is trying whether the version has recovered.
    """

    epoch: int
    probe: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The call may not go; trying again makes sense after ``retry_after``."""

    retry_after: timedelta


Admission = Admitted | Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Calls and faults of a tenth of a window; ``index`` counts tenths since 1970."""

    index: int
    calls: int
    faults: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """
    A circuit breaker as it stands.

    Only faults of the version open it: a caller's error is neither success nor fault. Probes whose end is never
    reported are given up after ``open_for``, and as many are admitted anew.

    Attributes:
        epoch: Grows with every change of phase.
        since: When the phase began.
        trying: Probes under way, when half-open.
        recovered: Probes that succeeded, when half-open.
    """

    policy: BreakerPolicy
    phase: BreakerPhase = BreakerPhase.CLOSED
    epoch: int = 0
    since: datetime = EPOCH
    trying: int = 0
    recovered: int = 0
    slots: tuple[_Slot, ...] = ()

    def admit(self, now: datetime) -> tuple[Breaker, Admission]:
        """Whether a call that arrives *now* may go."""
        if self.phase is BreakerPhase.CLOSED:
            return self, Admitted(epoch=self.epoch, probe=False)
        wait = self.since + self.policy.open_for - now
        if wait <= timedelta(0):
            trial = self._moved(BreakerPhase.HALF_OPEN, now)
            return replace(trial, trying=1), Admitted(epoch=trial.epoch, probe=True)
        if self.phase is BreakerPhase.HALF_OPEN and self.trying + self.recovered < self.policy.probes:
            return replace(self, trying=self.trying + 1), Admitted(epoch=self.epoch, probe=True)
        return self, Refused(retry_after=wait)

    def ended(self, now: datetime, *, epoch: int, good: int = 0, faults: int = 0, neutral: int = 0) -> Breaker:
        """
        Take note of calls of one *epoch* that ended.

        Args:
            good: How many were answered.
            faults: How many failed through the version's fault.
            neutral: How many say nothing about the version: the caller's error, a caller that went away.
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
        recovered = self.recovered + good
        if recovered >= self.policy.probes:
            return self._moved(BreakerPhase.CLOSED, now)
        return replace(self, recovered=recovered, trying=max(0, self.trying - good - neutral))

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
