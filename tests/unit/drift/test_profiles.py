from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.drift import Profile, Reference, merge_profiles
from mendel.drift.bin_lookup import cell_indexes
from mendel.errors import InvalidValue, ReferenceMismatch
from mendel.values import Table

ROWS = st.lists(
    st.tuples(st.floats(-1e5, 1e5) | st.sampled_from([np.nan, np.inf]), st.sampled_from(["a", "b", "z", None])),
    max_size=30,
)
REFERENCE = Reference.fit(
    Table({"x": np.arange(100.0), "c": np.array(["a", "b"] * 50, dtype=object)}),
)


def profile_of(rows: list[tuple[float, str | None]]) -> Profile:
    words = np.empty(len(rows), dtype=object)
    words[:] = [word for _, word in rows]
    return Profile.of(REFERENCE, Table({"x": np.array([number for number, _ in rows], dtype=np.float64), "c": words}))


@given(st.lists(ROWS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_merging_is_associative_and_commutative(parts: list[list[tuple[float, str | None]]], chance: object) -> None:
    """Segments may be summed in any order and grouping: the profile is the same to the last bit."""
    profiles = [profile_of(rows) for rows in parts]
    at_once = merge_profiles(REFERENCE, profiles)
    chance.shuffle(profiles)
    one_by_one = reduce(lambda left, right: left.merge(right), profiles)
    from_the_right = reduce(lambda right, left: left.merge(right), reversed(profiles))
    assert at_once == one_by_one == from_the_right
    assert at_once.digest == one_by_one.digest


@given(ROWS, ROWS)
def test_merging_is_counting_together(
    some: list[tuple[float, str | None]], more: list[tuple[float, str | None]]
) -> None:
    """Counts, minima and maxima of merged profiles are those of all rows at once."""
    merged, together = profile_of(some).merge(profile_of(more)), profile_of(some + more)
    assert merged.rows == together.rows
    for name, cells in merged.features.items():
        assert cells.counts.tolist() == together.features[name].counts.tolist()
        assert cells.minima.tolist() == together.features[name].minima.tolist()
        assert cells.maxima.tolist() == together.features[name].maxima.tolist()
        assert np.allclose(cells.sums, together.features[name].sums, atol=1e-4)


@given(ROWS)
def test_json_round_trip(rows: list[tuple[float, str | None]]) -> None:
    """A profile survives its JSON, and its digest with it."""
    profile = profile_of(rows)
    assert Profile.from_json(profile.to_json()) == profile
    assert Profile.from_json(profile.to_json()).digest == profile.digest


def test_unequal_references_do_not_merge(reference: Reference, people: Table) -> None:
    """Profiles against different references cannot be summed."""
    with pytest.raises(ReferenceMismatch):
        Profile.of(reference, people).merge(profile_of([]))


def test_where_rows_go() -> None:
    """Below, above, null, non-finite, other category and null category each have their cell."""
    rows = [(-1.0, "a"), (1e9, "z"), (np.nan, None), (np.inf, "b"), (-np.inf, "b"), (50.0, "b")]
    number, word = (profile_of(rows).features[name].counts for name in ("x", "c"))
    assert (number[0], number[-3], number[-2], number[-1]) == (1, 1, 1, 2)
    assert word.tolist() == [1, 3, 1, 1]


def test_missing_column_is_null() -> None:
    """A feature that the rows lack is null in each of them, and one that the reference lacks is left out."""
    profile = Profile.of(REFERENCE, Table({"x": np.arange(5.0), "new": np.arange(5.0)}))
    assert profile.features["c"].counts.tolist() == [0, 0, 0, 5]
    assert set(profile.features) == {"x", "c"}


def test_text_in_a_number_is_refused() -> None:
    """Words where the reference has numbers are an error that names the feature, not a null."""
    with pytest.raises(InvalidValue, match="'x'"):
        Profile.of(REFERENCE, Table({"x": np.array(["many"], dtype=object)}))


def test_categories_do_not_depend_on_storage() -> None:
    """Truth values and whole numbers are the same category however a frame or a lake has stored them."""
    reference = Reference.fit(Table({"flag": np.array([True, False])}))
    for column in (np.array([1.0, 0.0]), np.array([True, False], dtype=object), np.array(["1", "0"], dtype=object)):
        assert Profile.of(reference, Table({"flag": column})).features["flag"].counts.tolist() == [1, 1, 0, 0]


BROKEN = {
    "no such cell": '{"at":[99],"counts":[1]}',
    "below 0": '{"at":[-1],"counts":[1]}',
    "not in order": '{"at":[1,0],"counts":[0,1]}',
    "columns do not match": '{"at":[0],"counts":[1],"sums":[2.0]}',
    "more sums than cells": '{"at":[0],"counts":[1],"sums":[1,2],"minima":[1,2],"maxima":[1,2]}',
    "does not add up": '{"at":[0],"counts":[2]}',
    "fewer than none": '{"at":[0,1],"counts":[2,-1]}',
}


@pytest.mark.parametrize("cells", BROKEN.values(), ids=BROKEN)
def test_broken_profile_is_refused(cells: str) -> None:
    """Cells that are not there, or that do not add up to the rows, are refused."""
    digest = "sha256:" + "0" * 64
    text = f'{{"reference_id":"{digest}","rows":1,"features":{{"c":{{"size":4,"cells":{cells}}}}}}}'
    with pytest.raises(InvalidValue):
        Profile.from_json(text)


def test_huge_values_stay_finite() -> None:
    """The largest numbers there are neither overflow nor warn."""
    huge = np.full(10, np.finfo(np.float64).max)
    profile = Profile.of(REFERENCE, Table({"x": huge}))
    cells = profile.merge(profile).features["x"]
    assert np.isfinite(cells.sums).all()
    assert cells.means()[-3] == huge[0]


@given(st.integers(0, 2**32 - 1), st.sampled_from(["normal", "lognormal", "standard_cauchy", "integers"]))
def test_placing_is_searching(seed: int, kind: str) -> None:
    """The fast way to a cell is the slow one, on cuts, beside them, and far out."""
    rng = np.random.default_rng(seed)
    draw = {"integers": lambda size: rng.integers(-5, 60, size).astype(np.float64)}.get(kind) or getattr(rng, kind)
    cuts = np.unique(draw(size=66))
    edges = np.concatenate([cuts, np.nextafter(cuts, -np.inf), np.nextafter(cuts, np.inf), [-1e308, 1e308, 0.0, -0.0]])
    values = np.concatenate([edges, draw(size=5000)])
    assert (cell_indexes(cuts, values) == np.searchsorted(cuts, values)).all()


@given(
    st.lists(st.lists(st.one_of(st.floats(-4, 4), st.just(math.nan)), min_size=3, max_size=3), min_size=1, max_size=9)
)
def test_ranges_of_a_matrix_mark_the_same_rows_as_of_a_table(rows):
    """A batch in one matrix, in another column order and with a column that the reference lacks, is marked alike."""
    rng = np.random.default_rng(0)
    trained = {"a": rng.normal(size=50), "b": np.append(rng.normal(size=49), math.nan), "c": rng.normal(size=50)}
    reference = Reference.fit(Table(trained))
    matrix = np.array(rows)
    for names in (("a", "b", "c"), ("c", "z", "a"), ("b", "a", "c")):
        ranges = reference.ranges_of(names)
        table = Table(dict(zip(names, matrix.T, strict=True)))
        assert ranges.outside(matrix).tolist() == reference.out_of_range(table).tolist()


def test_a_category_among_the_columns_has_no_ranges_of_a_matrix():
    """Rows with a category are checked as a table."""
    table = Table({"a": np.zeros(3), "city": np.array(["Ulm", "Bonn", "Ulm"], dtype=object)})
    assert Reference.fit(table).ranges_of(("a", "city")) is None
