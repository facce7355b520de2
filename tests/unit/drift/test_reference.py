from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.drift import CategoryFeature, NumberFeature, Reference
from mendel.errors import DigestMismatch, EmptyWindow, InvalidValue
from mendel.values import Table

VALUES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]) | st.just(float("nan")), min_size=1, max_size=200)


def test_equal_data_equal_id(people: Table, rng: np.random.Generator) -> None:
    """The id does not know the order of rows and columns."""
    shuffled = people.take(rng.permutation(len(people)))
    turned = shuffled.select(reversed(people.names))
    assert Reference.fit(turned) == Reference.fit(people)
    assert Reference.fit(turned).id == Reference.fit(people).id


def test_other_data_other_id(people: Table) -> None:
    """One changed value changes the id."""
    ages = people["age"].copy()
    ages[0] += 1
    assert Reference.fit(people.with_columns({"age": ages})).id != Reference.fit(people).id


def test_json_round_trip(reference: Reference) -> None:
    """What is read back is what was written, to the last bit."""
    again = Reference.from_json(reference.to_json())
    assert again == reference
    assert again.to_json() == reference.to_json()


def test_tampered_json_is_noticed(reference: Reference) -> None:
    """A reference whose content is not what its id says is refused."""
    with pytest.raises(DigestMismatch):
        Reference.from_json(reference.to_json().replace(b'"rows":2000', b'"rows":2001'))


@pytest.mark.parametrize(
    "text", [b"{}", b"[", b'{"rows":1,"features":[{"name":"a","output":false,"cells":{"at":[],"counts":[]}}]}']
)
def test_nonsense_is_refused(text: bytes) -> None:
    """What is no reference is said to be none."""
    with pytest.raises(InvalidValue):
        Reference.from_json(text)


@given(VALUES)
def test_every_row_has_one_cell(values: list[float]) -> None:
    """Each row of a number is counted once, in a cell whose bounds it lies in."""
    column = np.array(values)
    feature = NumberFeature.fit("x", column, output=False)
    assert feature.cells.counts.sum() == len(values)
    assert feature.cells.counts[-2] == np.isnan(column).sum()
    assert feature.cells.counts[0] == 0
    assert feature.cells.counts[-3] == 0
    assert (np.diff(feature.cuts) > 0).all()
    held = np.flatnonzero(feature.cells.counts[1:-3]) + 1
    assert all(feature.cuts[cell - 1] < feature.cells.minima[cell] for cell in held)
    assert all(feature.cells.maxima[cell] <= feature.cuts[cell] for cell in held)


def test_frequent_values_are_point_masses() -> None:
    """Values that are several quantiles have a cell of their own, so few-valued features are counted exactly."""
    column = np.repeat([0.0, 1.0, 2.0, 7.5], [700, 200, 60, 40])
    feature = NumberFeature.fit("x", column, output=False)
    held = feature.cells.counts > 0
    assert feature.cells.counts[held].tolist() == [700, 200, 60, 40]
    assert (feature.cells.minima[held] == feature.cells.maxima[held]).all()


def test_sixty_four_bins() -> None:
    """A continuous feature has 64 bins of about equal mass."""
    feature = NumberFeature.fit("x", np.arange(6400.0), output=False)
    assert feature.size == 64 + 2 + 2
    assert set(feature.cells.counts[1:-3].tolist()) <= {99, 100, 101}


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.array([1.0, 2.0]), NumberFeature),
        (np.array([1, None, 2.5], dtype=object), NumberFeature),
        (np.array([True, False]), CategoryFeature),
        (np.array(["a", None], dtype=object), CategoryFeature),
        (np.array([None, None], dtype=object), CategoryFeature),
    ],
)
def test_types_are_inferred(column: np.ndarray, kind: type) -> None:
    """Numbers are numbers with nulls among them; truth values and words are categories."""
    assert isinstance(Reference.fit(Table({"x": column}))["x"], kind)


def test_type_by_hand() -> None:
    """A code that looks like a number may be watched as a category."""
    reference = Reference.fit(Table({"zip": np.array([53111.0, 89073.0])}), types={"zip": "category"})
    assert reference["zip"].categories == ("53111", "89073")


@pytest.mark.parametrize("types", [{"zap": "number"}, {"zip": "integer"}])
def test_wrong_type_by_hand_is_refused(types: dict[str, str]) -> None:
    """A type for a column that is not there, or that is no type, is refused."""
    with pytest.raises(InvalidValue):
        Reference.fit(Table({"zip": np.array([1.0])}), types=types)


def test_no_row_no_reference() -> None:
    """A reference of nothing is refused."""
    with pytest.raises(EmptyWindow):
        Reference.fit(Table({"x": np.array([])}))


def test_out_of_range_numbers(reference: Reference, people: Table) -> None:
    """Below the minimum, above the maximum and infinite are out; the minimum and maximum themselves are in."""
    low, high = people["age"].min(), people["age"].max()
    ages = np.array([low, high, np.nextafter(low, -np.inf), np.nextafter(high, np.inf), np.inf])
    assert reference.out_of_range(Table({"age": ages})).tolist() == [False, False, True, True, True]


def test_out_of_range_nulls() -> None:
    """A null is out only where the reference has none."""
    table = Table(
        {
            "full": np.array([1.0, 2.0, 3.0]),
            "holed": np.array([1.0, np.nan, 3.0]),
            "word": np.array(["a", "b", None], dtype=object),
        }
    )
    reference = Reference.fit(table)
    nothing = np.array([np.nan])
    assert reference.out_of_range(Table({"full": nothing})).tolist() == [True]
    assert reference.out_of_range(Table({"holed": nothing})).tolist() == [False]
    assert reference.out_of_range(Table({"word": np.array([None, "z"], dtype=object)})).tolist() == [False, True]


def test_out_of_range_looks_at_inputs_only(people: Table) -> None:
    """An answer never seen before is not an input never seen before."""
    reference = Reference.fit(people.with_columns({"prediction": np.zeros(len(people))}))
    row = people.take(np.array([0])).with_columns({"prediction": np.array([1.0])})
    assert not reference.out_of_range(row).any()


def test_training_rows_are_in_range(reference: Reference, people: Table) -> None:
    """No training row is out of range."""
    assert not reference.out_of_range(people).any()


def test_many_categories_are_bounded(rng: np.random.Generator) -> None:
    """A feature with more categories than cells stays small, and then none counts as unseen."""
    names = np.array([f"user-{number}" for number in range(5000)], dtype=object)
    reference = Reference.fit(Table({"user": names}))
    assert reference["user"].size == 258
    assert not reference.out_of_range(Table({"user": np.array(["user-x"], dtype=object)})).any()
