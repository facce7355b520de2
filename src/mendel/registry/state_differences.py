"""Compare two states of the registry row by row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mendel.registry.registry_state import RegistryState
from mendel.values import to_builtins


class RowKind(StrEnum):
    """The kinds of rows that a state of the registry consists of."""

    VERSION = "version"
    DEPLOYMENT = "deployment"
    POLICY = "policy"
    PERIOD = "production period"


class RowChange(StrEnum):
    """How a row differs: only the later state has the row, only the earlier one has it, or the contents differ."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDifference:
    """A field of a row that differs; the name of a field inside another one has dots, and None means absent."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDifference:
    """
    A row that differs between two states.

    Attributes:
        row: A version is named ``credit@3``, a deployment ``credit``, a policy or a production period ``credit 2``.
        fields: The fields that differ, by name; empty unless the row was changed.
    """

    kind: RowKind
    row: str
    change: RowChange
    fields: tuple[FieldDifference, ...] = ()


def differences(before: RegistryState, after: RegistryState) -> Iterator[RowDifference]:
    """Give the rows that differ between *before* and *after*: versions first, then the other kinds, each by key."""
    for kind, earlier, later in _tables(before, after):
        for key in sorted(earlier.keys() | later.keys()):
            name = _name(key)
            if key not in earlier:
                yield RowDifference(kind=kind, row=name, change=RowChange.ADDED)
            elif key not in later:
                yield RowDifference(kind=kind, row=name, change=RowChange.REMOVED)
            elif earlier[key] != later[key]:
                changed = _changed_fields(earlier[key], later[key])
                yield RowDifference(kind=kind, row=name, change=RowChange.CHANGED, fields=changed)


def _tables(
    before: RegistryState, after: RegistryState
) -> Iterator[tuple[RowKind, Mapping[Any, object], Mapping[Any, object]]]:
    yield RowKind.VERSION, before.versions, after.versions
    yield RowKind.DEPLOYMENT, before.deployments, after.deployments
    yield RowKind.POLICY, before.policies, after.policies
    yield RowKind.PERIOD, before.periods, after.periods


def _name(key: object) -> str:
    return " ".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _changed_fields(before: object, after: object) -> tuple[FieldDifference, ...]:
    earlier, later = dict(_leaves(to_builtins(before))), dict(_leaves(to_builtins(after)))
    return tuple(
        FieldDifference(field=name, before=earlier.get(name), after=later.get(name))
        for name in sorted(earlier.keys() | later.keys())
        if earlier.get(name) != later.get(name)
    )


def _leaves(tree: Mapping[str, Any], inside: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}", value
