"""Detect drift between two data frames from Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.drift.comparison import compare
from mendel.drift.drift_report import DriftReport, FeatureReport
from mendel.drift.policy import MonitoringPolicy
from mendel.drift.reference import Reference
from mendel.errors import EmptyWindow, InvalidValue
from mendel.values import Measured, Table


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

    >>> steady = {"age": np.arange(1000.0) % 50, "city": ["Ulm", "Bonn"] * 500}
    >>> moved = {"age": np.arange(1000.0) % 50 + 40, "city": ["Ulm", "Bonn"] * 500}
    >>> found = DriftDetector(steady, moved).detect()
    >>> found.drift_detected, found.drifted_features, found.drift_share
    (True, ('age',), 0.5)
    """

    def __init__(self, reference: Any, current: Any, *, policy: MonitoringPolicy | None = None) -> None:
        self._policy = policy or MonitoringPolicy()
        self._current = as_table(current)
        if not len(self._current):
            raise EmptyWindow("The data to compare with the reference contain no row.", remedy="Give at least one row.")
        if isinstance(reference, Reference):
            self._reference = reference
        else:
            rows = as_table(reference)
            types = {name: kind for name, kind in self._policy.types.items() if name in rows}
            self._reference = Reference.fit(rows, types=types)

    def detect(self) -> DriftDetection:
        return DriftDetection(report=compare(self._reference, self._current, self._policy))


def as_table(frame: Any) -> Table:
    """
    Convert a pandas or polars data frame, or a mapping of columns, to a table; a table stays unchanged.

    Raises:
        InvalidValue: *frame* is none of these.
    """
    if isinstance(frame, Table):
        return frame
    if isinstance(frame, Mapping):
        columns = frame
    elif hasattr(frame, "columns") and hasattr(frame, "__getitem__"):
        columns = {str(name): frame[name] for name in frame.columns}
    else:
        raise InvalidValue(
            f"An object of type {type(frame).__name__} has no columns.",
            remedy="Give a data frame or a mapping of names to columns.",
        )
    return Table({str(name): _as_column(column) for name, column in columns.items()})


def _as_column(column: Any) -> NDArray[Any]:
    array = np.asarray(column if isinstance(column, np.ndarray) else _numpy(column))
    if array.dtype.kind in "iuf":
        return array.astype(np.float64, copy=False)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind in "mM":
        micros = array.astype(f"{array.dtype.kind}8[us]")
        return np.where(np.isnat(micros), np.nan, micros.astype(np.int64).astype(np.float64))
    values = [None if _is_null(value) else value for value in array.tolist()]
    plain = np.empty(len(values), dtype=object)
    plain[:] = values
    return plain


def _numpy(column: Any) -> Any:
    return column.to_numpy() if hasattr(column, "to_numpy") else column


def _is_null(value: object) -> bool:
    """Tell whether *value* is None, NaN, or pandas' missing value, which is recognised by the name of its type."""
    absent = value is None or type(value).__name__ in {"NAType", "NaTType"}
    return absent or (isinstance(value, float) and math.isnan(value))
