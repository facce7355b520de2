"""Retry: whether to try again, and after how long, as a value."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from mendel.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    Capped exponential back-off.

    Attributes:
        attempts: How often to try in all, the first time included.
        base: The wait after the first failure; it doubles with every further one.
        cap: The longest wait.
        jitter: The share of each wait that is chance, a fraction in [0, 1].
    """

    attempts: int = 5
    base: timedelta = timedelta(milliseconds=100)
    cap: timedelta = timedelta(seconds=10)
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.base < timedelta(0) or self.cap < self.base or not 0 <= self.jitter <= 1:
            raise InvalidValue(
                f"{self} is not a retry policy.", remedy="attempts >= 1, 0 <= base <= cap, jitter in [0, 1]."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Try again ``after`` this long."""

    after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """Stop trying after this many ``attempts``."""

    attempts: int


Retry = TryAgain | GiveUp


def decide_retry(policy: RetryPolicy, failures: int, rng: random.Random) -> Retry:
    """
    What to do after the *failures*-th failure in a row, counted from 1.

        wait = min(cap, base * 2**(failures - 1)) * (1 - jitter * U),  U uniform in [0, 1)

    >>> calm = RetryPolicy(attempts=3, base=timedelta(seconds=1), jitter=0)
    >>> decide_retry(calm, 2, random.Random(0))
    TryAgain(after=datetime.timedelta(seconds=2))
    >>> decide_retry(calm, 3, random.Random(0))
    GiveUp(attempts=3)
    """
    if failures >= policy.attempts:
        return GiveUp(attempts=failures)
    doublings = min(failures - 1, 62)  # beyond, the product overflows a timedelta long after the cap holds
    wait = min(policy.cap.total_seconds(), policy.base.total_seconds() * 2**doublings)
    return TryAgain(after=timedelta(seconds=wait * (1 - policy.jitter * rng.random())))
