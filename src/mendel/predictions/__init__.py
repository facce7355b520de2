"""The prediction log: spooling predictions and labels, shipping them to the lake, and reading them joined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.predictions.entities import (
        LabelRow,
        PendingSegment,
        Prediction,
        PredictionBlock,
        ProfileRow,
        Scalar,
        Segment,
        SegmentProfile,
        SpoolProgress,
        id_micros,
        id_texts,
        mint_ids,
        pack_ids,
    )
    from mendel.predictions.feature_privacy import FeaturePrivacy
    from mendel.predictions.intake import HubIntake, forward_segments
    from mendel.predictions.label_matching import labels_from
    from mendel.predictions.label_parsing import parse_labels
    from mendel.predictions.lake_maintenance import LakePolicy, MaintenanceReport, forget_predictions, maintain_lake
    from mendel.predictions.lake_rows import TIME_COLUMNS, filter_rows, missing_column, rows_with_ids
    from mendel.predictions.log_statistics import LogStats, RowStats, SpanStats
    from mendel.predictions.ports import (
        LABELS_TABLE,
        Lake,
        LakeSnapshot,
        ProfileStore,
        SegmentInbox,
        predictions_table,
    )
    from mendel.predictions.prediction_log import PredictionLog
    from mendel.predictions.segments import check_segment, parse_segment, read_segment
    from mendel.predictions.shipper import Shipper, ShipReport, SpoolPlan, Summarise, plan_spool
    from mendel.predictions.spool import Spool, SpoolCondition, SpoolPolicy, seal_orphans
    from mendel.predictions.spool_files import SealedSegment, check_spool_id, salvage, sealed_segments, spool_identity
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "LABELS_TABLE",
    "TIME_COLUMNS",
    "FeaturePrivacy",
    "HubIntake",
    "LabelRow",
    "Lake",
    "LakePolicy",
    "LakeSnapshot",
    "LogStats",
    "MaintenanceReport",
    "PendingSegment",
    "Prediction",
    "PredictionBlock",
    "PredictionLog",
    "ProfileRow",
    "ProfileStore",
    "RowStats",
    "Scalar",
    "SealedSegment",
    "Segment",
    "SegmentInbox",
    "SegmentProfile",
    "ShipReport",
    "Shipper",
    "SpanStats",
    "Spool",
    "SpoolCondition",
    "SpoolPlan",
    "SpoolPolicy",
    "SpoolProgress",
    "Summarise",
    "check_segment",
    "check_spool_id",
    "filter_rows",
    "forget_predictions",
    "forward_segments",
    "id_micros",
    "id_texts",
    "labels_from",
    "maintain_lake",
    "mint_ids",
    "missing_column",
    "pack_ids",
    "parse_labels",
    "parse_segment",
    "plan_spool",
    "predictions_table",
    "read_segment",
    "rows_with_ids",
    "salvage",
    "seal_orphans",
    "sealed_segments",
    "spool_identity",
]
