"""The contract of Lake, over memory and Delta."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mendel.adapters.arrow.delta_lake import DeltaLake
from mendel.adapters.memory.predictions import MemoryLake
from mendel.errors import Fenced, StoreUnavailable
from mendel.values import Table, Window, to_micros

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TABLE = "predictions/credit"


@pytest.fixture(params=["memory", "delta"])
def lake(request, tmp_path):
    return MemoryLake() if request.param == "memory" else DeltaLake(tmp_path / "lake")


def objects(*values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def rows(*names, at=NOON, **columns):
    times = np.full(len(names), to_micros(at), dtype=np.int64)
    return Table({"prediction_id": objects(*names), "event_time": times, **columns})


def append(lake, table=TABLE, *, seq=1, spool_id="s1", what):
    lake.append(table, what, marks={spool_id: seq}, seen={spool_id: lake.shipped(table, spool_id)})


def ids(lake, window=None, **which):
    return sorted(lake.snapshot(TABLE).read(window, columns=["prediction_id"], **which)["prediction_id"])


class TestAppending:
    def test_rows_and_marks_are_one_commit(self, lake):
        """Rows and the marks of all their spools appear together."""
        assert lake.shipped(TABLE, "s1") == 0
        lake.append(TABLE, rows("a", "b"), marks={"s1": 4, "s2": 1}, seen={})
        snapshot = lake.snapshot(TABLE)
        assert (snapshot.shipped("s1"), snapshot.shipped("s2"), snapshot.shipped("s3")) == (4, 1, 0)
        assert snapshot.count() == 2
        assert ids(lake) == ["a", "b"]

    def test_a_mark_that_moved_fences(self, lake):
        """Who saw an older mark appends nothing: the rows may be in already."""
        append(lake, what=rows("a"), seq=5)
        with pytest.raises(Fenced):
            lake.append(TABLE, rows("a"), marks={"s1": 5}, seen={"s1": 4})
        with pytest.raises(Fenced):
            lake.append(TABLE, rows("a"), marks={"s1": 5}, seen={})
        assert (ids(lake), lake.shipped(TABLE, "s1")) == (["a"], 5)

    def test_of_many_with_the_same_segment_one_appends(self, lake):
        """Shippers that run at once double nothing, whoever wins."""
        append(lake, what=rows("first"), seq=1)

        def ship(_):
            try:
                lake.append(TABLE, rows("second"), marks={"s1": 2}, seen={"s1": 1})
            except (Fenced, StoreUnavailable):
                return 0
            return 1

        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(ship, range(8))) == 1
        assert ids(lake) == ["first", "second"]

    def test_spools_do_not_hinder_each_other(self, lake):
        """Appends of different spools at once all succeed."""
        append(lake, what=rows("first"))

        def ship(number):
            lake.append(TABLE, rows(f"n{number}"), marks={f"spool{number}": 1}, seen={})

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(ship, range(8)))
        assert len(ids(lake)) == 9
        assert lake.shipped(TABLE, "spool7") == 1

    def test_tables_are_apart(self, lake):
        """Each table has rows and marks of its own; a table never written to is empty."""
        append(lake, what=rows("a"))
        append(lake, "labels", what=rows("b"))
        assert lake.tables() == ("labels", TABLE)
        assert (lake.shipped("labels", "s1"), lake.shipped("predictions/other", "s1")) == (1, 0)
        nothing = lake.snapshot("predictions/other")
        assert (nothing.count(), len(nothing.read()), nothing.read(columns=["x"]).names) == (0, 0, ("x",))

    def test_a_snapshot_stays_as_it_was(self, lake):
        """Marks and rows of one snapshot belong together, whatever comes after."""
        append(lake, what=rows("a"))
        snapshot = lake.snapshot(TABLE)
        append(lake, what=rows("b"), seq=2)
        assert (snapshot.shipped("s1"), snapshot.count(), len(snapshot.read())) == (1, 1, 1)


class TestColumns:
    def test_kinds_come_back_as_they_were(self, lake):
        """Numbers, truth values, text, times, integers and their nulls survive."""
        what = rows(
            "a",
            "b",
            number=np.array([1.5, np.nan]),
            truth=np.array([True, False]),
            perhaps=objects(None, True),
            text=objects("x", None),
            version=np.array([3, 4], dtype=np.int64),
            timestamp=np.array([to_micros(NOON), to_micros(NOON) + 1], dtype=np.int64),
        )
        append(lake, what=what)
        found = lake.snapshot(TABLE).read()
        found = found.take(np.argsort(found["prediction_id"]))
        for name in what.names:
            assert found[name].dtype == what[name].dtype, name
            np.testing.assert_array_equal(found[name], what[name])

    def test_schemas_grow_and_shrink(self, lake):
        """A feature more or fewer is a column with nulls; nothing is truncated."""
        append(lake, what=rows("a", x=np.array([1.0])), seq=1)
        append(lake, what=rows("b", y=np.array([2.0])), seq=2)
        found = lake.snapshot(TABLE).read()
        found = found.take(np.argsort(found["prediction_id"]))
        np.testing.assert_array_equal(found["x"], [1.0, np.nan])
        np.testing.assert_array_equal(found["y"], [np.nan, 2.0])

    def test_a_feature_may_change_its_type(self, lake):
        """A number that becomes text, or a mixture, keeps every value under its name."""
        kinds = (np.array([1.0]), objects("one"), np.array([True]), objects(None), np.array([2.5]))
        for seq, column in enumerate(kinds, 1):
            append(lake, what=rows(str(seq), x=column), seq=seq)
        append(lake, what=rows("6", "7", x=objects("both", 7)), seq=6)
        found = lake.snapshot(TABLE).read(columns=["prediction_id", "x"])
        values = dict(zip(found["prediction_id"], found["x"], strict=True))
        assert values == {"1": 1.0, "2": "one", "3": True, "4": None, "5": 2.5, "6": "both", "7": 7}

    @pytest.mark.parametrize(
        "name",
        ["mean radius (cm)", "a,b;c={d}", "100%", "a#b", "path/to", "Größe", "feature.x.y", 'quoted "name"', "`"],
    )
    def test_any_name_is_a_column(self, lake, name):
        """Names of features are the user's, and come back as they were."""
        append(lake, what=rows("a", **{name: np.array([1.0])}))
        assert lake.snapshot(TABLE).read(columns=[name])[name].tolist() == [1.0]
        assert name in lake.snapshot(TABLE).read()

    def test_names_differ_by_case(self, lake):
        """Age and age are two features."""
        append(lake, what=rows("a", Age=np.array([1.0]), age=np.array([2.0])))
        append(lake, what=rows("b", age=np.array([3.0]), AGE=objects("old")), seq=2)
        found = lake.snapshot(TABLE).read()
        assert sorted(found["age"].tolist()) == [2.0, 3.0]
        assert [value for value in found["Age"].tolist() if value == value] == [1.0]  # noqa: PLR0124 - not NaN
        assert [value for value in found["AGE"].tolist() if value] == ["old"]

    def test_projection_gives_what_was_asked_in_order(self, lake):
        """Only the named columns come, a missing one as nulls in every row."""
        append(lake, what=rows("a", x=np.array([1.0]), y=np.array([2.0])))
        found = lake.snapshot(TABLE).read(columns=["y", "nowhere", "prediction_id"])
        assert found.names == ("y", "nowhere", "prediction_id")
        assert found["nowhere"].tolist() == [None]
        assert len(lake.snapshot(TABLE).read(columns=["nowhere"])) == 1


