from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pytest

import mendel
from mendel.drift import Reference
from mendel.errors import EmptyWindow, InvalidValue
from mendel.values import Table
from mendel.values.data_frames import as_table


@pytest.fixture
def steady(people: Table) -> pd.DataFrame:
    return pd.DataFrame(dict(people.columns))


@pytest.fixture
def moved(steady: pd.DataFrame) -> pd.DataFrame:
    return steady.assign(age=steady["age"] * 1.5, city="Kiel")


def test_one_line(steady: pd.DataFrame, moved: pd.DataFrame) -> None:
    """Two pandas frames, one line, and what people ask for by name."""
    found = mendel.DriftDetector(steady, moved).detect()
    assert found.drift_detected is True
    assert found.drifted_features == ("age", "city")
    assert found.drift_share == 0.5
    assert found.features["age"].drifted
    assert json.loads(json.dumps(found.as_dict()))["drifted_features"] == ["age", "city"]


def test_frames_of_any_make_agree(steady: pd.DataFrame, moved: pd.DataFrame, people: Table) -> None:
    """pandas, polars, mappings, tables and a fitted reference all give one answer."""
    answers = {
        mendel.DriftDetector(before, after).detect().report.digest
        for before, after in [
            (steady, moved),
            (pl.from_pandas(steady), pl.from_pandas(moved)),
            ({name: steady[name].tolist() for name in steady}, moved.to_dict("list")),
            (people, as_table(moved)),
            (Reference.fit(people), moved),
        ]
    }
    assert len(answers) == 1


def test_nulls_of_any_make_are_nulls() -> None:
    """None, NaN, pd.NA, pd.NaT and polars' null are all missing."""
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None], dtype="Int64"),
            "word": pd.array(["a", pd.NA], dtype="string"),
            "yes": pd.array([True, pd.NA], dtype="boolean"),
            "when": pd.to_datetime(["2026-01-01", None]),
        }
    )
    others = pl.DataFrame({"whole": [1, None], "word": ["a", None], "yes": [True, None]})
    for rows in (frame, others):
        reference = Reference.fit(as_table(rows))
        assert [feature.cells.counts[feature.null_cell] for feature in reference.features] == [1] * len(rows.columns)


def test_empty_frames_are_refused(steady: pd.DataFrame) -> None:
    """Of no rows nothing can be said."""
    with pytest.raises(EmptyWindow):
        mendel.DriftDetector(steady, steady[:0])
    with pytest.raises(EmptyWindow):
        mendel.DriftDetector(steady[:0], steady)


def test_few_rows_are_neither_yes_nor_no(steady: pd.DataFrame, moved: pd.DataFrame) -> None:
    """Too few rows are said to be too few."""
    found = mendel.DriftDetector(steady, moved[:150]).detect()
    assert found.drift_detected is None
    assert found.drift_share is None
    assert str(found) == "drift not measured: insufficient_data (have 150 rows, need 200)"


def test_what_is_no_frame_is_refused() -> None:
    """A number has no columns."""
    with pytest.raises(InvalidValue, match="type int has no columns"):
        mendel.DriftDetector(1, 2)


def test_import_is_light() -> None:
    """Serving imports references without scipy, scikit-learn, pandas or polars."""
    code = "import sys, mendel.drift, mendel.gates; print({'scipy', 'sklearn', 'pandas', 'polars'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


def test_detection_leaves_the_frame_alone(steady: pd.DataFrame) -> None:
    """The caller's rows are read and not written."""
    before = steady.copy()
    mendel.DriftDetector(steady, steady).detect()
    assert before.equals(steady)
    assert np.shares_memory(as_table(steady)["age"], steady["age"].to_numpy())
