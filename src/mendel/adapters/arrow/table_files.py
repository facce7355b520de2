"""Read and write tables as Parquet and CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mendel.errors import InvalidInput
from mendel.values import Table
from mendel.values.atomic_files import replacing, translated_disk_errors

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa  # type: ignore[import-untyped]


def read_table(path: Path) -> Table:
    """
    Read a ``.parquet``, ``.csv`` or ``.csv.gz`` file; CSV types are inferred and an empty CSV field is missing.

    Raises:
        InvalidInput: The file has another extension, or its content does not match the extension.
        StoreUnavailable: The file cannot be opened.
    """
    from mendel.adapters.arrow.arrow_columns import from_arrow  # noqa: PLC0415 - heavy

    return from_arrow(_read(path))


def read_table_and_times(path: Path) -> tuple[Table, frozenset[str]]:
    """
    Read a file as :func:`read_table` does, and give the names of its columns of dates and times, too.

    Raises:
        InvalidInput, StoreUnavailable: As for :func:`read_table`.
    """
    import pyarrow as pa  # noqa: PLC0415 - heavy

    from mendel.adapters.arrow.arrow_columns import from_arrow  # noqa: PLC0415 - heavy

    found = _read(path)
    times = (one.name for one in found.schema if pa.types.is_timestamp(one.type) or pa.types.is_date(one.type))
    return from_arrow(found), frozenset(times)


def read_frame(path: Path) -> pd.DataFrame:
    """
    Read a file as :func:`read_table` does, into the pandas frame that pandas' own readers give.

    Raises:
        InvalidInput, StoreUnavailable: As for :func:`read_table`.
    """
    frame: pd.DataFrame = _read(path).to_pandas()
    return frame


def _read(path: Path) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.csv  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy
    import pyarrow.parquet  # type: ignore[import-untyped]  # noqa: PLC0415 - heavy

    kind = _kind(path)
    try:
        with translated_disk_errors(path, act="read"), path.open("rb") as file:
            if kind == "parquet":
                return pyarrow.parquet.read_table(file)
            packed = pa.CompressedInputStream(file, "gzip") if path.suffix == ".gz" else file
            return pyarrow.csv.read_csv(packed, convert_options=_lenient())
    except pa.ArrowException as error:
        raise InvalidInput(f"The file {path.name} cannot be read as {kind}: {error}.") from error


def write_table(table: Table, path: Path, *, times: frozenset[str] = frozenset()) -> None:
    """
    Write a ``.parquet`` or ``.csv`` file atomically: a temporary file is written and then renamed.

    Args:
        times: The columns that hold microseconds since 1970, and become times.

    Raises:
        InvalidInput: The file has another extension.
        StoreUnavailable: The file cannot be written.
    """
    import pyarrow.csv  # noqa: PLC0415 - heavy
    import pyarrow.parquet  # noqa: PLC0415 - heavy

    from mendel.adapters.arrow.arrow_columns import to_arrow  # noqa: PLC0415 - heavy

    write = pyarrow.parquet.write_table if _kind(path) == "parquet" else pyarrow.csv.write_csv
    with replacing(path) as draft:
        write(to_arrow(table, times=times), draft)


def _kind(path: Path) -> str:
    kinds = {".parquet": "parquet", ".csv": "csv", ".csv.gz": "csv"}
    found = next((kind for ending, kind in kinds.items() if path.name.endswith(ending)), None)
    if found is None:
        raise InvalidInput(
            (f"The name of {path.name} ends with neither .parquet nor .csv."), remedy="Give a Parquet or CSV file."
        )
    return found


def _lenient() -> pa.csv.ConvertOptions:
    """CSV options: an unquoted empty field is missing, a quoted empty field is the empty text."""
    import pyarrow.csv  # noqa: PLC0415 - heavy

    return pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
