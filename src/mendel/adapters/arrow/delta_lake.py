"""The prediction lake as Delta tables, each in its own directory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import count
from operator import and_
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from mendel.adapters.arrow.arrow_columns import MIXED, arrow_column, column_kind, numpy_column
from mendel.adapters.arrow.delta_columns import column_name, disk_name, is_mixed
from mendel.errors import Fenced, StoreUnavailable
from mendel.predictions import TIME_COLUMNS, missing_column
from mendel.values import Table, Window

_DAY = "day"
_DAY_MICROS = 86_400_000_000
_TIMELESS_DAY = "1970-01-01"
_IDS_PER_DELETE = 500
_CONFIGURATION = {"delta.logRetentionDuration": "interval 7 days"}
_KINDS = {
    "double": "number",
    "long": "integer",
    "boolean": "truth",
    "string": "text",
    "timestamp": "time",
}


@dataclass(frozen=True, slots=True)
class DeltaSnapshot:
    """
    Implements :class:`mendel.predictions.LakeSnapshot` over one loaded table version; ``table`` is None before the
    first commit.
    """

    table: DeltaTable | None

    def shipped(self, spool_id: str) -> int:
        return (self.table.transaction_version(spool_id) or 0) if self.table else 0

    def read(
        self,
        window: Window | None = None,
        *,
        columns: Sequence[str] | None = None,
        prediction_ids: Sequence[str] | None = None,
    ) -> Table:
        if self.table is None:
            return Table({name: missing_column(name, 0) for name in columns or ()})
        places: dict[str, list[str]] = {}
        for name in _kinds(self.table):
            if name != _DAY:
                places.setdefault(column_name(name), []).append(name)
        wanted = list(places) if columns is None else list(columns)
        on_disk = [name for column in wanted for name in places.get(column, ())]
        with _translated(self.table.table_uri):
            rows = self.table.to_pyarrow_dataset().to_table(
                columns=on_disk or [_DAY], filter=_chosen(window, prediction_ids)
            )
        return Table({name: _coalesced(rows, name, places.get(name, [])) for name in wanted})

    def count(self) -> int:
        if self.table is None:
            return 0
        with _translated(self.table.table_uri):
            return int(self.table.to_pyarrow_dataset().count_rows())


class DeltaLake:
    """
    Implements :class:`mendel.predictions.Lake`; the table ``predictions/credit`` is the directory of that path.

    Every commit is flushed to disk before the method returns, because the caller then deletes the local segments.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def tables(self) -> tuple[str, ...]:
        with _translated(str(self._root)):
            logs = [*self._root.glob("*/_delta_log"), *self._root.glob("*/*/_delta_log")]
        return tuple(sorted(log.parent.relative_to(self._root).as_posix() for log in logs))

    def snapshot(self, table: str) -> DeltaSnapshot:
        with _translated(table):
            return DeltaSnapshot(self._load(table))

    def shipped(self, table: str, spool_id: str) -> int:
        return self.snapshot(table).shipped(spool_id)

    def append(self, table: str, rows: Table, *, marks: Mapping[str, int], seen: Mapping[str, int]) -> None:
        """
        Append rows and set marks in one commit; the commit fails if another process changed a mark since *seen* was
        read.
        """
        with _translated(table):
            loaded = self._load(table)
            for spool_id in marks:
                mark = DeltaSnapshot(loaded).shipped(spool_id)
                if mark != seen.get(spool_id, 0):
                    raise Fenced(
                        f"The lake table {table} already holds segments of spool {spool_id} up to number {mark}, "
                        f"not up to {seen.get(spool_id, 0)}: another process appends the same segments."
                    )
            (self._root / table).parent.mkdir(parents=True, exist_ok=True)
            write_deltalake(
                self._root / table if loaded is None else loaded,
                _to_disk(rows, {} if loaded is None else _kinds(loaded)),
                mode="append",
                schema_mode="merge",
                partition_by=[_DAY],
                configuration=_CONFIGURATION if loaded is None else None,
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(spool_id, seq) for spool_id, seq in sorted(marks.items())]
                ),
            )
            _flush(self._root / table, 0 if loaded is None else loaded.version())

    def forget(self, table: str, prediction_ids: Sequence[str]) -> int:
        deleted = 0
        for start in range(0, len(prediction_ids), _IDS_PER_DELETE):
            names = ", ".join(_quoted(name) for name in prediction_ids[start : start + _IDS_PER_DELETE])
            deleted += self._delete(table, f"prediction_id in ({names})")
        return deleted

    def expire(self, table: str, before: datetime) -> int:
        """Delete the rows of all days before the day of *before*; rows without a time (stored as 1970) are kept."""
        day = before.astimezone(UTC).date().isoformat()
        return self._delete(table, f"{_DAY} < '{day}' and {_DAY} > '{_TIMELESS_DAY}'")

    def compact(self, table: str) -> int:
        with _translated(table):
            loaded = self._load(table)
            return 0 if loaded is None else int(loaded.optimize.compact()["numFilesRemoved"])

    def vacuum(self, table: str, keep: timedelta) -> int:
        """Delete files that no table version younger than *keep* uses, including files of interrupted appends."""
        hours = math.ceil(keep / timedelta(hours=1))
        with _translated(table):
            loaded = self._load(table)
            if loaded is None:
                return 0
            gone = loaded.vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True)
            return len(gone)

    def _delete(self, table: str, predicate: str) -> int:
        with _translated(table):
            loaded = self._load(table)
            if loaded is None:
                return 0
            before = DeltaSnapshot(loaded).count()
            loaded.delete(predicate)
            return before - DeltaSnapshot(self._load(table)).count()

    def _load(self, table: str) -> DeltaTable | None:
        if not (self._root / table / "_delta_log").exists():
            return None
        try:
            return DeltaTable(self._root / table)
        except TableNotFoundError:  # the process was killed during the first commit
            return None


