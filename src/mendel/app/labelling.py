"""Labels from files."""

from __future__ import annotations

from pathlib import Path

from mendel.adapters.files import read_table
from mendel.app.wiring import utc_now
from mendel.errors import InvalidInput
from mendel.predictions import LabelRow


def labels_of_file(path: Path, *, id_column: str, label_column: str, source: str) -> tuple[LabelRow, ...]:
    """
    The labels a CSV or Parquet file holds, in its order.

    Raises:
        InvalidInput: A column is missing, or an id is.
    """
    table = read_table(path)
    for column in (id_column, label_column):
        if column not in table:
            raise InvalidInput(
                f"{path.name} has no column {column!r}.", remedy=f"It has {', '.join(table.names)}; see --id-column."
            )
    now = utc_now()
    ids, labels = table[id_column].tolist(), table[label_column].tolist()
    if (empty := next((row for row, found in enumerate(ids, 1) if not isinstance(found, str)), None)) is not None:
        raise InvalidInput(f"{path.name}: row {empty} has no prediction id.")
    return tuple(
        LabelRow(prediction_id=prediction, true_label=label, label_source=source, received_at=now)
        for prediction, label in zip(ids, labels, strict=True)
    )
