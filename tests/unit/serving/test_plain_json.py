"""Plain JSON: which bodies are refused, and the answer to one row."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from mendel.errors import InvalidRequest
from mendel.serving.entities import AnswerMetadata, InferenceAnswer
from mendel.serving.plain_json import parse_plain, plain_answer
from mendel.serving.request_json import read_json
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


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('{"age": 1, "age": 2}', "age"),
        ('{"records": [{"city": "Ulm: south", "age": 1}, {"age": 1, "age": 1}]}', "age"),
        ('{"records": [{"age": 1}], "records": []}', "records"),
        ('{"age" :1, "age":2}', "age"),
        ('{"age"\t:1, "age"\n:2}', "age"),
        ('{"at": "12:00", "age": 1, "age": 2}', "age"),
        ("{" + "".join(f'"k{n}": 1, ' for n in range(100_000)) + '"k0": 2}', "k0"),
    ],
    ids=str.__len__,
)
def test_a_key_that_occurs_twice_is_refused(text, key):
    """Of a key that occurs twice only the last value would count, so the body is refused and the key is named."""
    for body in (text, text.encode()):
        with pytest.raises(InvalidRequest, match=f"The key '{key}' occurs twice"):
            read_json(body)


@pytest.mark.parametrize(
    "text",
    [
        '{"at" : "12:00:00", "b":1}',
        '{"a\\":b": 1}',
        '{"at": "12:00:00", "b": [{"c": 1}, {"c": 2}]}',
        "[[1, 2], [3]]",
        '[1, {"a": 2}]',
        "5",
    ],
)
def test_other_bodies_are_read_as_they_stand(text):
    """Colons in texts, and lists of plain values, do not make a key occur twice."""
    assert read_json(text) == json.loads(text)


def test_a_record_that_is_a_value_is_refused():
    """A bare value among records is refused by its place, instead of being read as a row of one value."""
    with pytest.raises(InvalidRequest, match="Row 1 in 'records' is 5, not an object of features"):
        parse_plain({"records": [{"a": 1}, 5]})
    assert parse_plain({"ndarray": [1, 2]}).input.rows == [[1, 2]]