def _kinds(table: DeltaTable) -> dict[str, str]:
    found = {}
    for field in table.schema().fields:
        kind = _KINDS.get(str(getattr(field.type, "type", field.type)), "other")
        found[field.name] = MIXED if is_mixed(field.name) else kind
    return found


def _to_disk(rows: Table, known: Mapping[str, str]) -> pa.Table:
    days = (rows["event_time"] // _DAY_MICROS).astype("datetime64[D]").astype(str)
    columns: dict[str, pa.Array] = {_DAY: pa.array(days.tolist(), pa.string())}
    kinds = dict(known)
    for name, column in rows.columns.items():
        kind = _kind(name, column)
        if kind == "nothing":
            continue
        place = disk_name(name, kind, kinds)
        kinds[place] = kind
        columns[place] = arrow_column(column, time=kind == "time")
    return pa.table(columns)


def _kind(name: str, column: Any) -> str:
    if column.dtype == object:
        return column_kind(column.tolist())
    if column.dtype == np.int64:
        return "time" if name in TIME_COLUMNS else "integer"
    return "truth" if column.dtype == np.bool_ else "number"


def _chosen(window: Window | None, prediction_ids: Sequence[str] | None) -> pc.Expression | None:
    terms: list[pc.Expression] = []
    if window is not None:
        day, time = pc.field(_DAY), pc.field("event_time")
        terms += [day >= window.start.date().isoformat(), day <= window.end.date().isoformat()]
        terms += [time >= pa.scalar(window.start), time < pa.scalar(window.end)]
    if prediction_ids is not None:
        terms.append(pc.field("prediction_id").isin(pa.array(prediction_ids, pa.string())))
    return reduce(and_, terms) if terms else None


def _coalesced(rows: pa.Table, name: str, places: Sequence[str]) -> Any:
    if not places:
        return missing_column(name, len(rows))
    if len(places) == 1 and not is_mixed(places[0]):
        return numpy_column(rows.column(places[0]), integers=True)
    values = np.full(len(rows), None, dtype=object)
    for place in places:
        column = rows.column(place)
        present = ~column.is_null().to_numpy()
        found = [json.loads(v) if is_mixed(place) else v for v in column.drop_null().to_pylist()]
        values[np.flatnonzero(present)] = np.fromiter(found, dtype=object, count=len(found))
    return values


def _flush(directory: Path, since: int) -> None:
    """Flush to disk the data files and log entries of all commits from version *since* on."""
    log = directory / "_delta_log"
    for version in count(since):
        commit = log / f"{version:020d}.json"
        if not commit.exists():
            break
        for line in commit.read_text(encoding="utf-8").splitlines():
            if added := json.loads(line).get("add"):
                _sync(directory / unquote(added["path"]))
        _sync(commit)
    _sync(log)
    _sync(directory)


def _sync(path: Path) -> None:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:  # compaction and vacuum removed the file in the meantime
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _translated(table: str) -> Iterator[None]:
    """Translate errors of Delta and of the disk into Mendel's errors."""
    try:
        yield
    except CommitFailedError as error:
        if "Concurrent transaction" in str(error):
            raise Fenced(f"Another process appends the same segments to the lake table {table}.") from error
        raise StoreUnavailable(
            (f"Another process changed the lake table {table} during this write: {error}."), remedy="Try again."
        ) from error
    except (DeltaError, pa.ArrowException, OSError) as error:
        raise StoreUnavailable(f"The lake table {table} cannot be read or written: {error}.") from error
