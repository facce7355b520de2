"""Rows of the lake: what a batch becomes, and which event times are believed."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from mendel.predictions import LABELS_TABLE, Segment, id_texts, predictions_table
from mendel.predictions.lake_rows import block_rows, label_rows, merged_rows, narrow_column, segment_rows
from mendel.values import EPOCH, ModelName, Table, to_micros

MICROSECOND = timedelta(microseconds=1)


def objects(*values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def test_columns_of_a_block(make_block, now):
    """Every column of the contract is there, features and probabilities under their prefixes."""
    block = make_block(2, correlation_ids=("a", None), event_micros=(to_micros(now) - 5, None), errors=(None, "broke"))
    rows = block_rows(block)
    assert rows["prediction_id"].tolist() == id_texts(block.prediction_ids)
    assert rows["event_time"].tolist() == [to_micros(now) - 5, to_micros(now)]
    assert rows["correlation_id"].tolist() == ["a", None]
    assert rows["error"].tolist() == [None, "broke"]
    assert rows["feature.age"].tolist() == [0.0, 2.0]
    assert rows["feature.income"].tolist() == [1.0, 3.0]
    assert rows["proba.0"].tolist() == [0.25, 0.25]
    assert rows["version"].tolist() == [3, 3]
    assert rows["door"].tolist() == ["rest", "rest"]
    assert not rows["shadow"].any()


@pytest.mark.parametrize(
    ("offset", "believed"),
    [
        (timedelta(days=-30), True),
        (timedelta(days=-30) - MICROSECOND, False),
        (timedelta(minutes=5), True),
        (timedelta(minutes=5) + MICROSECOND, False),
    ],
)
def test_event_times_are_believed_within_bounds(make_block, now, offset, believed):
    """An event time counts from 30 days before to 5 minutes after the answer, and is kept aside beyond."""
    claimed = to_micros(now + offset)
    rows = block_rows(make_block(1, event_micros=(claimed,)))
    assert rows["quarantined"].tolist() == [not believed]
    assert rows["event_time"].tolist() == [claimed if believed else to_micros(now)]
    assert rows["claimed_time"].tolist() == [float(claimed)]


def test_models_have_tables_of_their_own(make_block, make_label):
    """A segment with two models and labels becomes three tables, batches of one kind joined in order."""
    other = make_block(1, model=ModelName("churn"), feature_names=("age",), features=(objects("old"),))
    blocks = (make_block(2), other, make_block(1), make_block(1, version=4))
    rows = segment_rows(Segment(spool_id="s1", seq=7, blocks=blocks, labels=(make_label("x"),)))
    assert sorted(rows.tables) == [LABELS_TABLE, predictions_table("churn"), predictions_table("credit")]
    credit = rows.tables[predictions_table("credit")]
    expected = [name for block in (blocks[0], blocks[2], blocks[3]) for name in id_texts(block.prediction_ids)]
    assert credit["prediction_id"].tolist() == expected
    assert credit["version"].tolist() == [3, 3, 3, 4]
    assert rows.tables[predictions_table("churn")]["feature.age"].tolist() == ["old"]


def test_labels_stand_in_the_days_of_their_predictions(make_block, make_label, now):
    """A label's event time is the time in the prediction's id; an id without time stands at 1970."""
    [name] = id_texts(make_block(1, at=now).prediction_ids)
    late = now + timedelta(days=9)
    rows = label_rows([make_label(name, at=late), make_label("order-17", at=late, known=now)], spool_id="s", seq=3)
    assert rows["event_time"].tolist() == [to_micros(now), 0]
    assert rows["label_time"].tolist() == [to_micros(late), to_micros(now)]
    assert rows["place"].tolist() == [0, 1]
    assert EPOCH.year == 1970


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((1, None, 2.5), np.float64),
        ((True, False), np.bool_),
        ((True, None), object),
        ((True, 1), object),
        (("a", None), object),
        ((None, None), object),
    ],
)
def test_object_columns_become_numbers_only_without_loss(values, dtype):
    """Numbers and nulls are numbers; truth values with nulls, and mixtures, stay what they are."""
    assert narrow_column(objects(*values)).dtype == dtype


def test_nulls_in_one_part_do_not_spoil_the_numbers_of_another():
    """Joining a part that has only nulls keeps the column numeric."""
    whole = merged_rows([Table({"x": np.array([1.0])}), Table({"x": objects(None)})])
    assert whole["x"].dtype == np.float64
