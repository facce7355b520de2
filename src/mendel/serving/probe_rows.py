"""Probe rows: unusual rows of the training data, with the answers of the fitted model before it was stored."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.errors import InvalidInput
from mendel.serving.artifact_values import read_value, write_value
from mendel.serving.input_contract import Container, Content, ContractColumn, InputContract, require_pandas
from mendel.serving.model_faults import place_of
from mendel.serving.prediction_outputs import per_row, probabilities_per_row
from mendel.serving.signature_inference import as_pandas
from mendel.values import Table
from mendel.values.data_frames import as_array, as_table, is_frame, is_null

PROBE_FILE: Final = "mendel/probe.json"
MOST_ROWS: Final = 64
UNSEEN: Final = "a text that no training row has"
_ORDINARY: Final = 8
_DOUBLE_TOLERANCE, _SINGLE_TOLERANCE = 1e-6, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    The probe rows of a version in the form of a JSON request, and the answers of the fitted model.

    Attributes:
        rows: One list of values per row, in the order of ``columns``.
        predictions: One answer per row.
        probabilities: One list per row; None if the model gives no probabilities.
        tolerance: The largest relative difference at which two floats count as equal.
        unmeasured: Why there are no answers; empty if there are answers. Without answers, ``rows`` may be empty.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    predictions: tuple[Any, ...] = ()
    probabilities: tuple[Any, ...] | None = None
    tolerance: float = _DOUBLE_TOLERANCE
    unmeasured: str = ""

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows as a caller sends them: through JSON text."""
        records: list[dict[str, Any]] = json.loads(
            json.dumps([dict(zip(self.columns, row, strict=True)) for row in self.rows])
        )
        return records


def take_probe(model: Any, contract: InputContract, rows: Any) -> Probe:
    """
    Choose probe rows from *rows*, and let *model*, the caller's object, predict them without conversion.

    Args:
        rows: The training features or the input example, as the caller gave them.

    Raises:
        InvalidInput: *model* cannot predict the rows.
    """
    own = OwnRows(rows, contract)
    chosen = hard_rows(own, contract)
    x, wire = own.take(chosen), list(map(own.wire_row, chosen))
    try:
        first, second = answers_of(model, x), answers_of(model, own.take(chosen))
    except Exception as error:
        raise InvalidInput(
            f"The model cannot predict its training data or input example: {place_of(error)}.",
            remedy="Give training_data or input_example in the form that the model's predict takes.",
        ) from error
    if first != second:
        return Probe(columns=contract.names, unmeasured="the model gives different answers to the same rows")
    predictions, probabilities = first
    for sent, answer, scores in tuple(_unseen_categories(model, contract, x, wire)):
        wire.append(sent)
        predictions.append(answer)
        if probabilities is not None:
            probabilities.append(scores)
    return Probe(
        columns=contract.names,
        rows=tuple(wire),
        predictions=tuple(predictions),
        probabilities=None if probabilities is None else tuple(probabilities),
        tolerance=_SINGLE_TOLERANCE if _single_precision(contract) else _DOUBLE_TOLERANCE,
    )


def _unseen_categories(
    model: Any, contract: InputContract, x: Any, wire: Sequence[tuple[Any, ...]]
) -> Iterator[tuple[tuple[Any, ...], Any, Any]]:
    """
    For each text column, yield the first row with a text that no training row has, with the model's answer.

    A text column is skipped if the model raises an error for such a text.
    """
    if not hasattr(x, "iloc") or not wire:
        return
    texts = [place for place, column in enumerate(contract.columns) if column.content is Content.TEXT]
    for place in [at for at in texts if contract.columns[at].categories is None][:_ORDINARY]:
        odd = x.iloc[[0]].copy()
        odd.isetitem(place, [UNSEEN])
        odd = odd.astype({odd.columns[place]: x.dtypes.iloc[place]})
        try:
            (answer,), scores = answers_of(model, odd)
        except Exception:  # noqa: BLE001, S112 - how the model refuses a text that it does not know
            continue
        yield (*wire[0][:place], UNSEEN, *wire[0][place + 1 :]), answer, None if scores is None else scores[0]


