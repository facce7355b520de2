"""Profiles and statistics: distributions in, readings out."""

from mendel.drift.cells import Cells
from mendel.drift.compare import compare
from mendel.drift.detector import Detection, DriftDetector, as_table
from mendel.drift.features import CategoryFeature, Feature, FeatureType, NumberFeature
from mendel.drift.policy import Band, Effects, FeatureRule, LogRule, MonitoringPolicy, Task
from mendel.drift.profiles import Profile, merge
from mendel.drift.reference import Reference
from mendel.drift.report import DataQuality, DriftReading, DriftReport, Effect, FeatureReport, confirmed

__all__ = [
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
    "MonitoringPolicy",
    "NumberFeature",
    "Profile",
    "Reference",
    "Task",
    "as_table",
    "compare",
    "confirmed",
    "merge",
]
