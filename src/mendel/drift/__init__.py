"""Drift and quality: profiles of rows, statistics that compare them with a reference, and quality metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.drift.comparison import compare, rejudge
    from mendel.drift.dataframe_drift import DriftDetection, DriftDetector
    from mendel.drift.drift_report import (
        DataQuality,
        DriftReading,
        DriftReport,
        EffectSize,
        FeatureReport,
        is_drift_confirmed,
    )
    from mendel.drift.feature_counts import Cells, as_numbers, category_name, count_categories
    from mendel.drift.features import CategoryFeature, Feature, FeatureType, NumberFeature, infer_type
    from mendel.drift.labelled_outcomes import LabelledOutcomes
    from mendel.drift.policy import Band, EffectThresholds, FeatureRule, LogRule, MonitoringPolicy, Task
    from mendel.drift.profiles import Profile, merge_profiles
    from mendel.drift.quality import Quality, QualityReading, evaluate_quality, quality_signal, wilson_interval
    from mendel.drift.quality_metrics import METRICS, Metric, bootstrap, metric, score_of
    from mendel.drift.reference import MatrixRanges, Reference, input_name
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "METRICS",
    "Band",
    "CategoryFeature",
    "Cells",
    "DataQuality",
    "DriftDetection",
    "DriftDetector",
    "DriftReading",
    "DriftReport",
    "EffectSize",
    "EffectThresholds",
    "Feature",
    "FeatureReport",
    "FeatureRule",
    "FeatureType",
    "LabelledOutcomes",
    "LogRule",
    "MatrixRanges",
    "Metric",
    "MonitoringPolicy",
    "NumberFeature",
    "Profile",
    "Quality",
    "QualityReading",
    "Reference",
    "Task",
    "as_numbers",
    "bootstrap",
    "category_name",
    "compare",
    "count_categories",
    "evaluate_quality",
    "infer_type",
    "input_name",
    "is_drift_confirmed",
    "merge_profiles",
    "metric",
    "quality_signal",
    "rejudge",
    "score_of",
    "wilson_interval",
]
