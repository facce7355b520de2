"""Lineage of versions: contributors, and improvements over the baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mendel.registry.version_records import VersionRecord
from mendel.values import Stage, VersionRef


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageEntry:
    """
    One version in its lineage.

    ``cumulative`` sums the deltas of each metric from the baseline to this version. ``claimed`` is true if a delta was
    stated by a contributor and not recomputed by a runner.
    """

    ref: VersionRef
    stage: Stage
    registered_at: datetime
    parent: VersionRef | None
    contributor: str | None
    delta_metrics: dict[str, float]
    cumulative: dict[str, float]
    claimed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Contributor:
    """A contributor with all contributions; ``improvement`` sums their deltas."""

    address: str
    contributions: tuple[LineageEntry, ...]
    improvement: dict[str, float]


def lineage_of(records: Sequence[VersionRecord], known: Mapping[VersionRef, VersionRecord]) -> tuple[LineageEntry, ...]:
    """
    Make the lineage entries of *records*, in their order; *known* has the versions, of any model, that they derive
    from.
    """
    return tuple(_entry(record, known) for record in records)


def contributors_of(entries: Sequence[LineageEntry]) -> tuple[Contributor, ...]:
    """Group *entries* by contributor address."""
    by_address: defaultdict[str, list[LineageEntry]] = defaultdict(list)
    for entry in entries:
        if entry.contributor is not None:
            by_address[entry.contributor].append(entry)
    return tuple(
        Contributor(
            address=address,
            contributions=tuple(found),
            improvement=_summed([entry.delta_metrics for entry in found]),
        )
        for address, found in sorted(by_address.items())
    )


def _entry(record: VersionRecord, known: Mapping[VersionRef, VersionRecord]) -> LineageEntry:
    line = _line(record, known)
    own = record.improvement
    return LineageEntry(
        ref=record.ref,
        stage=record.stage,
        registered_at=record.registered_at,
        parent=record.derived_from,
        contributor=own.contributor if own else None,
        delta_metrics=own.delta_metrics if own else {},
        cumulative=_summed([r.improvement.delta_metrics for r in line if r.improvement]),
        claimed=any(r.improvement.claimed for r in line if r.improvement),
    )


def _line(record: VersionRecord, known: Mapping[VersionRef, VersionRecord]) -> list[VersionRecord]:
    line = [record]
    while line[-1].improvement is not None:
        before = known.get(line[-1].improvement.baseline)
        if before is None or before in line:
            break
        line.append(before)
    return line


def _summed(deltas: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = sorted({name for delta in deltas for name in delta})
    return {name: sum(delta.get(name, 0.0) for delta in deltas) for name in names}
