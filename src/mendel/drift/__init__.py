"""Profiles and statistics: distributions in, readings out."""

from mendel.drift.comparison import compare
from mendel.drift.detector import Detection, DriftDetector, as_table
from mendel.drift.drift_report import DataQuality, DriftReading, DriftReport, Effect, FeatureReport, confirmed
from mendel.drift.feature_counts import Cells, as_numbers, category, tally
from mendel.drift.features import CategoryFeature, Feature, FeatureType, NumberFeature, infer_type
from mendel.drift.labelled_outcomes import Outcomes
from mendel.drift.policy import Band, Effects, FeatureRule, LogRule, MonitoringPolicy, Task
from mendel.drift.profiles import Profile, merge
from mendel.drift.quality import Quality, QualityReading, evaluate, quality_signal, wilson
from mendel.drift.quality_metrics import METRICS, Metric, bootstrap, metric, score_of
from mendel.drift.reference import Reference

__all__ = [
    "METRICS",
    "Band",
    "CategoryFeature",
    "Cells",
    "DataQuality",
    "Detection",
    "DriftDetector",
    "DriftReading",
    "DriftReport",
    "Effect",
    "Effects",
    "Feature",
    "FeatureReport",
    "FeatureRule",
    "FeatureType",
    "LogRule",
    "Metric",
    "MonitoringPolicy",
    "NumberFeature",
    "Outcomes",
    "Profile",
    "Quality",
    "QualityReading",
    "Reference",
    "Task",
    "as_numbers",
    "as_table",
    "bootstrap",
    "category",
    "compare",
    "confirmed",
    "evaluate",
    "infer_type",
    "merge",
    "metric",
    "quality_signal",
    "score_of",
    "tally",
    "wilson",
]
