"""Absence is a type: a number is measured, or it is not and says why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """
    A number and how many observations stand behind it.

    ``low`` and ``high`` bound it at the confidence its producer names, where an interval exists.
    """

    value: float
    samples: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotMeasured:
    """Why there is no number; ``have`` and ``need`` count observations where that is the reason."""

    reason: str
    have: int | None = None
    need: int | None = None

    def __str__(self) -> str:
        return self.reason if self.need is None else f"{self.reason} (have {self.have}, need {self.need})"


Measurement = Measured | NotMeasured
