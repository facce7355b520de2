"""Make rows for which a converted model could answer differently: near the thresholds of its trees, and extremes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from mendel.serving.acceleration.fitted_trees import TreeEnsemble
from mendel.serving.acceleration.onnx_conversion import DividedModel, is_text
from mendel.serving.input_contract import ContractColumn, InputContract
from mendel.serving.model_program import estimator_parts
from mendel.serving.probe_rows import UNSEEN
from mendel.serving.row_batches import Frame
from mendel.values.table import EXACT_TO

PROOF_ROWS: Final = 10_000
_CROSSINGS: Final = 1_000
_HALVINGS: Final = 64
_WIDER: Final = 10.0
_NULLS: Final = 0.05

Drawn = list[NDArray[Any]]
"""One array per column: doubles, which the column's own type may round, or texts."""
Seen = Callable[[Frame], NDArray[np.float64]]


def proof_rows(
    divided: DividedModel,
    contract: InputContract,
    known_texts: Mapping[str, Sequence[str]],
    probe: Frame,
    *,
    model_input: Callable[[Frame], Any],
    rng: Generator,
) -> Frame:
    """
    Make :data:`PROOF_ROWS` rows for a model that *contract* describes.

    The rows are drawn from the rows of *probe*: with values of other rows, values outside the range by up to ten times
    its width, nulls in nullable columns, and texts that no row has. If the trees of the model receive the columns
    unchanged, values are then set to the thresholds, to the next numbers in double and in single precision, and to the
    numbers at which rounding to single precision crosses the threshold. If other steps come before the trees, each
    threshold is approached along the line between two rows on its two sides, down to neighbouring numbers.

    Args:
        known_texts: By the name of a column: the only texts that the column may contain.
        model_input: Converts rows to the data frame or array that the model takes.
    """
    draw = _Draw(divided, contract, known_texts, probe, rng)
    trees, before = divided.trees, divided.before
    if trees is None:
        return draw.frame(draw.around(PROOF_ROWS))
    columns, values = _thresholds(trees)
    if before is None:
        return draw.frame(draw.at(columns, values))

    def seen(frame: Frame) -> NDArray[np.float64]:
        made = before.transform(model_input(frame))
        made = made.toarray() if hasattr(made, "toarray") else np.asarray(made)
        return np.asarray(made.astype(np.float32) if trees.single_precision else made, dtype=np.float64)

    return draw.frame(draw.across(columns, values, seen))


