"""A measurement is either a number or the reason why the number is missing; both are types."""

from __future__ import annotations

import msgspec


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured", tag_field="kind"):
    """
    A number and the count of observations that it was computed from.

    ``low`` and ``high`` are the ends of the confidence interval, None when the statistic has none; the producer states
    the confidence level. This is a msgspec struct with a tag, so that JSON distinguishes the two types.
    """

    value: float
    samples: int
    low: float | None = None
    high: float | None = None


class NotMeasured(msgspec.Struct, frozen=True, kw_only=True, tag="not_measured", tag_field="kind"):
    """
    The reason why a number is missing.

    ``have`` and ``need`` count observations; they are set only when there were too few.
    """

    reason: str
    have: int | None = None
    need: int | None = None

    def __str__(self) -> str:
        return self.reason if self.need is None else f"{self.reason} (have {self.have}, need {self.need})"


Measurement = Measured | NotMeasured