class TestReading:
    def test_windows_are_half_open_over_days(self, lake):
        """A window gives its start and not its end, across days."""
        for seq, hours in enumerate((-48, -24, 0, 24), 1):
            append(lake, what=rows(str(hours), at=NOON + hours * HOUR), seq=seq)
        assert ids(lake, Window(NOON - DAY, NOON + DAY)) == ["-24", "0"]
        assert ids(lake, Window(NOON, NOON)) == []

    def test_by_prediction(self, lake):
        """Some predictions can be asked for by id, with quotes in it too."""
        append(lake, what=rows("a", "b", "it's"))
        assert ids(lake, prediction_ids=["a", "it's", "nobody"]) == ["a", "it's"]
        assert ids(lake, prediction_ids=[]) == []


class TestUpkeep:
    def fill(self, lake, commits=6):
        for seq in range(1, commits + 1):
            append(lake, what=rows(f"n{seq}", at=NOON - seq * DAY), seq=seq)
            append(lake, what=rows(f"m{seq}"), seq=seq, spool_id="s2")

    def test_forgetting_a_person(self, lake):
        """Rows of named predictions go, all others and the marks stay."""
        self.fill(lake)
        assert lake.forget(TABLE, ["n1", "m2", "nobody", "it's"]) == 2
        assert lake.forget(TABLE, ["n1"]) == 0
        assert len(ids(lake)) == 10
        assert lake.shipped(TABLE, "s1") == 6

    def test_retention_deletes_whole_days(self, lake):
        """Days that are over go; the day of the bound and rows without a time stay."""
        self.fill(lake)
        append(lake, what=rows("timeless", at=datetime(1970, 1, 1, tzinfo=UTC)), seq=7)
        assert lake.expire(TABLE, NOON - 3 * DAY) == 3
        assert [name for name in ids(lake) if name.startswith(("n", "t"))] == ["n1", "n2", "n3", "timeless"]

    def test_compacting_and_vacuuming_change_no_row(self, lake):
        """Upkeep leaves rows, marks and what can be appended as they were."""
        self.fill(lake)
        before = ids(lake)
        lake.compact(TABLE)
        lake.vacuum(TABLE, timedelta(0))
        assert ids(lake) == before
        append(lake, what=rows("later"), seq=7)
        assert (len(ids(lake)), lake.shipped(TABLE, "s2")) == (13, 6)

    def test_upkeep_of_nothing(self, lake):
        """A table that was never written to needs no upkeep."""
        assert lake.compact("predictions/none") == lake.vacuum("predictions/none", DAY) == 0
        assert lake.forget("predictions/none", ["a"]) == lake.expire("predictions/none", NOON) == 0


class TestDelta:
    def test_files_really_go(self, tmp_path):
        """Compaction joins small files, and vacuum deletes the old ones and what a killed append left."""
        lake = DeltaLake(tmp_path)
        TestUpkeep().fill(lake)
        orphan = tmp_path / TABLE / "day=2026-11-21" / "orphan.parquet"
        orphan.write_bytes(b"half")
        assert lake.compact(TABLE) == 6
        assert lake.vacuum(TABLE, timedelta(0)) >= 7
        assert not orphan.exists()
        assert len(list((tmp_path / TABLE / "day=2026-11-21").glob("*.parquet"))) == 1

    def test_a_table_that_cannot_be_read_is_said(self, tmp_path):
        """A damaged log is StoreUnavailable, not an empty table."""
        lake = DeltaLake(tmp_path)
        append(lake, what=rows("a"))
        (tmp_path / TABLE / "_delta_log" / f"{0:020d}.json").write_text("{ not json")
        with pytest.raises(StoreUnavailable):
            lake.snapshot(TABLE)
