"""What a look at a window found."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mendel.drift.features import FeatureType
from mendel.drift.policy import Band, MonitoringPolicy
from mendel.errors import ReferenceMismatch
from mendel.values import Digest, Measured, Measurement, NotMeasured, Severity, Window, to_builtins, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How large a change is by one statistic, and how large it must be to matter."""

    method: str
    value: float
    threshold: float

    @property
    def crossed(self) -> bool:
        """Whether it matters."""
        return self.value > self.threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReading:
    """
    One aspect of one feature against the reference.

    ``aspect`` is ``values`` (which values occur) or ``presence`` (whether there is a finite value at all). ``p_value``
    is of ``test``; ``corrected`` is the same over all tests of the report. ``effects`` are those the policy names, the
    leading one first. It has ``drifted`` when the corrected p-value is below alpha and every effect has crossed.
    """

    aspect: str
    test: str
    statistic: float
    p_value: float
    corrected: float
    effects: tuple[Effect, ...]
    samples: int
    drifted: bool

    @property
    def method(self) -> str:
        """The statistic that leads."""
        return self.effects[0].method

    @property
    def value(self) -> float:
        """The leading effect."""
        return self.effects[0].value

    @property
    def threshold(self) -> float:
        """What the leading effect must exceed."""
        return self.effects[0].threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class DataQuality:
    """
    Shares of all rows of a window, beside those of the reference where it can have any.

    ``out_of_range`` counts numbers outside the reference's range, infinities included; ``new_categories`` categories
    that the reference has no cell for. Each is 0 for features of the other type.
    """

    missing: float
    reference_missing: float
    out_of_range: float
    new_categories: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureReport:
    """
    One feature of a window.

    ``readings`` are what could be measured; ``not_measured`` says why not all was. ``divergence`` is the KL divergence
    from the reference over all cells less its bias, in nats; None where no reading is.
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
        """Whether any aspect has drifted; None where none was measured."""
        return any(reading.drifted for reading in self.readings) if self.readings else None

    @property
    def reading(self) -> DriftReading | None:
        """The one to show: the first that has drifted, or else the first."""
        return next((r for r in self.readings if r.drifted), self.readings[0] if self.readings else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """
    A window against the reference.

    ``drift_share`` is the share of drifted among evaluated inputs, ``input_drift_score`` the mean of the inputs'
    divergences and ``output_drift_score`` that of the outputs'. ``drift_detected`` is None where the share was not
    measured.
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
        """Every reading of every feature, in the features' order."""
        return tuple(reading for feature in self.features for reading in feature.readings)

    @property
    def severity(self) -> Severity | None:
        """How bad it is: low for a warning, medium for a critical share; None where nothing is to be said."""
        return {Band.WARNING: Severity.LOW, Band.CRITICAL: Severity.MEDIUM}.get(self.band)

    @property
    def drifted_features(self) -> tuple[str, ...]:
        """Inputs that have drifted, by name."""
        return tuple(feature.name for feature in self.features if feature.drifted and not feature.output)

    @property
    def drifted_outputs(self) -> tuple[str, ...]:
        """Outputs that have drifted, by name."""
        return tuple(feature.name for feature in self.features if feature.drifted and feature.output)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical JSON of everything above."""
        return Digest(f"sha256:{hashlib.sha256(to_json(self)).hexdigest()}")

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON knows it, with its digest and what follows from it."""
        tree: dict[str, Any] = to_builtins(self)
        for feature, branch in zip(self.features, tree["features"], strict=True):
            branch["drifted"] = feature.drifted
        named = {"drifted_features": list(self.drifted_features), "drifted_outputs": list(self.drifted_outputs)}
        return {**tree, **named, "digest": str(self.digest)}

    def __str__(self) -> str:
        if isinstance(self.drift_share, NotMeasured):
            return f"drift not measured: {self.drift_share}"
        names = ", ".join(self.drifted_features) or "none"
        share, evaluated = self.drift_share.value, self.drift_share.samples
        return f"{self.band}: {share:.0%} of {evaluated} features drifted ({names}) in {self.rows} rows"


def confirmed(reports: Sequence[DriftReport], policy: MonitoringPolicy) -> bool:
    """
    Whether drift stands in as many consecutive windows as the policy asks for.

    Args:
        reports: Of consecutive windows against one reference, oldest first. A second report of the same window, made
            when late rows came, takes the place of the first. Windows that could not be measured say neither yes nor
            no and are passed over.

    Raises:
        ReferenceMismatch: The reports are against different references.
    """
    if len({report.reference_id for report in reports}) > 1:
        raise ReferenceMismatch("Windows against different references cannot confirm each other.")
    latest = {report.window or position: report for position, report in enumerate(reports)}
    measured = [report for report in latest.values() if isinstance(report.drift_share, Measured)]
    last = measured[-policy.confirm :]
    return len(last) == policy.confirm and all(report.drift_detected for report in last)
