"""Labels: which one counts, and how it reads beside a prediction."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations

import numpy as np
import pytest

from mendel.errors import InvalidInput
from mendel.predictions import labels_from
from mendel.predictions.label_matching import convert_labels, effective_labels
from mendel.predictions.lake_rows import label_rows
from mendel.values import Table, to_micros


def objects(*values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def winner(labels):
    counting = effective_labels(label_rows(labels, spool_id="s1", seq=1))
    return labels[counting.row["p"]].true_label, counting.conflicts


class TestWhichCounts:
    def test_the_latest_known_in_any_order_of_arrival(self, make_label, now):
        """The label with the latest time of its own counts, however they are stored."""
        times = [now, now + timedelta(hours=1), now + timedelta(hours=2)]
        labels = [make_label("p", place, known=known) for place, known in enumerate(times)]
        for order in permutations(labels):
            assert winner(list(order))[0] == 2

    def test_the_later_arrival_among_equal_times(self, make_label, now):
        """Of two labels that claim one time, the later received counts; of those, the later in the segment."""
        first, second = make_label("p", 0, known=now, at=now), make_label("p", 1, known=now, at=now + timedelta(1))
        assert winner([second, first])[0] == 1
        assert winner([make_label("p", 0), make_label("p", 1)])[0] == 1

    def test_saying_the_same_again_is_no_conflict(self, make_label):
        """A repeated label is none, a contradiction is one, and contradicting back is another."""
        assert winner([make_label("p", 1), make_label("p", 1)]) == (1, 0)
        assert winner([make_label("p", 1), make_label("p", 0), make_label("p", 1)]) == (1, 2)

    def test_no_labels(self):
        """Nothing is counted of nothing."""
        counting = effective_labels(label_rows(()))
        assert (counting.row, counting.conflicts) == ({}, 0)


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [
        (objects("1", "0"), np.array([1.0, 1.0]), [1.0, 0.0]),
        (objects("yes", "0"), np.array([1.0, 1.0]), ["yes", "0"]),
        (np.array([1.0, 0.0]), objects("1", "0"), ["1", "0"]),
        (np.array([1.0, 0.0]), np.array([True, True]), [True, False]),
        (objects("true", "False"), np.array([True, True]), [True, False]),
        (np.array([True, False]), np.array([1.0, 1.0]), [1.0, 0.0]),
        (objects("good"), objects("bad"), ["good"]),
    ],
)
def test_labels_read_like_the_predictions(labels, predictions, expected):
    """A label that came as text from a file is compared with a number as the number it is."""
    assert convert_labels(labels, predictions).tolist() == expected


class TestFromTables:
    def test_one_per_row_with_an_outcome(self, now):
        """Rows of a file become labels; those without an outcome none."""
        table = Table(
            {
                "id": objects("a", "b", "c"),
                "y": np.array([1.0, np.nan, 0.0]),
                "t": np.array([to_micros(now)] * 3, dtype=np.int64),
            }
        )
        labels = labels_from(table, id_column="id", label_column="y", source="csv", received_at=now, time_column="t")
        assert [(label.prediction_id, label.true_label) for label in labels] == [("a", 1.0), ("c", 0.0)]
        assert labels[0].label_timestamp == now

    def test_a_column_that_is_not_there(self, now):
        """The message names the column and those there are."""
        with pytest.raises(InvalidInput, match=r"'y'.*columns: id"):
            labels_from(Table({"id": objects("a")}), id_column="id", label_column="y", source="csv", received_at=now)

    def test_a_row_without_id(self, now):
        """The message names the row."""
        table = Table({"id": objects("a", None), "y": objects(1, 1)})
        with pytest.raises(InvalidInput, match="Row 2"):
            labels_from(table, id_column="id", label_column="y", source="csv", received_at=now)
