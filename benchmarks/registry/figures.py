"""Measured figures with their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Figure:
    """A measured value; it must be below ``bound``, or with ``least`` at least ``bound``."""

    what: str
    value: float
    unit: str
    bound: float | None = None
    least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bound holds; true without a bound."""
        if self.bound is None:
            return True
        return self.value >= self.bound if self.least else self.value < self.bound

    def __str__(self) -> str:
        bound = "" if self.bound is None else f"{'>=' if self.least else '<'} {self.bound:g} {self.unit}"
        return f"{self.what:44}{self.value:>9.2f} {self.unit:2}{bound:>12}{'' if self.holds else '  MISSED'}"


def quantile(times: Sequence[float], q: float) -> float:
    """The *q*-quantile of *times*."""
    return float(np.quantile(np.asarray(times), q))
