"""Requests that several operations use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mendel.values import ModelName, VersionRef

Number = Annotated[int, msgspec.Meta(ge=1)]
"""The number of a version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """A request without fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OneModel:
    """The request for one model."""

    model: ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class OneVersion:
    """The request for one version of a model."""

    model: ModelName
    number: Number

    @property
    def ref(self) -> VersionRef:
        """The reference to the version."""
        return VersionRef(self.model, self.number)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfModel:
    """The request for the items of one model; None requests those of all models."""

    model: ModelName | None = None
