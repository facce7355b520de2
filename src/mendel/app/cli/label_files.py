"""Labels from files."""

from __future__ import annotations

from pathlib import Path

from mendel.adapters.arrow import read_table
from mendel.app.wiring import utc_now
from mendel.predictions import LabelRow, labels_from


def labels_of_file(path: Path, *, id_column: str, label_column: str, source: str) -> tuple[LabelRow, ...]:
    """
    The labels a CSV or Parquet file holds, in its order.

    Raises:
        InvalidInput: A column is missing, or an id is.
    """
    return labels_from(
        read_table(path), id_column=id_column, label_column=label_column, source=source, received_at=utc_now()
    )