def _thresholds(trees: TreeEnsemble) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the column and the value of every finite threshold, each once."""
    splits = [~tree.leaf & np.isfinite(tree.threshold) for tree in trees.trees]
    columns = np.concatenate([tree.feature[at] for tree, at in zip(trees.trees, splits, strict=True)])
    values = np.concatenate([tree.threshold[at] for tree, at in zip(trees.trees, splits, strict=True)])
    _, first = np.unique(np.column_stack([columns, values]), axis=0, return_index=True)
    return columns[first], values[first]


class _Draw:
    def __init__(
        self,
        divided: DividedModel,
        contract: InputContract,
        known_texts: Mapping[str, Sequence[str]],
        probe: Frame,
        rng: Generator,
    ) -> None:
        self._columns = contract.columns
        self._shape = contract.shape
        self._known = known_texts
        self._probe = probe
        self._rng = rng
        parts = [] if divided.before is None else estimator_parts(divided.before)
        self._categories = [values for part in parts for values in getattr(part, "categories_", ())]

    def frame(self, drawn: Drawn) -> Frame:
        """Give the rows as a batch, rounded to the types of their columns."""
        columns = tuple(map(_held, self._columns, drawn))
        return Frame(self._shape, columns, np.column_stack(columns) if self._shape.all_floats else None)

    def around(self, rows: int, more: Mapping[int, NDArray[np.float64]] | None = None) -> Drawn:
        """Draw rows around the probe rows; *more* gives further values by the position of their column."""
        places = self._rng.integers(0, len(self._probe), rows)
        drawn = []
        for place, column in enumerate(self._columns):
            own = self._probe.columns[place]
            if is_text(column):
                drawn.append(self._texts(column, own, own[places]))
            else:
                wide = np.concatenate([own.astype(np.float64), (more or {}).get(place, np.empty(0))])
                drawn.append(self._numbers(column, wide, own[places].astype(np.float64)))
        return drawn

    def at(self, columns: NDArray[np.int64], values: NDArray[np.float64]) -> Drawn:
        """Draw rows: one half with a threshold in one column, the other half with thresholds in all columns."""
        by_column = {int(column): values[columns == column] for column in np.unique(columns)}
        drawn = self.around(PROOF_ROWS, by_column)
        rows = np.arange(PROOF_ROWS)
        for turn, (column, own) in enumerate(by_column.items()):
            beside = _beside(np.resize(self._rng.permutation(own), PROOF_ROWS))
            chosen = beside[self._rng.integers(0, len(beside), PROOF_ROWS), rows]
            here = (rows % 2 == 0) | (rows // 2 % len(by_column) == turn)
            if self._columns[column].nullable:
                chosen = np.where(self._rng.random(PROOF_ROWS) < _NULLS, np.nan, chosen)
            drawn[column] = np.where(here, chosen, drawn[column])
        return drawn

    def across(self, columns: NDArray[np.int64], values: NDArray[np.float64], seen: Seen) -> Drawn:
        """Draw pairs of rows on the two sides of a threshold, and halve their distance until they are neighbours."""
        drawn = self.around(PROOF_ROWS)
        made = seen(self.frame(drawn))
        low, high, kept = [], [], []
        for one in self._rng.permutation(len(values))[:_CROSSINGS]:
            below = made[:, columns[one]] <= values[one]
            if below.any() and not below.all():
                low.append(self._rng.choice(np.flatnonzero(below)))
                high.append(self._rng.choice(np.flatnonzero(~below)))
                kept.append(one)
        if not kept:
            return drawn
        first, last = [column[low] for column in drawn], [column[high] for column in drawn]
        under, over = np.zeros(len(kept)), np.ones(len(kept))
        split, limit, rows = columns[kept], values[kept], np.arange(len(kept))
        for _ in range(_HALVINGS):
            middle = (under + over) / 2
            if ((middle == under) | (middle == over)).all():
                break
            below = seen(self.frame(_between(first, last, middle)))[rows, split] <= limit
            under, over = np.where(below, middle, under), np.where(below, over, middle)
        ends = [_between(first, last, under), _between(first, last, over)]
        close = [moved for end in ends for moved in _neighbours(end)]
        found = [np.concatenate(parts) for parts in zip(*close, strict=True)]
        return [
            np.concatenate([near, far[: max(0, PROOF_ROWS - len(near))]])
            for near, far in zip(found, drawn, strict=True)
        ]

    def _numbers(self, column: ContractColumn, wide: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[Any]:
        wide = wide[np.isfinite(wide)]
        low, high = (float(wide.min()), float(wide.max())) if len(wide) else (0.0, 0.0)
        span = max(high - low, abs(high), abs(low), 1.0) * _WIDER
        rows = len(own)
        choices = [
            own,
            own,
            self._rng.uniform(low, high, rows),
            self._rng.uniform(low - span, high + span, rows),
            self._rng.choice([low - span, high + span, low, high, 0.0, -0.0], rows),
        ]
        drawn = np.choose(self._rng.integers(0, len(choices), rows), choices)
        if column.nullable:
            drawn[self._rng.random(rows) < _NULLS] = np.nan
        return drawn

    def _texts(self, column: ContractColumn, probe: NDArray[Any], own: NDArray[Any]) -> NDArray[Any]:
        sources = [probe.tolist(), column.categories or (), *(values.tolist() for values in self._categories)]
        texts = {value for values in sources for value in values if isinstance(value, str)} | {UNSEEN, ""}
        if column.name in self._known:
            texts &= set(self._known[column.name])
        drawn = self._rng.choice(np.array(sorted(texts), dtype=object), len(own))
        kept = np.array([value in texts for value in own.tolist()]) & (self._rng.integers(0, 2, len(own)) == 0)
        return np.where(kept, own, drawn)


def _held(column: ContractColumn, drawn: NDArray[Any]) -> NDArray[Any]:
    if is_text(column):
        return drawn
    kind: np.dtype[Any] = np.dtype(column.held_as)
    if kind.kind == "b":
        yes: NDArray[np.bool_] = drawn > 0.5  # noqa: PLR2004 - between no and yes
        return yes
    if kind.kind in "iu":
        low, high = column.bounds()
        drawn = np.clip(np.rint(drawn), max(low, -EXACT_TO + 1), min(high, EXACT_TO - 1))
    return drawn.astype(kind)


def _beside(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the values, and the neighbouring numbers for which a comparison can differ: one row for each kind."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
        down = np.where(single.astype(np.float64) <= values, single, np.nextafter(single, np.float32(-np.inf)))
        up = np.nextafter(down, np.float32(np.inf))
        turn = down.astype(np.float64) / 2 + up.astype(np.float64) / 2
        found = [
            values,
            np.nextafter(values, -np.inf),
            np.nextafter(values, np.inf),
            down,
            up,
            np.nextafter(down, np.float32(-np.inf)),
            np.nextafter(up, np.float32(np.inf)),
            turn,
            np.nextafter(turn, -np.inf),
            np.nextafter(turn, np.inf),
        ]
    beside = np.array(found, dtype=np.float64)
    return np.where(np.isfinite(beside), beside, values)


def _between(first: Drawn, last: Drawn, share: NDArray[np.float64]) -> Drawn:
    """Give the rows at the fraction *share* between two rows; a text or a null is taken from one of the two rows."""
    mixed = []
    for one, other in zip(first, last, strict=True):
        sudden = np.where(share < 0.5, one, other)  # noqa: PLR2004 - half of the way
        if one.dtype == object:
            mixed.append(sudden)
        else:
            gradual = one + (other - one) * share
            mixed.append(np.where(share <= 0, one, np.where(share >= 1, other, _or(gradual, sudden))))
    return mixed


def _or(values: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, other)


def _neighbours(rows: Drawn) -> list[Drawn]:
    """Give *rows*, and the rows with the next numbers below, above, and in single precision."""

    def moved(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Drawn:
        return [column if column.dtype == object else change(column) for column in rows]

    with np.errstate(over="ignore"):
        return [
            rows,
            moved(lambda column: np.nextafter(column, -np.inf)),
            moved(lambda column: np.nextafter(column, np.inf)),
            moved(lambda column: _or(column.astype(np.float32).astype(np.float64), column)),
        ]
