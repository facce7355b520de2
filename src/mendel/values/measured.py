"""Absence is a type: a number is measured, or it is not and says why."""

from __future__ import annotations

import msgspec


class Measured(msgspec.Struct, frozen=True, kw_only=True, tag="measured", tag_field="kind"):
    """
    A number and how many observations stand behind it.

    ``low`` and ``high`` bound it at the confidence its producer names, where an interval exists. A struct, not a
    dataclass, so that the union of the two can be told apart in JSON.
    """

    value: float
    samples: int
    low: float | None = None
    high: float | None = None


class NotMeasured(msgspec.Struct, frozen=True, kw_only=True, tag="not_measured", tag_field="kind"):
    """Why there is no number; ``have`` and ``need`` count observations where that is the reason."""

    reason: str
    have: int | None = None
    need: int | None = None

    def __str__(self) -> str:
        return self.reason if self.need is None else f"{self.reason} (have {self.have}, need {self.need})"


Measurement = Measured | NotMeasured
