"""Decoding requests and v2 tensors."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mendel.errors import InvalidRequest, ModelFailed, TooLarge
from mendel.serving import Matrix, Records, Tensor, Tensors, from_raw, parse_plain, to_raw
from mendel.serving.input_codec import InputCodec
from mendel.serving.input_contract import InputContract
from mendel.serving.prediction_outputs import per_row, probabilities_per_row
from mendel.serving.row_batches import assemble
from mendel.serving.tensors import DTYPES, array_of, datatype_of
from mendel.values import ColumnSpec, ColumnType, Signature

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def signature(*columns: tuple[str, ColumnType, bool]) -> Signature:
    return Signature.of_columns(tuple(ColumnSpec(name=n, type=t, required=r) for n, t, r in columns))


def codec(*columns: tuple[str, ColumnType, bool], max_rows: int = 100) -> InputCodec:
    return InputCodec(InputContract.of_signature(signature(*columns)), order=None, max_rows=max_rows)


DOUBLES = codec(("a", ColumnType.DOUBLE, True), ("b", ColumnType.DOUBLE, True))
MIXED = codec(
    ("age", ColumnType.LONG, True),
    ("city", ColumnType.STRING, False),
    ("member", ColumnType.BOOLEAN, True),
    ("income", ColumnType.DOUBLE, False),
)


BOTH = InputContract.of_signature(signature(("a", ColumnType.DOUBLE, True), ("ok", ColumnType.BOOLEAN, False)))


@given(st.sampled_from(sorted(DTYPES)), st.data())
def test_raw_contents_round_trip(datatype, data):
    """What is written raw is read back, bit for bit, for every datatype of fixed size."""
    shape = data.draw(st.tuples(st.integers(0, 4), *[st.integers(1, 4)] * data.draw(st.integers(0, 2))))
    values = data.draw(arrays.arrays(np.dtype(DTYPES[datatype]), shape))
    raw = to_raw(values, datatype)
    back = from_raw(raw, datatype, shape)
    assert back.shape == values.shape
    assert to_raw(back, datatype) == raw


@given(st.lists(st.text() | st.binary(), max_size=8))
def test_bytes_elements_round_trip(elements):
    """Texts and bytes of any length come back as their bytes."""
    values = np.empty(len(elements), dtype=object)
    values[:] = elements
    back = from_raw(to_raw(values, "BYTES"), "BYTES", [len(elements)])
    assert back.tolist() == [e if isinstance(e, bytes) else e.encode() for e in elements]


@given(
    st.binary(max_size=64),
    st.sampled_from([*sorted(DTYPES), "BYTES", "FP65"]),
    st.lists(st.integers(-2, 9), max_size=3),
)
def test_nonsense_is_refused_or_fits(raw, datatype, shape):
    """Arbitrary bytes either make exactly the announced shape or are an InvalidRequest, never anything else."""
    try:
        values = from_raw(raw, datatype, shape)
    except InvalidRequest:
        return
    assert values.shape == tuple(shape)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=20))
def test_all_spellings_of_numbers_mean_the_same(rows):
    """Records, rows, a matrix tensor and one tensor per feature decode to equal rows."""
    flat = [value for row in rows for value in row]
    spellings = [
        Records(rows=[{"b": b, "a": a} for a, b in rows]),
        Matrix(rows=rows),
        Matrix(rows=[(b, a) for a, b in rows], columns=("b", "a")),
        Tensors(tensors=(Tensor(name="x", datatype="FP64", shape=(len(rows), 2), values=flat),)),
        Tensors(tensors=(Tensor(name="x", datatype="FP64", shape=(len(rows), 2), values=np.array(rows)),)),
        Tensors(
            tensors=tuple(
                Tensor(name=name, datatype="FP64", shape=(len(rows),), values=[row[place] for row in rows])
                for place, name in ((1, "b"), (0, "a"))
            )
        ),
    ]
    for spelling in spellings:
        frame = assemble([DOUBLES.decode(spelling)])
        assert frame.matrix.tolist() == [list(row) for row in rows]


ANY_NUMBER = st.one_of(
    st.floats(), st.integers(-(2**70), 2**70), st.sampled_from([1e308, 2**53 + 1, 10**400, True, None, "1", [1.0]])
)


@given(st.lists(st.lists(ANY_NUMBER, min_size=2, max_size=2), min_size=1, max_size=5))
def test_a_flat_matrix_of_numbers_is_read_like_any_other_form(rows):
    """A flat list is packed at once, nested lists are not; both give the same rows, or the same refusal."""

    def read(values):
        tensor = Tensor(name="x", datatype="FP64", shape=(len(rows), 2), values=values)
        try:
            return DOUBLES.decode(Tensors(tensors=(tensor,))).packed
        except (InvalidRequest, TooLarge) as error:
            return str(error)

    flat = [value for row in rows for value in row]
    assert read(flat) == read(rows)
    if all(type(value) is float for value in flat):
        assert read(np.array(rows)) == read(flat)


@given(st.lists(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=4), min_size=1, max_size=6))
def test_a_batch_is_its_requests_in_order(requests):
    """Rows keep their order and their request when put together."""
    frame = assemble([DOUBLES.decode(Matrix(rows=rows)) for rows in requests])
    assert frame.matrix.tolist() == [list(row) for rows in requests for row in rows]
    assert frame.matrix.flags.writeable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "inputs", "x"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_rows_or_refused(document):
    """Whatever JSON comes, the answer is rows or an InvalidRequest."""
    for decoder in (DOUBLES, MIXED, InputCodec(None, order=None, max_rows=100)):
        try:
            rows = decoder.decode(parse_plain(document).input)
        except (InvalidRequest, TooLarge):
            continue
        frame = assemble([rows])
        assert len(frame) == rows.count
        if decoder is DOUBLES:
            assert np.isfinite(frame.matrix).all()


@pytest.mark.parametrize(
    ("row", "feature"),
    [
        ({"city": "Ulm", "member": True, "income": 1.0}, "age"),
        ({"age": 3, "city": "Ulm", "member": True, "income": 1.0, "size": 1}, "size"),
        ({"age": 3.5, "city": "Ulm", "member": True, "income": 1.0}, "age"),
        ({"age": "3", "city": "Ulm", "member": True, "income": 1.0}, "age"),
        ({"age": 3, "city": 7, "member": True, "income": 1.0}, "city"),
        ({"age": 3, "city": "Ulm", "member": "yes", "income": 1.0}, "member"),
        ({"age": 3, "city": "Ulm", "member": None, "income": 1.0}, "member"),
        ({"age": 3, "city": "Ulm", "member": True, "income": math.inf}, "income"),
        ({"age": 10**400, "city": "Ulm", "member": True, "income": 1}, "age"),
    ],
)
def test_the_first_offender_is_named(row, feature):
    """A refused row names its first offending feature."""
    with pytest.raises(InvalidRequest) as caught:
        MIXED.decode(Records(rows=[row]))
    assert caught.value.feature == feature
    assert repr(feature) in str(caught.value)


@pytest.mark.parametrize(
    ("row", "feature", "said"),
    [
        (
            {"agee": 3, "member": True},
            "age",
            "Feature 'age' is missing in row 0, and 'agee' is unknown; did you mean 'age'?",
        ),
        ({"age": 3, "member": 1, "x": 1}, "x", "Feature 'x' of row 0 is unknown."),
        ({"age": 3, "member": 1, "incme": 1}, "incme", "Feature 'incme' of row 0 is unknown; did you mean 'income'?"),
        ({"age": 2**63, "member": 1}, "age", f"outside the range from {-(2**63)} to {2**63 - 1}."),
    ],
)
def test_a_refusal_says_what_was_meant(row, feature, said):
    """A misspelt feature is told with the feature that it lacks, and a number out of range with the range."""
    with pytest.raises(InvalidRequest, match=re.escape(said)) as caught:
        MIXED.decode(Records(rows=[row]))
    assert caught.value.feature == feature


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2024-13-01T00:00:00Z", "not a time: month must be in 1..12."),
        ("0001-01-01T00:00:00+10:00", "outside the years 1 to 9999."),
        ("1600-01-01T00:00:00Z", "outside the years 1678 to 2261 of the column."),
        (1e300, "outside the years 1 to 9999."),
        ("Ann must be in ward 7", "it needs a time, in ISO 8601 or in seconds since 1970."),
    ],
)
def test_a_time_out_of_range_is_told_apart_from_no_time(value, said):
    """A time that the column cannot hold is told with what it may hold; other text is told what a time looks like."""
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        codec(("at", ColumnType.DATETIME, True)).decode(Records(rows=[{"at": value}]))


def test_nan_of_a_tensor_is_called_nan():
    """A NaN where the contract allows no null is refused as NaN, not as null."""
    values = np.array([[math.nan]])
    given = Tensors(tensors=(Tensor(name="x", datatype="FP64", shape=(1, 1), values=values),))
    with pytest.raises(InvalidRequest, match="row 0 is NaN"):
        codec(("a", ColumnType.DOUBLE, True)).decode(given)


def test_nulls_are_allowed_where_the_signature_says_so():
    """Optional features may be null or absent; numbers become NaN, text None."""
    frame = assemble([MIXED.decode(Records(rows=[{"age": 3.0, "member": 1}]))])
    table = frame.table()
    assert table["city"].tolist() == [None]
    assert table["member"].tolist() == [True]
    optional = codec(("a", ColumnType.DOUBLE, False))
    assert math.isnan(assemble([optional.decode(Records(rows=[{"a": None}]))]).matrix[0, 0])
    given_nan = Tensors(tensors=(Tensor(name="x", datatype="FP64", shape=(1, 1), values=np.array([[math.nan]])),))
    assert math.isnan(assemble([optional.decode(given_nan)]).matrix[0, 0])
    with pytest.raises(InvalidRequest):
        codec(("a", ColumnType.DOUBLE, True)).decode(given_nan)


def test_numbers_beside_truth_values_stay_one_matrix_and_two_kinds():
    """A matrix of numbers and truth values is numeric for the model, and truth again for the log."""
    both = InputCodec(BOTH, order=None, max_rows=100)
    frame = assemble([both.decode(Records(rows=[{"a": 1, "ok": True}, {"a": 2, "ok": False}]))])
    assert BOTH.array(frame).dtype == np.float64
    assert frame.table()["ok"].tolist() == [True, False]
    assert isinstance(frame.logged, tuple)
    holes = assemble([both.decode(Records(rows=[{"a": 1, "ok": True}, {"a": 2, "ok": None}]))])
    assert holes.table()["ok"].tolist() == [True, None]


@pytest.mark.parametrize("answer", [2**64, -(2**63) - 1, [1, 2**80]])
def test_a_whole_number_beyond_64_bits_is_the_models_fault(answer):
    """What no door can carry is refused as an answer of the model."""
    with pytest.raises(ModelFailed, match="64 bits"):
        per_row([answer], 1)


def test_the_bound_on_rows_holds():
    """One row more than the bound is TooLarge."""
    narrow = codec(("a", ColumnType.DOUBLE, True), max_rows=2)
    narrow.decode(Matrix(rows=[[1], [2]]))
    with pytest.raises(TooLarge):
        narrow.decode(Matrix(rows=[[1], [2], [3]]))


def test_without_a_signature_the_request_says_the_columns():
    """Names come from the first record or from feature_order; rows must agree."""
    loose = InputCodec(None, order=("b", "a"), max_rows=10)
    assert assemble([loose.decode(Records(rows=[{"a": 1, "b": 2}]))]).matrix.tolist() == [[2, 1]]
    free = InputCodec(None, order=None, max_rows=10)
    assert free.decode(Records(rows=[{"a": 1, "b": "x"}])).shape.names == ("a", "b")
    with pytest.raises(InvalidRequest):
        free.decode(Records(rows=[{"a": 1}, {"b": 1}]))
    with pytest.raises(InvalidRequest):
        free.decode(Matrix(rows=[[1, 2], [1]]))


def test_json_data_must_be_of_its_datatype():
    """A text in FP64 data, a float in INT32 data and a number in BOOL data are refused."""
    for datatype, data in (("FP64", ["1"]), ("INT32", [1.5]), ("BOOL", [1]), ("UINT8", [-1])):
        with pytest.raises(InvalidRequest):
            array_of(Tensor(name="x", datatype=datatype, shape=(1,), values=data))


def test_the_datatype_of_answers():
    """BOOL, INT64, FP64 where they fit, BYTES for the rest."""
    assert [datatype_of(v) for v in ([True], [1], [1, 2.5], [None, 1.0], ["a"], [{}], [])] == [
        "BOOL", "INT64", "FP64", "FP64", "BYTES", "BYTES", "BYTES",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("output", "rows", "expected"),
    [
        (np.array([1, 2]), 2, [1, 2]),
        (np.array([[1.0, np.nan]]), 1, [[1.0, None]]),
        (np.float32(2), 1, [2.0]),
        ([np.int64(1), "a"], 2, [1, "a"]),
        ({"label": "a"}, 1, [{"label": "a"}]),
        (
            {"label": ["a", "b"], "score": np.array([1, np.inf])},
            2,
            [{"label": "a", "score": 1.0}, {"label": "b", "score": None}],
        ),
        (7, 1, [7]),
        (None, 1, [None]),
    ],
)
def test_outputs_become_one_value_per_row(output, rows, expected):
    """Arrays, scalars, lists and dicts are divided among the rows; what JSON lacks is null."""
    assert per_row(output, rows) == expected


def test_frames_are_divided_by_row():
    """A Series is its values, a DataFrame one object per row."""
    assert per_row(pd.Series([1.0, np.nan]), 2) == [1.0, None]
    assert per_row(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), 2) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize("output", [np.array([1, 2, 3]), [1], object(), {"a": 1}, "text"])
def test_what_is_no_answer_is_the_models_fault(output):
    """Outputs that are not one value per row raise ModelFailed."""
    with pytest.raises(ModelFailed):
        per_row(output, 2)


def test_probabilities_are_rows_of_numbers():
    """predict_proba of one dimension is refused."""
    with pytest.raises(ModelFailed):
        probabilities_per_row(np.array([0.1, 0.9]), 2)
