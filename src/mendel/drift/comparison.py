"""Compare a window of rows with a reference: tests, effect sizes and the drift report."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mendel.drift import statistics
from mendel.drift.drift_report import DataQuality, DriftReading, DriftReport, EffectSize, FeatureReport
from mendel.drift.feature_counts import Cells
from mendel.drift.features import CategoryFeature, Feature, FeatureType, NumberFeature
from mendel.drift.policy import Band, MonitoringPolicy
from mendel.drift.profiles import Profile
from mendel.drift.reference import Reference
from mendel.errors import ReferenceMismatch
from mendel.values import Measured, Measurement, NotMeasured, Table, Window

INSUFFICIENT = "insufficient_data"
_NO_FEATURE = "no_feature_evaluated"


@dataclass(frozen=True, slots=True, kw_only=True)
class _FeatureTests:
    """The tests of one feature before the p-values are corrected over all features."""

    feature: Feature
    readings: tuple[DriftReading, ...]
    not_measured: NotMeasured | None
    quality: DataQuality
    divergence: float | None


def compare(
    reference: Reference, current: Profile | Table, policy: MonitoringPolicy, *, window: Window | None = None
) -> DriftReport:
    """
    Test which features of a window have drifted from a reference.

    A feature has drifted when a test's p-value, corrected over all tests (Benjamini-Hochberg), is below alpha **and**
    every effect size exceeds the policy's threshold, so that a tiny change is no drift however many rows show it.
    Numbers are tested by Kolmogorov-Smirnov and categories, nulls included, by chi-square. Whether a number is
    present, null or infinite is tested by chi-square too.

    Args:
        reference: The reference that the window is compared with.
        current: The window's rows, or their profile against *reference*.
        policy: The thresholds.
        window: The time window of the rows, for the report.

    Raises:
        ReferenceMismatch: The profile was made against another reference.
    """
    profile = Profile.of(reference, current) if isinstance(current, Table) else current
    if profile.reference_id != reference.id:
        raise ReferenceMismatch(
            (
                f"The profile was made against reference {profile.reference_id}, but the version has "
                f"reference {reference.id}."
            ),
            remedy=f"Profile the rows again, against reference {reference.id}.",
        )
    seen = [_test_feature(feature, profile.features[feature.name], policy) for feature in reference.features]
    corrected = iter(statistics.benjamini_hochberg([r.p_value for one in seen for r in one.readings]))
    features = tuple(
        FeatureReport(
            name=one.feature.name,
            type=FeatureType.CATEGORY if isinstance(one.feature, CategoryFeature) else FeatureType.NUMBER,
            output=one.feature.output,
            readings=tuple(_decide(reading, next(corrected), policy) for reading in one.readings),
            not_measured=one.not_measured,
            quality=one.quality if profile.rows else None,
            divergence=one.divergence,
        )
        for one in seen
    )
    return _report(reference, profile, features, policy, window)


def rejudge(report: DriftReport, policy: MonitoringPolicy) -> DriftReport:
    """
    Judge the measurements of *report* by the thresholds of *policy*: alpha, effect sizes, drift share and bands.

    Statistics are not computed again. A threshold for an effect size that the report did not measure has no effect, nor
    has ``min_rows``. Judged by the policy that made it, a report is unchanged.
    """
    features = tuple(
        replace(feature, readings=tuple(_under(reading, policy) for reading in feature.readings))
        for feature in report.features
    )
    inputs = [feature.drifted for feature in features if not feature.output and feature.drifted is not None]
    share = report.drift_share
    if isinstance(share, Measured) and inputs:
        share = Measured(value=sum(inputs) / len(inputs), samples=len(inputs))
    measured = share.value if isinstance(share, Measured) else None
    return replace(
        report,
        features=features,
        drift_share=share,
        drift_detected=_detected(measured, policy),
        band=_band(measured, policy),
    )


def _under(reading: DriftReading, policy: MonitoringPolicy) -> DriftReading:
    bounds = {
        "wasserstein": policy.effects.wasserstein,
        "js": policy.effects.js,
        "psi": policy.effects.psi,
        "kl": policy.effects.kl,
    }
    effects = tuple(
        replace(effect, threshold=bound)
        for effect in reading.effects
        if (bound := bounds.get(effect.method, effect.threshold)) is not None
    )
    return _decide(replace(reading, effects=effects), reading.corrected, policy)


def _report(
    reference: Reference,
    profile: Profile,
    features: tuple[FeatureReport, ...],
    policy: MonitoringPolicy,
    window: Window | None,
) -> DriftReport:
    share = _share([f for f in features if not f.output], profile.rows, policy)
    measured = share.value if isinstance(share, Measured) else None
    return DriftReport(
        reference_id=reference.id,
        profile_digest=profile.digest,
        window=window,
        rows=profile.rows,
        reference_rows=reference.rows,
        features=features,
        drift_share=share,
        drift_detected=_detected(measured, policy),
        band=_band(measured, policy),
        input_drift_score=_score([f for f in features if not f.output], profile.rows, policy),
        output_drift_score=_score([f for f in features if f.output], profile.rows, policy),
    )


def _test_feature(feature: Feature, cells: Cells, policy: MonitoringPolicy) -> _FeatureTests:
    before, after, rows = feature.cells.counts, cells.counts, int(cells.counts.sum())
    seen = _FeatureTests(
        feature=feature,
        readings=(),
        not_measured=NotMeasured(reason=INSUFFICIENT, have=rows, need=policy.min_rows, unit="rows"),
        quality=_quality(feature, cells),
        divergence=None,
    )
    if rows < policy.min_rows:
        return seen
    divergence = _divergence(before, after)
    if isinstance(feature, CategoryFeature):
        reading = _category_reading("values", before, after, policy)
        return replace(seen, readings=(reading,), not_measured=None, divergence=divergence)
    readings: list[DriftReading] = []
    missing_values = _too_few_values(before[:-2], after[:-2], policy)
    if missing_values is None:
        readings.append(_number_reading(feature, cells, policy))
    if before[-2:].any() or after[-2:].any():
        presence = [np.append(counts[:-2].sum(), counts[-2:]) for counts in (before, after)]
        readings.append(_category_reading("presence", presence[0], presence[1], policy))
    return replace(seen, readings=tuple(readings), not_measured=missing_values, divergence=divergence)


def _too_few_values(
    before: NDArray[np.int64], after: NDArray[np.int64], policy: MonitoringPolicy
) -> NotMeasured | None:
    if not before.any():
        return NotMeasured(reason="no_value_in_reference")
    have = int(after.sum())
    return (
        None
        if have >= policy.min_rows
        else NotMeasured(reason=INSUFFICIENT, have=have, need=policy.min_rows, unit="rows")
    )


def _number_reading(feature: NumberFeature, cells: Cells, policy: MonitoringPolicy) -> DriftReading:
    before, after = feature.cells.counts[:-2], cells.counts[:-2]
    tested = statistics.kolmogorov_smirnov(before, after)
    leading = EffectSize(method="wasserstein", value=_distance(feature, cells), threshold=policy.effects.wasserstein)
    return DriftReading(
        aspect="values",
        test="kolmogorov_smirnov",
        statistic=tested.statistic,
        p_value=tested.p_value,
        corrected=tested.p_value,
        effects=(leading, *_agreeing(before, after, policy, ordered=True)),
        samples=int(after.sum()),
        drifted=False,
    )


def _category_reading(
    aspect: str, before: NDArray[np.int64], after: NDArray[np.int64], policy: MonitoringPolicy
) -> DriftReading:
    tested = statistics.chi_square(*statistics.pool_sparse(before, after))
    leading = EffectSize(method="js", value=statistics.jensen_shannon(before, after), threshold=policy.effects.js)
    return DriftReading(
        aspect=aspect,
        test="chi_square",
        statistic=tested.statistic,
        p_value=tested.p_value,
        corrected=tested.p_value,
        effects=(leading, *_agreeing(before, after, policy, ordered=False)),
        samples=int(after.sum()),
        drifted=False,
    )


def _agreeing(
    before: NDArray[np.int64], after: NDArray[np.int64], policy: MonitoringPolicy, *, ordered: bool
) -> tuple[EffectSize, ...]:
    effects: list[EffectSize] = []
    if policy.effects.psi is not None:
        starts = statistics.coarsen(before) if ordered else np.arange(len(before))
        value = statistics.population_stability_index(np.add.reduceat(before, starts), np.add.reduceat(after, starts))
        effects.append(EffectSize(method="psi", value=value, threshold=policy.effects.psi))
    if policy.effects.kl is not None:
        effects.append(EffectSize(method="kl", value=_divergence(before, after), threshold=policy.effects.kl))
    return tuple(effects)


def _distance(feature: NumberFeature, cells: Cells) -> float:
    """
    Compute the Wasserstein distance in standard deviations of the reference.

    When the reference has one value only, its standard deviation is 0; the result is then the share of rows with
    another value.
    """
    before, after = feature.cells.counts[:-2], cells.counts[:-2]
    if feature.low == feature.high or not feature.std:
        return float(np.abs(before / before.sum() - after / after.sum()).sum() / 2)
    held, holds = before > 0, after > 0
    points = np.concatenate([feature.cells.means()[:-2][held], cells.means()[:-2][holds]])
    weights = (
        np.concatenate([before[held], np.zeros(holds.sum())]),
        np.concatenate([np.zeros(held.sum()), after[holds]]),
    )
    order = np.argsort(points, kind="stable")
    return statistics.wasserstein(points[order], weights[0][order], weights[1][order], scale=feature.std)


def _divergence(before: NDArray[np.int64], after: NDArray[np.int64]) -> float:
    filled = int(((before > 0) | (after > 0)).sum())
    bias = statistics.divergence_bias(filled, int(after.sum()))
    return max(0.0, statistics.kullback_leibler(before, after) - bias)


def _quality(feature: Feature, cells: Cells) -> DataQuality:
    rows = max(1, int(cells.counts.sum()))
    null = feature.null_cell
    outside = new = 0
    if isinstance(feature, CategoryFeature):
        new = int(cells.counts[-2]) if feature.complete else 0
    else:
        outside = int(cells.counts[0] + cells.counts[null - 1] + cells.counts[null + 1])
    return DataQuality(
        missing=int(cells.counts[null]) / rows,
        reference_missing=int(feature.cells.counts[null]) / max(1, int(feature.cells.counts.sum())),
        out_of_range=outside / rows,
        new_categories=new / rows,
    )


def _decide(reading: DriftReading, corrected: float, policy: MonitoringPolicy) -> DriftReading:
    drifted = corrected < policy.alpha and all(effect.crossed for effect in reading.effects)
    return replace(reading, corrected=corrected, drifted=drifted)


def _share(inputs: list[FeatureReport], rows: int, policy: MonitoringPolicy) -> Measurement:
    if rows < policy.min_rows:
        return NotMeasured(reason=INSUFFICIENT, have=rows, need=policy.min_rows, unit="rows")
    verdicts = [feature.drifted for feature in inputs if feature.drifted is not None]
    if not verdicts:
        return NotMeasured(reason=_NO_FEATURE)
    return Measured(value=sum(verdicts) / len(verdicts), samples=len(verdicts))


def _score(features: list[FeatureReport], rows: int, policy: MonitoringPolicy) -> Measurement:
    if rows < policy.min_rows:
        return NotMeasured(reason=INSUFFICIENT, have=rows, need=policy.min_rows, unit="rows")
    divergences = [feature.divergence for feature in features if feature.divergence is not None]
    if not divergences:
        return NotMeasured(reason=_NO_FEATURE)
    return Measured(value=float(np.mean(divergences)), samples=rows)


def _detected(share: float | None, policy: MonitoringPolicy) -> bool | None:
    return None if share is None else round(share - policy.drift_share, 9) >= 0


def _band(share: float | None, policy: MonitoringPolicy) -> Band:
    if share is None:
        return Band.UNKNOWN
    if round(share - policy.critical_share, 9) > 0:
        return Band.CRITICAL
    return Band.WARNING if round(share - policy.drift_share, 9) >= 0 else Band.NORMAL
