"""Requests that several operations share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mendel.values import ModelName, VersionRef

Number = Annotated[int, msgspec.Meta(ge=1)]
"""The number of a version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneModel:
    """Names a model."""

    model: ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class OneVersion:
    """Names a version."""

    model: ModelName
    number: Number

    @property
    def ref(self) -> VersionRef:
        """The version."""
        return VersionRef(self.model, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfModel:
    """Asks for what belongs to one model, or (None) to any."""

    model: ModelName | None = None
