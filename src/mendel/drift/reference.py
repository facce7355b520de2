"""The reference: the profile of the data that a version was trained on, stored with the version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mendel.drift.feature_counts import Cells, CellsDocument, as_numbers
from mendel.drift.features import CategoryFeature, Feature, FeatureType, NumberFeature, infer_type
from mendel.errors import DigestMismatch, EmptyWindow, InvalidValue
from mendel.values import Digest, Table, from_json, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class _FeatureDocument:
    """One feature as JSON, with ``cuts`` for a number or ``categories`` for a category, and without empty cells."""

    name: str
    output: bool
    cells: CellsDocument
    cuts: tuple[float, ...] | None = None
    mean: float | None = None
    std: float | None = None
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReferenceDocument:
    rows: int
    features: tuple[_FeatureDocument, ...]
    id: Digest | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Ranges:
    """The bounds of all numeric features in arrays, so that a batch is checked with one comparison."""

    names: tuple[str, ...]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    holds_null: NDArray[np.bool_]

    @classmethod
    def of(cls, features: Iterable[NumberFeature]) -> _Ranges:
        numbers = tuple(features)
        return cls(
            tuple(f.name for f in numbers),
            np.array([[f.low] for f in numbers]),
            np.array([[f.high] for f in numbers]),
            np.array([[f.holds_null] for f in numbers]),
        )

    def outside(self, table: Table) -> NDArray[np.bool_]:
        values = np.array([as_numbers(name, table[name]) for name in self.names])
        inside = (values >= self.low) & (values <= self.high)
        known: NDArray[np.bool_] = (inside | (self.holds_null & np.isnan(values))).all(axis=0)
        return ~known


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MatrixRanges:
    """
    The ranges of the training data for rows of numbers in one matrix; arrays of one element per checked column.

    Attributes:
        places: The columns of the matrix that are checked, in the order of the arrays; None checks all.
        holds_null: Whether a null (NaN) is inside the range.
    """

    places: tuple[int, ...] | None
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    holds_null: NDArray[np.bool_]

    def outside(self, matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Give a mask of the rows of *matrix*, of shape (rows, columns), that :meth:`Reference.out_of_range` marks."""
        values = matrix if self.places is None else matrix[:, self.places]
        inside = (values >= self.low) & (values <= self.high)
        if not inside.all():
            inside |= self.holds_null & np.isnan(values)
        outside: NDArray[np.bool_] = np.logical_not(inside.all(axis=1))
        return outside


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """
    The features of the training data with their cells and counts.

    ``features`` are sorted by name; ``rows`` counts the training rows. Equal data give an equal :attr:`id` in any order
    of rows and columns.

    >>> reference = Reference.fit(Table({"age": np.array([31.0, 42.0, 58.0])}))
    >>> reference.out_of_range(Table({"age": np.array([40.0, 90.0])})).tolist()
    [False, True]
    """

    rows: int
    features: tuple[Feature, ...]
    id: Digest = field(init=False)
    _ranges: _Ranges = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        numbers = (feature for feature in self.inputs if isinstance(feature, NumberFeature))
        object.__setattr__(self, "_ranges", _Ranges.of(numbers))
        content = to_json(self._document())
        object.__setattr__(self, "id", Digest(f"sha256:{hashlib.sha256(content).hexdigest()}"))

    @classmethod
    def fit(cls, table: Table, *, types: Mapping[str, FeatureType | str] | None = None) -> Reference:
        """
        Summarise the training rows.

        The model's answers, ``prediction`` and every ``proba.<class>``, are monitored like features, but do not count
        in the share of drifted features.

        Args:
            table: The training rows; every column is a feature, so leave out the target.
            types: ``number`` or ``category`` for features whose type shall not be inferred.

        Raises:
            EmptyWindow: *table* has no row.
            InvalidValue: *types* names a column that *table* lacks, or an unknown type.
        """
        if not len(table):
            raise EmptyWindow(
                "A reference cannot be fitted: the training data contain no row.",
                remedy="Give at least one training row.",
            )
        chosen = _chosen_types(table, types or {})
        features: list[Feature] = []
        for name in sorted(table.names):
            kind = chosen.get(name) or infer_type(table[name])
            fit = NumberFeature.fit if kind is FeatureType.NUMBER else CategoryFeature.fit
            features.append(fit(name, table[name], output=is_output(name)))
        return cls(rows=len(table), features=tuple(features))

    def __getitem__(self, name: str) -> Feature:
        return next(feature for feature in self.features if feature.name == name)

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """The features that are inputs of the model, without the columns of its answers."""
        return tuple(feature for feature in self.features if not feature.output)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)

    def out_of_range(self, table: Table) -> NDArray[np.bool_]:
        """
        Give a mask of the rows outside the training data (out of distribution).

        A row is outside when a number lies beyond the reference's minimum or maximum, a category is new, or a feature
        without nulls in the reference is null. Only inputs that both the reference and *table* have are checked.
        """
        ranges = self._ranges
        if not all(name in table for name in ranges.names):
            ranges = _Ranges.of(f for f in self.inputs if isinstance(f, NumberFeature) and f.name in table)
        outside = ranges.outside(table) if ranges.names else np.zeros(len(table), dtype=np.bool_)
        for feature in self.inputs:
            if isinstance(feature, CategoryFeature) and feature.name in table:
                outside |= feature.outside(table[feature.name])
        return outside

    def ranges_of(self, names: tuple[str, ...]) -> MatrixRanges | None:
        """
        Give the ranges for rows of numbers in the columns *names*; None if one of them is a category here.

        The names are those of the model's inputs in the reference: see :func:`input_name`.
        """
        inputs = {feature.name: feature for feature in self.inputs}
        known = [(place, inputs[name]) for place, name in enumerate(names) if name in inputs]
        numbers = [(place, feature) for place, feature in known if isinstance(feature, NumberFeature)]
        if len(numbers) != len(known):
            return None
        places = [place for place, _ in numbers]
        return MatrixRanges(
            places=None if places == list(range(len(names))) else tuple(places),
            low=np.array([feature.low for _, feature in numbers]),
            high=np.array([feature.high for _, feature in numbers]),
            holds_null=np.array([feature.holds_null for _, feature in numbers], dtype=np.bool_),
        )

    def to_json(self) -> bytes:
        """Encode the reference as JSON; equal references give equal bytes."""
        return to_json(self._document(self.id))

    @classmethod
    def from_json(cls, text: bytes | str) -> Reference:
        """
        Decode the JSON of :meth:`to_json`.

        Raises:
            InvalidValue: The text is not a reference.
            DigestMismatch: The content does not match the reference's id.
        """
        document = from_json(text, _ReferenceDocument)
        reference = cls(rows=document.rows, features=tuple(map(_from_document, document.features)))
        if document.id is not None and document.id != reference.id:
            raise DigestMismatch(
                f"The reference is damaged: its content has id {reference.id}, but the file states id {document.id}.",
                remedy="Fit the reference again from the training rows.",
            )
        return reference

    def _document(self, own_id: Digest | None = None) -> _ReferenceDocument:
        return _ReferenceDocument(rows=self.rows, features=tuple(map(_to_document, self.features)), id=own_id)


