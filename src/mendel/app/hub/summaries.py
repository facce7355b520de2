"""Compute profiles of logged rows against the drift reference of their version, one profile per time window."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from mendel.drift import MonitoringPolicy, Profile, Reference
from mendel.errors import NotFound
from mendel.healing import reference_of
from mendel.predictions import ProfileRow
from mendel.registry import Registry
from mendel.values import ModelName, Table, VersionRef, Window, from_mapping, from_micros

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEATURE = "feature."


class Summaries:
    """
    Computes the profiles of logged rows.

    The length of a profile's time window is ``monitoring.every`` of the model's policy at the time of the call. Rows of
    shadow predictions, failed predictions, and versions without a drift reference are left out.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._references: dict[VersionRef, Reference | None] = {}
        self._mutex = threading.Lock()

    def __call__(self, model: ModelName, version: int, table: Table) -> Sequence[ProfileRow]:
        """Compute the profiles of *table*, whose rows all belong to *version*; empty without a drift reference."""
        reference = self._reference(VersionRef(model, version))
        rows = _answered(table)
        if reference is None or not len(rows):
            return ()
        grains = _grains(rows["event_time"], self._every(model))
        named = _named_as_in(reference, rows)
        return tuple(
            ProfileRow(
                model=model,
                version=version,
                reference_id=reference.id,
                window=Window(from_micros(int(start)), from_micros(int(start)) + self._every(model)),
                profile=Profile.of(reference, named.take(grains == start)).to_json().decode(),
            )
            for start in np.unique(grains)
        )

    def _every(self, model: ModelName) -> timedelta:
        section = self._registry.policies.of(model).section("monitoring")
        return from_mapping(MonitoringPolicy, section, at="monitoring").every

    def _reference(self, ref: VersionRef) -> Reference | None:
        with self._mutex:
            if ref not in self._references:
                self._references[ref] = self._read(ref)
            return self._references[ref]

    def _read(self, ref: VersionRef) -> Reference | None:
        try:
            return reference_of(self._registry.versions.tree(ref))
        except NotFound:  # the rows belong to a version of another registry
            return None


def _answered(table: Table) -> Table:
    if not len(table):
        return table
    failed = np.array([error is not None for error in table["error"]], dtype=bool)
    return table.take(~failed & ~table["shadow"].astype(bool))


def _grains(event_times: NDArray[np.int64], every: timedelta) -> NDArray[np.int64]:
    micros = every // timedelta(microseconds=1)
    return event_times.astype(np.int64) // micros * micros


def _named_as_in(reference: Reference, rows: Table) -> Table:
    """Rename the columns of *rows* to the names in *reference*; drop columns that the reference does not have."""
    found = {feature.name: feature.name if feature.output else _logged(feature.name) for feature in reference.features}
    return Table({name: rows[column] for name, column in found.items() if column in rows})


def _logged(name: str) -> str:
    return name if name.startswith(_FEATURE) else f"{_FEATURE}{name}"