def answers_of(model: Any, x: Any) -> tuple[list[Any], list[Any] | None]:
    """Give the predictions of *model* for the rows *x*, and the probabilities or None, as JSON values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = len(x)
        predictions = per_row(model.predict(x), rows)
        ask = getattr(model, "predict_proba", None)
        return predictions, None if ask is None else probabilities_per_row(ask(x), rows)


class OwnRows:
    """
    The caller's rows as the data frame or array, and with the columns, that the model was fitted on.

    Raises:
        InvalidInput: A column that the model was fitted on is missing.
    """

    def __init__(self, rows: Any, contract: InputContract) -> None:
        self._contract = contract
        self._rows: Any
        if isinstance(rows, Table):
            pandas = require_pandas()
            series = {name: pandas.Series(rows[name], dtype=rows[name].dtype) for name in rows.names}
            rows = pandas.DataFrame(series)
        if is_frame(rows):
            frame = as_pandas(rows)
            by_name = {str(name): name for name in frame.columns}
            if lacking := [name for name in contract.names if name not in by_name]:
                raise InvalidInput(
                    f"The rows lack {lacking[0]!r}: the model was fitted on {', '.join(contract.names[:20])}.",
                    remedy="Give rows with the columns that the model was fitted on.",
                )
            chosen = frame[[by_name[name] for name in contract.names]]
            self._rows = chosen if contract.container is Container.FRAME else chosen.to_numpy()
        else:
            self._rows = as_array(rows)
            if self._rows.shape[1] != len(contract.columns):
                raise InvalidInput(
                    f"The rows have {self._rows.shape[1]} columns; the model was fitted on {len(contract.columns)}.",
                    remedy="Give rows with the columns that the model was fitted on.",
                )

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def columns(self) -> tuple[list[Any], ...]:
        """The values of each column."""
        return tuple(map(self._column, range(len(self._contract.columns))))

    def _column(self, place: int) -> list[Any]:
        column = self._rows.iloc[:, place] if hasattr(self._rows, "iloc") else self._rows[:, place]
        values: list[Any] = list(column) if column.dtype.kind == "M" else column.tolist()
        return values

    def table(self) -> Table:
        """Give the rows as a Table, with the names and the order of the contract."""
        table = as_table(self._rows)
        return Table(dict(zip(self._contract.names, table.columns.values(), strict=True)))

    def wire_row(self, place: int) -> tuple[Any, ...]:
        """Give the row at *place* as the JSON values of a request."""
        return tuple(wire_value(column[place]) for column in self.columns)

    def take(self, places: Sequence[int]) -> Any:
        """Give the rows at *places* in the form that the model takes."""
        return self._rows.iloc[list(places)] if hasattr(self._rows, "iloc") else self._rows[list(places)]


def hard_rows(own: OwnRows, contract: InputContract) -> list[int]:
    """
    Choose the positions of at most :data:`MOST_ROWS` rows: first unusual rows, then ordinary rows.

    The unusual rows of a column contain its first null, its smallest and largest number or time, and its rarest and
    most frequent category. The columns take turns, so that each column of a wide table has an unusual row.
    """
    rows = len(own)
    hard = [_hard_places(column, own.columns[place]) for place, column in enumerate(contract.columns)]
    by_turns = [place for turn in zip_longest(*hard) for place in turn if place is not None]
    spread = np.linspace(0, rows - 1, num=min(_ORDINARY, rows)).astype(int).tolist() if rows else []
    return list(dict.fromkeys([*by_turns[: MOST_ROWS - 2 * _ORDINARY], *range(min(_ORDINARY, rows)), *spread]))


def _hard_places(column: ContractColumn, values: list[Any]) -> list[int]:
    present = [place for place, value in enumerate(values) if not is_null(value)]
    places = [next(place for place, value in enumerate(values) if is_null(value))] if len(present) < len(values) else []
    if not present:
        return places
    if column.content in {Content.TEXT, Content.BOOLEAN, Content.MIXED} or column.categories is not None:
        texts = [repr(values[place]) for place in present]
        counts = Counter(texts)
        rarest = min(counts, key=lambda text: (counts[text], text))
        commonest = max(counts, key=lambda text: (counts[text], text))
        return [*places, present[texts.index(rarest)], present[texts.index(commonest)]]
    return [*places, min(present, key=values.__getitem__), max(present, key=values.__getitem__)]


def wire_value(value: Any) -> Any:
    """Convert *value* to the JSON value of a request; every kind of null becomes None."""
    if is_null(value):
        return None
    if isinstance(value, np.datetime64):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value


def _single_precision(contract: InputContract) -> bool:
    return contract.array_dtype == "float32" or any(column.dtype == "float32" for column in contract.columns)


def write_probe(directory: Path, probe: Probe) -> None:
    """Write *probe* into the artefact in *directory*."""
    write_value(directory, PROBE_FILE, probe)


def read_probe(directory: Path) -> Probe | None:
    """
    Read the probe of the artefact in *directory*; None for an artefact that was written without a probe.

    Raises:
        ModelNotLoadable: The file is not a probe.
    """
    return read_value(directory, PROBE_FILE, Probe)
