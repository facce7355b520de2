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

    ``have`` and ``need`` count observations, and ``unit`` names them, for example ``rows``; they are set only when
    there were too few.

    >>> print(NotMeasured(reason="insufficient_data", have=8, need=50, unit="requests"))
    insufficient_data (have 8 requests, need 50)
    """

    reason: str
    have: int | None = None
    need: int | None = None
    unit: str | None = None

    def __str__(self) -> str:
        if self.need is None:
            return self.reason
        counted = f"{self.have}" if self.unit is None else f"{self.have} {self.unit}"
        return f"{self.reason} (have {counted}, need {self.need})"


Measurement = Measured | NotMeasured
