"""Parity: whether a registered version gives the same answers to its probe rows as the fitted model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

PARITY_FILE: Final = "mendel/parity.json"
"""The file of an artefact that holds the result of the check at registration."""


class ParityStatus(StrEnum):
    """The result of a parity check."""

    PASSED = "passed"
    DIFFERS = "differs"
    NOT_MEASURED = "not_measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityReport:
    """
    The result of comparing the answers of a version with the answers of the fitted model.

    Attributes:
        reason: Why parity was not measured, or the first difference: its row and what differs, without values.
        detail: The first difference with both answers, or the message of the fault that prevented the check, for
            callers with the scope ``deploy``; else empty.
        difference_id: One digest per difference, separated by spaces; empty without a difference.
        rows: The number of probe rows that were sent in one request.
        singles: The number of these rows that were also sent alone; at most 8 in the report that is stored with the
            version.
    """

    status: ParityStatus
    reason: str = ""
    detail: str = ""
    rows: int = 0
    singles: int = 0
    difference_id: str = ""

    def admits(self, accepted: str | None) -> bool:
        """
        Tell whether a version with this report may serve.

        Args:
            accepted: The ``difference_id`` of the differences that a person accepted, or None. A check that asks fewer
                rows alone finds some of these differences, and is admitted, too.
        """
        if self.status is not ParityStatus.DIFFERS:
            return True
        found = set(self.difference_id.split())
        return bool(found) and found <= set((accepted or "").split())

    def joined(self, former: ParityReport, ids: str) -> ParityReport:
        """Give this report with the differences *ids*; without one of its own, in the words of *former*."""
        told = self if self.status is ParityStatus.DIFFERS else former
        every = " ".join(dict.fromkeys(ids.split()))
        return replace(told, rows=self.rows, singles=self.singles, difference_id=every)

    @property
    def told(self) -> str:
        """The reason, with both values of the first difference; only callers with the scope ``deploy`` get it."""
        return self.detail or self.reason

    @property
    def public(self) -> ParityReport:
        """The report without values of probe rows or their answers."""
        return replace(self, detail="")

    @classmethod
    def not_measured(cls, reason: str, *, detail: str = "") -> ParityReport:
        return cls(status=ParityStatus.NOT_MEASURED, reason=reason, detail=detail)

    def __str__(self) -> str:
        match self.status:
            case ParityStatus.PASSED:
                return f"passed ({self.rows} rows together, {self.singles} alone)"
            case ParityStatus.DIFFERS:
                return f"differs: {self.reason}"
            case _:
                return f"not measured: {self.reason}"
