"""The append-only prediction log and the join with labels, over ports."""

from mendel.predictions.discretion import FeatureUse
from mendel.predictions.nouns import (
    LabelRow,
    PendingSegment,
    Prediction,
    PredictionBlock,
    ProfileRow,
    Scalar,
    Segment,
    SegmentProfile,
    id_micros,
    id_texts,
    mint_ids,
    pack_ids,
)
from mendel.predictions.segments import parse_segment, read_segment
from mendel.predictions.spool import Spool, SpoolCondition, SpoolPolicy, seal_orphans
from mendel.predictions.spool_files import SealedSegment, check_spool_id, salvage, sealed_segments, spool_identity

__all__ = [
    "FeatureUse",
    "LabelRow",
    "PendingSegment",
    "Prediction",
    "PredictionBlock",
    "ProfileRow",
    "Scalar",
    "SealedSegment",
    "Segment",
    "SegmentProfile",
    "Spool",
    "SpoolCondition",
    "SpoolPolicy",
    "check_spool_id",
    "id_micros",
    "id_texts",
    "mint_ids",
    "pack_ids",
    "parse_segment",
    "read_segment",
    "salvage",
    "seal_orphans",
    "sealed_segments",
    "spool_identity",
]
