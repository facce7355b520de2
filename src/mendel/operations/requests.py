"""Requests that several operations use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import msgspec

from mendel.values import ModelName, VersionRef

_APPROVE = "Approve the registered version with 'mendel approve', with a key of the scope 'approve'."
_GATES = "Let the hub judge the version: use 'mendel train' or the operation 'judge', or promote with an override."
_CALLER = "Leave the field out: the hub takes the caller from the API key."
_WAYS_OUT = (
    dict.fromkeys(("governance", "approval", "approvals", "policy_compliant", "bias_check_passed"), _APPROVE)
    | dict.fromkeys(("gate", "gates", "gate_report", "gate_reports", "verdict"), _GATES)
    | dict.fromkeys(("actor", "by", "principal", "registered_by", "approved_by"), _CALLER)
)
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


def way_out(key: str) -> str:
    """Say how to get what a request with the unknown *key* wants; empty for a key that wants nothing special."""
    return _WAYS_OUT.get(key, "")
