"""Probe rows: hard rows of the training data, and what the fitted model answered to them before Mendel touched it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.errors import MendelError, ModelNotLoadable
from mendel.serving.input_contract import Content, ContractColumn, InputContract
from mendel.serving.prediction_outputs import per_row, probabilities_per_row
from mendel.serving.signature_inference import as_array, as_pandas, is_null
from mendel.values import Table, from_json, to_json

PROBE_FILE: Final = "mendel/probe.json"
MOST_ROWS: Final = 64
_ORDINARY: Final = 8
_DOUBLE_TOLERANCE, _SINGLE_TOLERANCE = 1e-6, 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """
    The probe rows of a version, as they go over the wire, and the answers of the fitted model.

    Attributes:
        rows: One list of values per row, in the order of ``columns``.
        predictions: One answer per row.
        probabilities: One list per row; None where the model gives none.
        tolerance: The largest relative difference between two floats that are equal.
        unmeasured: Why there are no answers; then ``rows`` may be empty.
    """

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    predictions: tuple[Any, ...] = ()
    probabilities: tuple[Any, ...] | None = None
    tolerance: float = _DOUBLE_TOLERANCE
    unmeasured: str = ""


def take_probe(model: Any, contract: InputContract, rows: Any) -> Probe:
    """
    Choose probe rows of *rows* and let *model*, the caller's own object, answer them as they are.

    Args:
        rows: The training features or the input example, as the caller has them.
    """
    own = OwnRows(rows, contract)
    chosen = hard_rows(own, contract)
    wire = tuple(map(own.wire_row, chosen))
    tolerance = _SINGLE_TOLERANCE if _single_precision(contract) else _DOUBLE_TOLERANCE
    try:
        first, second = (answers_of(model, own.take(chosen)) for _ in range(2))
    except Exception as error:  # noqa: BLE001 - the caller's model may raise anything
        return Probe(unmeasured=f"the model raised {type(error).__name__} for its own training rows")
    if first != second:
        return Probe(columns=contract.names, unmeasured="not reproducible: asked twice, the model answers differently")
    predictions, probabilities = first
    return Probe(
        columns=contract.names,
        rows=wire,
        predictions=tuple(predictions),
        probabilities=None if probabilities is None else tuple(probabilities),
        tolerance=tolerance,
    )


def answers_of(model: Any, x: Any) -> tuple[list[Any], list[Any] | None]:
    """Ask *model* for the rows of *x*: its predictions, and its probabilities where it gives any, as JSON values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = len(x)
        predictions = per_row(model.predict(x), rows)
        ask = getattr(model, "predict_proba", None)
        return predictions, None if ask is None else probabilities_per_row(ask(x), rows)


class OwnRows:
    """The caller's rows in the caller's own container, with the columns that the model was fitted on."""

    def __init__(self, rows: Any, contract: InputContract) -> None:
        self._contract = contract
        self._rows: Any
        if isinstance(rows, Table):
            self._rows = rows.select(contract.names)
        elif hasattr(rows, "columns"):
            frame = as_pandas(rows)
            by_name = {str(name): name for name in frame.columns}
            self._rows = frame[[by_name[name] for name in contract.names]]
        else:
            self._rows = as_array(rows)

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def columns(self) -> tuple[list[Any], ...]:
        """The values of each column."""
        return tuple(map(self._column, range(len(self._contract.columns))))

    def _column(self, place: int) -> list[Any]:
        if isinstance(self._rows, Table):
            values: list[Any] = self._rows[self._contract.names[place]].tolist()
        elif hasattr(self._rows, "iloc"):
            values = self._rows.iloc[:, place].tolist()
        else:
            values = self._rows[:, place].tolist()
        return values

    def wire_row(self, place: int) -> tuple[Any, ...]:
        """Give a row as a caller writes it in JSON."""
        return tuple(wire_value(column[place]) for column in self.columns)

    def take(self, places: Sequence[int]) -> Any:
        """Give the rows at *places* as the model takes them."""
        if isinstance(self._rows, Table):
            from mendel.serving.input_codec import frame_of  # noqa: PLC0415 - it needs this room's codec

            frame = frame_of(self._rows.take(np.array(places)), self._contract)
            return self._contract.model_input(frame)
        return self._rows.iloc[list(places)] if hasattr(self._rows, "iloc") else self._rows[list(places)]


def hard_rows(own: OwnRows, contract: InputContract) -> list[int]:
    """
    Choose the places of the rows that are likely to go wrong, and some ordinary rows.

    Per column: the first null, the smallest, the largest and the first fractional number, the first row of each of the
    rarest and the commonest categories; until :data:`MOST_ROWS` are chosen.
    """
    rows = len(own)
    chosen = dict.fromkeys(range(min(_ORDINARY, rows)))
    for place, column in enumerate(contract.columns):
        chosen |= dict.fromkeys(_hard_places(column, own.columns[place]))
        if len(chosen) >= MOST_ROWS:
            break
    spread = np.linspace(0, rows - 1, num=min(_ORDINARY, rows)).astype(int).tolist() if rows else []
    return sorted([*chosen, *(place for place in spread if place not in chosen)][:MOST_ROWS])


def _hard_places(column: ContractColumn, values: list[Any]) -> list[int]:
    present = [place for place, value in enumerate(values) if not is_null(value)]
    places = [next(place for place, value in enumerate(values) if is_null(value))] if len(present) < len(values) else []
    if not present:
        return places
    if column.content in {Content.TEXT, Content.BOOLEAN, Content.MIXED} or column.categories is not None:
        first: dict[str, int] = {}
        counts: dict[str, int] = {}
        for place in present:
            text = repr(values[place])
            first.setdefault(text, place)
            counts[text] = counts.get(text, 0) + 1
        by_count = sorted(first, key=lambda text: (counts[text], text))
        return [*places, *(first[text] for text in {by_count[0]: 0, by_count[-1]: 0})]
    ordered = sorted(present, key=lambda place: values[place])
    return [*places, ordered[0], ordered[-1]]


def wire_value(value: Any) -> Any:
    """Give *value* as a caller writes it in JSON; every kind of null is null."""
    if is_null(value):
        return None
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
    path = directory / PROBE_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(to_json(probe))


def read_probe(directory: Path) -> Probe | None:
    """
    Read the probe of the artefact in *directory*; None for an artefact that was written without a probe.

    Raises:
        ModelNotLoadable: The file is not a probe.
    """
    path = directory / PROBE_FILE
    if not path.is_file():
        return None
    try:
        return from_json(path.read_bytes(), Probe)
    except MendelError as error:
        raise ModelNotLoadable(f"{PROBE_FILE} of the artefact cannot be read: {error}") from error
