"""Convert rows of the lake to predictions and labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from mendel.predictions.entities import LabelRow, Prediction, Scalar
from mendel.predictions.label_matching import label_order
from mendel.values import ModelName, Table, from_micros

_FEATURE, _PROBABILITY = "feature.", "proba."


def decode_prediction_row(rows: Table, labels: Table) -> Prediction:
    """Convert the first of *rows* to a prediction with its *labels*; the effective label is last."""
    row = {name: _scalar(column[0]) for name, column in rows.columns.items()}
    claimed = row["claimed_time"]
    return Prediction(
        prediction_id=row["prediction_id"],
        timestamp=from_micros(row["timestamp"]),
        event_time=from_micros(row["event_time"]),
        claimed_time=None if claimed is None else from_micros(int(claimed)),
        quarantined=row["quarantined"],
        model=ModelName(row["model"]),
        version=row["version"],
        uuid=row["uuid"],
        release_tag=row["release_tag"],
        image_digest=row.get("image_digest"),  # older rows have none
        fingerprint=row["fingerprint"],
        correlation_id=row["correlation_id"],
        generation=row["generation"],
        prediction=row["prediction"],
        probabilities={name: share for name, share in _stripped(row, _PROBABILITY).items() if isinstance(share, float)},
        features=_stripped(row, _FEATURE),
        latency_ms=row["latency_ms"],
        door=row["door"],
        ood=row["ood"],
        shadow=row["shadow"],
        simulated=row["simulated"],
        error=row["error"],
        labels=decode_label_rows(labels),
    )


def decode_label_rows(labels: Table) -> tuple[LabelRow, ...]:
    """Convert rows of labels to labels in order of effect: a later label replaces an earlier label."""
    return tuple(
        LabelRow(
            prediction_id=labels["prediction_id"][at],
            true_label=_scalar(labels["label"][at]),
            label_source=labels["label_source"][at],
            received_at=from_micros(int(labels["received_at"][at])),
            label_timestamp=from_micros(int(labels["label_time"][at])),
        )
        for at in label_order(labels)
    )


def _stripped(row: dict[str, Any], prefix: str) -> dict[str, Scalar]:
    return {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}


def _scalar(value: Any) -> Any:
    plain = value.item() if isinstance(value, np.generic) else value
    return None if plain != plain else plain  # noqa: PLR0124 - NaN is a number that is missing
