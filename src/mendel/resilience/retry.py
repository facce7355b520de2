"""Retry with capped exponential back-off: the decision whether to try again, and after how long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from mendel.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    The parameters of capped exponential back-off.

    Attributes:
        attempts: The number of attempts in total, including the first.
        base: The wait after the first failure; each further failure doubles the wait.
        cap: The longest wait.
        jitter: The random share of each wait, a fraction in [0, 1].
        within: No attempt begins later than this after the first one; None: only ``attempts`` is a bound.
    """

    attempts: int = 5
    base: timedelta = timedelta(milliseconds=100)
    cap: timedelta = timedelta(seconds=10)
    jitter: float = 0.5
    within: timedelta | None = None

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base < timedelta(0) or self.cap < self.base or not 0 <= self.jitter <= 1:
            raise InvalidValue(
                f"The retry settings are invalid: {self}.",
                remedy="Set attempts >= 1, 0 <= base <= cap, jitter in [0, 1].",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Make the next attempt when the time ``after`` has passed."""

    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Make no further attempt; ``attempts`` were made."""

    attempts: int


RetryDecision = TryAgain | GiveUp


def decide_retry(
    policy: RetryPolicy, failures: int, rng: random.Random, *, elapsed: timedelta = timedelta(0)
) -> RetryDecision:
    """
    Decide whether to try again after *failures* failures in a row, at least 1, *elapsed* after the first attempt began.

        wait = min(cap, base * 2**(failures - 1)) * (1 - jitter * U),  U uniform in [0, 1)

    >>> policy = RetryPolicy(attempts=3, base=timedelta(seconds=1), jitter=0)
    >>> decide_retry(policy, 2, random.Random(0))
    TryAgain(after=datetime.timedelta(seconds=2))
    >>> decide_retry(policy, 3, random.Random(0))
    GiveUp(attempts=3)
    >>> brief = RetryPolicy(attempts=9, base=timedelta(seconds=1), jitter=0, within=timedelta(seconds=5))
    >>> decide_retry(brief, 2, random.Random(0), elapsed=timedelta(seconds=4))
    GiveUp(attempts=2)
    """
    if failures >= policy.attempts:
        return GiveUp(attempts=failures)
    doublings = min(failures - 1, 62)  # a larger power overflows timedelta; the cap applies long before
    wait = min(policy.cap.total_seconds(), policy.base.total_seconds() * 2**doublings)
    after = timedelta(seconds=wait * (1 - policy.jitter * rng.random()))
    if policy.within is not None and elapsed + after > policy.within:
        return GiveUp(attempts=failures)
    return TryAgain(after=after)
