"""The body of a plain JSON answer to one row."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mendel.serving.entities import AnswerMetadata, InferenceAnswer
from mendel.serving.plain_json import plain_answer
from mendel.values import ModelName, VersionUuid

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("prediction", "probabilities", "told"),
    [
        (1, [0.2, 0.8], 0.8),
        (0, [0.7, 0.3], 0.3),
        ("b", [0.1, 0.6, 0.3], 0.6),
        ([0, 5], [[1.0, 0.0], [0.9, 0.1]], [0.0, 0.1]),
        ([0, 5, 7], [[0.2, 0.5, 0.3], [0.9, 0.1], [1.0, 0.0]], [0.5, 0.1, 0.0]),
    ],
)
def test_one_row_has_one_probability_per_output(prediction, probabilities, told):
    """Of two classes that of the second, of several the largest; with several outputs one for each output."""
    metadata = AnswerMetadata(
        model=ModelName("m"),
        version=1,
        label="1",
        uuid=VersionUuid(f"m-{1:032x}"),
        generation=1,
        deployed_at=NOW,
        task="classification",
        classes=None,
        document={},
    )
    answer = InferenceAnswer(
        metadata=metadata,
        predictions=[prediction],
        probabilities=[probabilities],
        prediction_ids=None,
        correlation_id="c",
        at=NOW,
        took=timedelta(0),
    )
    body = plain_answer(answer, proba=False, single=True)
    assert (body["prediction"], body["probability"]) == (prediction, told)
