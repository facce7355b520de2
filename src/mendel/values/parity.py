"""Parity: whether a version answers its probe rows through Mendel as the fitted model answered them before."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ParityStatus(StrEnum):
    """The result of a parity check."""

    PASSED = "passed"
    DIFFERS = "differs"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """
    The result of comparing served answers with the answers of the fitted model.

    Attributes:
        reason: Why parity was not measured, or the first difference: its row, its column and both values.
        rows: Probe rows that were answered all together.
        singles: Probe rows that were answered alone, too; in the file of a version at most 8 are counted.
    """

    status: ParityStatus
    reason: str = ""
    rows: int = 0
    singles: int = 0

    def admits(self, accepted: str | None) -> bool:
        """Tell whether a version with this report may serve, given the difference that a person accepted, if any."""
        return self.status is not ParityStatus.DIFFERS or self.reason == accepted

    @classmethod
    def not_measured(cls, reason: str) -> ParityReport:
        return cls(status=ParityStatus.NOT_MEASURED, reason=reason)

    def __str__(self) -> str:
        match self.status:
            case ParityStatus.PASSED:
                return f"passed ({self.rows} rows together, {self.singles} alone)"
            case ParityStatus.DIFFERS:
                return f"differs: {self.reason}"
            case _:
                return f"not measured: {self.reason}"
