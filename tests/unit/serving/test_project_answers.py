"""What a project makes of its predictor's answers, and what the log keeps of them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from mendel.errors import InvalidRequest
from mendel.serving import Matrix, Outputs, Records, unregistered_model, version_ref
from mendel.serving.input_codec import LISTS, RECORDS, InputCodec
from mendel.serving.prediction_records import ExecutedBatch, RecordedVersion, RequestOrigin, block_of
from mendel.serving.row_batches import Rows, Shape, assemble
from mendel.values import Digest, ModelName, ServedVersion, VersionUuid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = Digest(f"sha256:{'0' * 64}")


@pytest.mark.parametrize(
    ("answers", "kept"),
    [([1.0, 2.0], [1.0, 2.0]), ([{"label": "yes"}], ['[{"label":"yes"}]'] * 2), ([1, 2, 3], ["[1,2,3]"] * 2)],
)
def test_the_log_keeps_one_answer_per_row(answers, kept):
    """What is not divided by rows is kept whole, as JSON, for each of them: none is made up, none is lost."""
    frame = assemble([Rows(Shape.of_floats(("a",)), 2, np.zeros(2).tobytes())])
    served = ServedVersion(
        number=3,
        uuid=VersionUuid(f"m-{3:032x}"),
        artifact_digest=DIGEST,
        flavor="mendel",
        signature=None,
        task="classification",
        registered_at=NOW,
    )
    block = block_of(
        RecordedVersion(model=ModelName("m"), served=served, generation=1, classes=()),
        [RequestOrigin(count=2, door="rest", correlation_id="", event_micros=None, latency_ms=1.0)],
        ExecutedBatch(
            frame=frame, outputs=Outputs(predictions=answers), error=None, ood=None, ids=b"\0" * 32, micros=1
        ),
    )
    assert list(block.predictions) == kept


def test_forms_are_asked_for_only_where_nothing_names_the_features():
    """Without an order, rows come in the forms that are taken; with one, in any."""
    by_place = InputCodec(None, order=None, max_rows=9, forms=frozenset({LISTS}))
    assert by_place.decode(Matrix(rows=[[1, 2]])).count == 1
    for given in (Records(rows=[{"a": 1}]), Matrix(rows=[[1]], columns=("a",))):
        with pytest.raises(InvalidRequest, match="lists of values"):
            by_place.decode(given)
    by_name = InputCodec(None, order=None, max_rows=9, forms=frozenset({RECORDS}))
    assert by_name.decode(Matrix(rows=[[1]], columns=("a",))).shape.names == ("a",)
    with pytest.raises(InvalidRequest, match="objects of features"):
        by_name.decode(Matrix(rows=[[1]]))
    assert InputCodec(None, order=("a",), max_rows=9, forms=frozenset({LISTS})).decode(Records(rows=[{"a": 1}])).count


def test_a_project_itself_is_no_version():
    """Its reference is its name alone, and its deployment sends all traffic to it."""
    desired = unregistered_model(ModelName("m"), DIGEST, task="regression", release_tag=None, now=NOW)
    number = desired.deployment.production
    assert str(version_ref(ModelName("m"), number)) == "m"
    assert version_ref(ModelName("m"), number) == version_ref(ModelName("m"), number)
    assert str(version_ref(ModelName("m"), 3)) == "m@3"
