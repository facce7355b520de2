"""The append-only prediction log and the join with labels, over ports."""

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

__all__ = [
    "LabelRow",
    "PendingSegment",
    "Prediction",
    "PredictionBlock",
    "ProfileRow",
    "Scalar",
    "Segment",
    "SegmentProfile",
    "id_micros",
    "id_texts",
    "mint_ids",
    "pack_ids",
]
