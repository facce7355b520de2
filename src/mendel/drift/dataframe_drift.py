"""Detect drift between two data frames from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mendel.drift.comparison import compare
from mendel.drift.drift_report import DriftReport, FeatureReport
from mendel.drift.policy import MonitoringPolicy
from mendel.drift.reference import Reference
from mendel.errors import EmptyWindow
from mendel.values import Measured
from mendel.values.data_frames import as_table


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftDetection:
    """The result of :meth:`DriftDetector.detect`; ``report`` has all details and the reasons for missing values."""

    report: DriftReport

    @property
    def drift_detected(self) -> bool | None:
        """True when the share of drifted features reaches the policy's ``drift_share``; None with too few rows."""
        return self.report.drift_detected

    @property
    def drift_share(self) -> float | None:
        """The share of drifted features among the evaluated features; None with too few rows."""
        return self.report.drift_share.value if isinstance(self.report.drift_share, Measured) else None

    @property
    def drifted_features(self) -> tuple[str, ...]:
        return self.report.drifted_features

    @property
    def features(self) -> Mapping[str, FeatureReport]:
        """The report of each feature by its name."""
        return {feature.name: feature for feature in self.report.features}

    def as_dict(self) -> dict[str, Any]:
        """Convert the report to dicts, lists and scalars."""
        return self.report.as_dict()

    def __str__(self) -> str:
        return str(self.report)


class DriftDetector:
    """
    Compares two sets of rows: pandas or polars data frames, mappings of columns, or tables.

    Args:
        reference: The rows to compare with, such as training rows, or a fitted :class:`Reference`.
        current: The rows to test.
        policy: The thresholds; by default those of ``mlserver.yaml``'s ``monitoring`` section.

    Raises:
        EmptyWindow: *reference* or *current* has no row.
        InvalidValue: *reference* or *current* is not a data frame, a mapping of columns or a table.

    >>> import numpy as np
    >>> steady = {"age": np.arange(1000.0) % 50, "city": ["Ulm", "Bonn"] * 500}
    >>> moved = {"age": np.arange(1000.0) % 50 + 40, "city": ["Ulm", "Bonn"] * 500}
    >>> found = DriftDetector(steady, moved).detect()
    >>> found.drift_detected, found.drifted_features, found.drift_share
    (True, ('age',), 0.5)
    """

    def __init__(self, reference: Any, current: Any, *, policy: MonitoringPolicy | None = None) -> None:
        self._policy = policy or MonitoringPolicy()
        self._current = as_table(current, times="micros")
        if not len(self._current):
            raise EmptyWindow("The data to compare with the reference contain no row.", remedy="Give at least one row.")
        if isinstance(reference, Reference):
            self._reference = reference
        else:
            rows = as_table(reference, times="micros")
            types = {name: kind for name, kind in self._policy.types.items() if name in rows}
            self._reference = Reference.fit(rows, types=types)

    def detect(self) -> DriftDetection:
        return DriftDetection(report=compare(self._reference, self._current, self._policy))