def is_output(name: str) -> bool:
    """Tell whether a column of the prediction log holds the model's answers."""
    return name == "prediction" or name.startswith("proba.")


def input_name(name: str) -> str:
    """
    Give the name of a model's input in its reference: its own, except where a column of the log has that name.

    >>> input_name("age"), input_name("prediction")
    ('age', 'feature.prediction')
    """
    return f"feature.{name}" if is_output(name) or name.startswith("feature.") else name


def _chosen_types(table: Table, types: Mapping[str, FeatureType | str]) -> dict[str, FeatureType]:
    for name, kind in types.items():
        if name not in table:
            raise InvalidValue(
                f"monitoring.features names {name!r}, but the training rows have no such column; their columns are "
                f"{', '.join(table.names)}."
            )
        if kind not in set(FeatureType):
            raise InvalidValue(
                f"monitoring.features.{name}.type is {kind!r}, which is not a feature type.",
                remedy="Use number or category.",
            )
    return {name: FeatureType(kind) for name, kind in types.items()}


def _to_document(feature: Feature) -> _FeatureDocument:
    cells = feature.cells.to_document()
    if isinstance(feature, CategoryFeature):
        return _FeatureDocument(name=feature.name, output=feature.output, cells=cells, categories=feature.categories)
    return _FeatureDocument(
        name=feature.name,
        output=feature.output,
        cells=cells,
        cuts=feature.cuts,
        mean=feature.mean,
        std=feature.std,
    )


def _from_document(document: _FeatureDocument) -> Feature:
    name, output = document.name, document.output
    if document.categories is not None:
        cells = Cells.from_document(document.cells, len(document.categories) + 2)
        return CategoryFeature(name=name, output=output, categories=document.categories, cells=cells)
    if not document.cuts or any(np.diff(document.cuts) <= 0):
        raise InvalidValue(f"The reference is damaged: feature {name!r} has neither categories nor increasing cuts.")
    return NumberFeature(
        name=name,
        output=output,
        cuts=document.cuts,
        mean=document.mean,
        std=document.std,
        cells=Cells.from_document(document.cells, len(document.cuts) + 3),
    )
