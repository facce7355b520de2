"""Profiles and statistics: distributions in, readings out."""

from mendel.drift.cells import Cells
from mendel.drift.features import CategoryFeature, Feature, FeatureType, NumberFeature
from mendel.drift.profiles import Profile, merge
from mendel.drift.reference import Reference

__all__ = [
    "CategoryFeature",
    "Cells",
    "Feature",
    "FeatureType",
    "NumberFeature",
    "Profile",
    "Reference",
    "merge",
]
