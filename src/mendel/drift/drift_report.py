"""The report of a comparison of a window with a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mendel.drift.features import FeatureType
from mendel.drift.policy import Band, MonitoringPolicy
from mendel.errors import ReferenceMismatch
from mendel.values import Digest, Measured, Measurement, NotMeasured, Severity, Window, to_builtins, to_json

_NAMED = 5
"""The number of drifted features that the text of a report names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectSize:
    """The size of a change by one statistic, and the threshold above which the change is relevant."""

    method: str
    value: float
    threshold: float

    @property
    def crossed(self) -> bool:
        """True when the value exceeds the threshold."""
        return self.value > self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReading:
    """
    The test of one aspect of one feature against the reference.

    Attributes:
        aspect: ``values`` (which values occur) or ``presence`` (whether a value is finite, null or infinite).
        p_value: The p-value of ``test``.
        corrected: The p-value corrected over all tests of the report.
        effects: The effect sizes that the policy names; the first is the leading one.
        drifted: True when the corrected p-value is below alpha and every effect size exceeds its threshold.
    """

    aspect: str
    test: str
    statistic: float
    p_value: float
    corrected: float
    effects: tuple[EffectSize, ...]
    samples: int
    drifted: bool

    @property
    def method(self) -> str:
        """The name of the leading effect size."""
        return self.effects[0].method

    @property
    def value(self) -> float:
        """The value of the leading effect size."""
        return self.effects[0].value

    @property
    def threshold(self) -> float:
        """The threshold of the leading effect size."""
        return self.effects[0].threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQuality:
    """
    Data quality of one feature in a window, as shares of all its rows.

    Attributes:
        missing: The share of nulls.
        reference_missing: The share of nulls in the reference.
        out_of_range: The share of numbers outside the reference's range, infinities included; 0 for categories.
        new_categories: The share of categories that the reference does not have; 0 for numbers.
    """

    missing: float
    reference_missing: float
    out_of_range: float
    new_categories: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReport:
    """
    The report of one feature.

    Attributes:
        readings: The tests that could be made.
        not_measured: Why a test could not be made; None when all were made.
        divergence: The KL divergence from the reference over all cells, less its bias, in nats; None without readings.
    """

    name: str
    type: FeatureType
    output: bool
    readings: tuple[DriftReading, ...]
    not_measured: NotMeasured | None
    quality: DataQuality | None
    divergence: float | None

    @property
    def drifted(self) -> bool | None:
        """True when any aspect has drifted; None without readings."""
        return any(reading.drifted for reading in self.readings) if self.readings else None

    @property
    def reading(self) -> DriftReading | None:
        """The most relevant reading: the first that has drifted, else the first; None without readings."""
        return next((r for r in self.readings if r.drifted), self.readings[0] if self.readings else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """
    The comparison of a window with the reference.

    Attributes:
        drift_share: The share of drifted inputs among the evaluated inputs.
        drift_detected: True when ``drift_share`` reaches the policy's; None when the share was not measured.
        input_drift_score: The mean divergence of the inputs.
        output_drift_score: The mean divergence of the model's outputs.
    """

    reference_id: Digest
    profile_digest: Digest
    window: Window | None
    rows: int
    reference_rows: int
    features: tuple[FeatureReport, ...]
    drift_share: Measurement
    drift_detected: bool | None
    band: Band
    input_drift_score: Measurement
    output_drift_score: Measurement

    def __getitem__(self, name: str) -> FeatureReport:
        return next(feature for feature in self.features if feature.name == name)

    @property
    def readings(self) -> tuple[DriftReading, ...]:
        """The readings of all features, in the order of the features."""
        return tuple(reading for feature in self.features for reading in feature.readings)

    @property
    def severity(self) -> Severity | None:
        """The severity of an incident for this report: low for a warning, medium for a critical share, else None."""
        return {Band.WARNING: Severity.LOW, Band.CRITICAL: Severity.MEDIUM}.get(self.band)

    @property
    def drifted_features(self) -> tuple[str, ...]:
        """The names of the inputs that have drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted and not feature.output)

    @property
    def drifted_outputs(self) -> tuple[str, ...]:
        """The names of the model's outputs that have drifted."""
        return tuple(feature.name for feature in self.features if feature.drifted and feature.output)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the report's canonical JSON."""
        return Digest(f"sha256:{hashlib.sha256(to_json(self)).hexdigest()}")

    def as_dict(self) -> dict[str, Any]:
        """Convert the report to dicts, lists and scalars, with digest, drifted features and drifted outputs added."""
        tree: dict[str, Any] = to_builtins(self)
        for feature, branch in zip(self.features, tree["features"], strict=True):
            branch["drifted"] = feature.drifted
        named = {"drifted_features": list(self.drifted_features), "drifted_outputs": list(self.drifted_outputs)}
        return {**tree, **named, "digest": str(self.digest)}

    def __str__(self) -> str:
        if isinstance(self.drift_share, NotMeasured):
            return f"drift not measured: {self.drift_share}"
        more = len(self.drifted_features) - _NAMED
        names = ", ".join(self.drifted_features[:_NAMED]) + (f" and {more} more" if more > 0 else "") or "none"
        share, evaluated = self.drift_share.value, self.drift_share.samples
        return f"{self.band}: {share:.0%} of {evaluated} features drifted ({names}) in {self.rows} rows"


def is_drift_confirmed(reports: Sequence[DriftReport], policy: MonitoringPolicy) -> bool:
    """
    Tell whether drift was detected in as many consecutive windows as the policy's ``confirm`` requires.

    Args:
        reports: Reports of consecutive windows against one reference, oldest first. A later report of the same window
            replaces the earlier one. Reports without a measured share are skipped.

    Raises:
        ReferenceMismatch: The reports were made against different references.
    """
    if len({report.reference_id for report in reports}) > 1:
        raise ReferenceMismatch("The drift reports were made against different references, so they cannot be combined.")
    latest = {report.window or position: report for position, report in enumerate(reports)}
    measured = [report for report in latest.values() if isinstance(report.drift_share, Measured)]
    last = measured[-policy.confirm :]
    return len(last) == policy.confirm and all(report.drift_detected for report in last)
