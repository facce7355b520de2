"""Tables as files: what is written is read, and a CSV's types are found."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from mendel.adapters.arrow import read_table, write_table
from mendel.errors import InvalidInput, StoreUnavailable
from mendel.values import Table
from support.shared_data import shared_data


def objects(*values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


TABLE = Table(
    {
        "age": np.array([31.0, np.nan]),
        "owner": np.array([True, False]),
        "city": objects("Ulm", None),
    }
)


@pytest.mark.parametrize("name", ["rows.parquet", "rows.csv"])
def test_what_is_written_is_read(tmp_path, name):
    """Numbers, truth values, text and nulls survive both kinds of file."""
    path = tmp_path / "deep" / name
    write_table(TABLE, path)
    again = read_table(path)
    assert again.names == TABLE.names
    for column in TABLE.names:
        assert again[column].dtype == TABLE[column].dtype
        np.testing.assert_array_equal(again[column], TABLE[column])
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_types_of_a_csv_are_inferred(tmp_path):
    """Whole numbers are numbers, empty fields are missing, and quoted numbers are text only if all are not numbers."""
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(b"n,when,word\n1,2026-11-21T12:00:00Z,\n,2026-11-21T12:00:01Z,x\n"))
    table = read_table(path)
    np.testing.assert_array_equal(table["n"], [1.0, np.nan])
    assert (table["when"][1] - table["when"][0]) == 1_000_000
    assert table["word"].tolist() == [None, "x"]


@pytest.mark.parametrize("name", ["credit.csv", "electricity.csv", "titanic.csv"])
def test_real_tables(tmp_path, name):
    """Real tables are read, and are the same through Parquet."""
    table = read_table(shared_data(name))
    assert len(table) > 500
    write_table(table, tmp_path / "rows.parquet")
    again = read_table(tmp_path / "rows.parquet")
    assert all(again[column].dtype == table[column].dtype for column in table.names)


def test_what_cannot_be_read_is_said(tmp_path):
    """Other kinds, broken files and missing ones each have their own error."""
    with pytest.raises(InvalidInput, match=r"neither \.parquet nor \.csv"):
        read_table(tmp_path / "rows.xlsx")
    (tmp_path / "rows.parquet").write_bytes(b"no parquet")
    with pytest.raises(InvalidInput, match="cannot be read as parquet"):
        read_table(tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("a,b\n1\n")
    with pytest.raises(InvalidInput, match="cannot be read as csv"):
        read_table(tmp_path / "rows.csv")
    with pytest.raises(StoreUnavailable):
        read_table(tmp_path / "nowhere.csv")
