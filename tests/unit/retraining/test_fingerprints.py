"""A dataset is known again by content, whatever file it came in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mendel.retraining import fingerprint
from mendel.values import Table

numbers = st.one_of(st.none(), st.integers(-5, 5), st.floats(allow_infinity=True, allow_nan=True, width=32))
texts = st.one_of(st.none(), st.text(max_size=4), st.booleans())
rows = st.lists(st.tuples(numbers, texts, st.booleans()), max_size=12)


def table(of, *, names=("a", "b", "c")):
    columns = list(zip(*of, strict=True)) if of else [(), (), ()]
    first = np.array([np.nan if v is None else v for v in columns[0]], dtype=np.float64)
    second = np.empty(len(of), dtype=object)
    second[:] = columns[1]
    return Table(dict(zip(names, (first, second, np.array(columns[2], dtype=bool)), strict=True)))


@given(rows, st.randoms(use_true_random=False))
def test_order_and_chunks_do_not_matter(content, chance):
    """Shuffled rows, reordered columns and any division into chunks give the same fingerprint."""
    whole = table(content)
    shuffled = list(content)
    chance.shuffle(shuffled)
    cut = chance.randint(0, len(content))
    parts = [table(shuffled[:cut]), table(shuffled[cut:])]
    joined = Table.concat([part for part in parts if len(part)]) if content else whole
    other = Table({name: joined[name] for name in reversed(whole.names)})
    assert fingerprint(other) == fingerprint(whole)


@given(rows.filter(bool), st.data())
@settings(max_examples=60)
def test_any_change_of_a_value_shows(content, data):
    """One other value in one row is another dataset."""
    row = data.draw(st.integers(0, len(content) - 1))
    changed = list(content)
    number, text, truth = changed[row]
    changed[row] = data.draw(
        st.sampled_from([(99.5, text, truth), (number, "other!", truth), (number, text, not truth)])
    )
    assert fingerprint(table(changed)).digest != fingerprint(table(content)).digest


def test_a_hand_worked_count():
    """Four rows, one repeated, two cells missing."""
    seen = fingerprint(table([(1, "x", True), (1, "x", True), (None, "y", False), (2, None, True)]))
    assert (seen.rows, seen.columns, seen.missing, seen.duplicates) == (4, 3, 2, 1)


def test_how_a_file_writes_numbers_does_not_matter():
    """Whole numbers, floats, objects, and both zeros are one; text and truth are not numbers."""

    def of(values, kind):
        return fingerprint(Table({"a": np.array(values, dtype=kind)})).digest

    assert of([0, 1], np.int64) == of([-0.0, 1.0], np.float64) == of([0, 1.0], object)
    assert of([np.nan, 1], np.float64) == of([None, 1], object)
    assert len({of([0, 1], np.int64), of(["0", "1"], object), of([False, True], bool)}) == 3
    assert of([True, False], object) == of([True, False], bool)


def test_values_keep_to_their_rows():
    """The same columns joined otherwise are another dataset."""
    one = table([(1, "x", True), (2, "y", True)])
    other = table([(1, "y", True), (2, "x", True)])
    assert fingerprint(one).digest != fingerprint(other).digest


def test_names_and_emptiness_are_content():
    """Renamed columns differ; tables without rows are told apart by their columns."""
    assert fingerprint(table([(1, "x", True)])).digest != fingerprint(table([(1, "x", True)], names="xyz")).digest
    assert fingerprint(Table({})).rows == 0
    assert fingerprint(Table({"a": np.zeros(0)})).digest != fingerprint(Table({})).digest
