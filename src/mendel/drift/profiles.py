"""Profiles: mergeable summaries of rows against one reference, whose size does not depend on the number of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from mendel.drift.feature_counts import Cells, CellsDocument
from mendel.drift.features import MAX_CELLS, Feature
from mendel.drift.reference import Reference
from mendel.errors import InvalidValue, ReferenceMismatch
from mendel.values import Digest, Table, from_json, to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class _FeatureDocument:
    size: Annotated[int, Meta(ge=0, le=MAX_CELLS)]
    cells: CellsDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProfileDocument:
    reference_id: Digest
    rows: int
    features: dict[str, _FeatureDocument]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """
    The number of rows in each cell of each feature of one reference.

    Merging is associative and commutative, so the profile of a window is the sum of the profiles of its segments in
    any order.
    """

    reference_id: Digest
    rows: int
    features: Mapping[str, Cells]

    @classmethod
    def of(cls, reference: Reference, table: Table) -> Profile:
        """
        Count the rows of *table*.

        A feature that *table* lacks counts as null in every row; columns that the reference lacks are ignored.

        Raises:
            InvalidValue: A numeric feature has a value that is not a number.
        """
        features = {
            feature.name: feature.count(table[feature.name])
            if feature.name in table
            else _all_null(feature, len(table))
            for feature in reference.features
        }
        return cls(reference_id=reference.id, rows=len(table), features=features)

    @classmethod
    def empty(cls, reference: Reference) -> Profile:
        """Make the profile of no rows."""
        features = {feature.name: Cells.empty(feature.size) for feature in reference.features}
        return cls(reference_id=reference.id, rows=0, features=features)

    def merge(self, *others: Profile) -> Profile:
        """
        Give the profile of the rows of this profile and of *others*.

        Raises:
            ReferenceMismatch: A profile was made against another reference.
        """
        parts = (self, *others)
        for part in others:
            if part.reference_id != self.reference_id:
                raise ReferenceMismatch(
                    f"A profile against reference {part.reference_id} cannot be merged with a profile "
                    f"against reference {self.reference_id}.",
                    remedy="Profile the rows again against one reference.",
                )
        features = {name: Cells.total([part.features[name] for part in parts]) for name in self.features}
        return Profile(reference_id=self.reference_id, rows=sum(part.rows for part in parts), features=features)

    @property
    def digest(self) -> Digest:
        """The SHA-256 of the profile's canonical JSON; stored decisions refer to the profile by this digest."""
        return Digest(f"sha256:{hashlib.sha256(self.to_json()).hexdigest()}")

    def to_json(self) -> bytes:
        """Encode the profile as JSON without empty cells."""
        features = {
            name: _FeatureDocument(size=len(cells), cells=cells.to_document()) for name, cells in self.features.items()
        }
        return to_json(_ProfileDocument(reference_id=self.reference_id, rows=self.rows, features=features))

    @classmethod
    def from_json(cls, text: bytes | str) -> Profile:
        """
        Decode the JSON of :meth:`to_json`.

        Raises:
            InvalidValue: The text is not a profile.
        """
        document = from_json(text, _ProfileDocument)
        features = {}
        for name, feature in document.features.items():
            cells = Cells.from_document(feature.cells, feature.size)
            if int(cells.counts.sum()) != document.rows:
                raise InvalidValue(
                    f"The profile has {document.rows} rows, but the counts of feature {name!r} sum to another number."
                )
            features[name] = cells
        return cls(reference_id=document.reference_id, rows=document.rows, features=features)


def merge_profiles(reference: Reference, profiles: Sequence[Profile]) -> Profile:
    """
    Merge *profiles* against *reference*; an empty sequence gives the empty profile.

    Raises:
        ReferenceMismatch: A profile was made against another reference.
    """
    return Profile.empty(reference).merge(*profiles)


def _all_null(feature: Feature, rows: int) -> Cells:
    cells = Cells.empty(feature.size)
    cells.counts[feature.null_cell] = rows
    return cells
