"""Operations that show the registry at points in its past, rebuilt from the events of the ledger."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import InvalidInput, ModelNotFound, StateUnknown
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.registry import PastState, PointInTime, PolicyDocument, RowDifference, VersionState, parse_point
from mendel.values import Deployment, ModelName, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class StateAt:
    """
    The request for the registry at a point in its past.

    Attributes:
        at: A time with its zone (``2026-03-01T12:00Z``), a duration before now (``2h``), or the sequence number of a
            ledger entry (``120`` or ``seq:120``).
        model: The name of one model; None requests all models.
    """

    at: str
    model: ModelName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """The request for what changed between two points, each written as in ``state_at``; ``until`` is now by default."""

    since: str
    until: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAt:
    """A model at a point in the past: its deployment, the newest policy, and its versions."""

    model: ModelName
    deployment: Deployment
    policy: PolicyDocument
    versions: tuple[VersionState, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryAt:
    """
    The registry at a point in its past.

    Attributes:
        sequence: The number of the newest ledger entry at that point, which was written at ``time``.
        models: The models that had a version or a policy, by name.
    """

    sequence: int
    time: datetime
    models: tuple[ModelAt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryChanges:
    """
    What changed in the registry between two points in its past.

    Attributes:
        since_sequence, until_sequence: The numbers of the newest ledger entries at the two points, which were written
            at ``since`` and ``until``.
        rows: The rows that were added or changed: versions first, then deployments, policies and production periods.
    """

    since_sequence: int
    since: datetime
    until_sequence: int
    until: datetime
    rows: tuple[RowDifference, ...]


@operation("GET", "/registry", scope=Scope.READ, errors=(StateUnknown, ModelNotFound))
def state_at(call: Call, request: StateAt) -> RegistryAt:
    """Show stages, deployments and policies as they were at a point in the past."""
    return _shown(call.hub.registry.timeline.at(point_of(call, request.at), model=request.model))


@operation("GET", "/registry/diff", scope=Scope.READ, errors=(StateUnknown,))
def diff(call: Call, request: Diff) -> RegistryChanges:
    """List the rows of the registry that changed between two points in the past."""
    since, until = point_of(call, request.since), point_of(call, request.until or "0s")
    found = call.hub.registry.timeline.diff(since, until)
    if found.since.sequence > found.until.sequence:
        raise InvalidInput(
            f"Entry {found.since.sequence}, at the first point, is newer than entry {found.until.sequence}.",
            remedy="Give the earlier point first.",
        )
    return RegistryChanges(
        since_sequence=found.since.sequence,
        since=found.since.time,
        until_sequence=found.until.sequence,
        until=found.until.time,
        rows=found.rows,
    )


def point_of(call: Call, text: str) -> PointInTime:
    """
    Parse a point in time by the hub's clock.

    Raises:
        InvalidValue: The text is not a point in time, or names the future.
    """
    return parse_point(text, now=call.hub.clock())


def _shown(past: PastState) -> RegistryAt:
    versions = defaultdict(list)
    for ref in sorted(past.state.versions):
        versions[ref.model].append(past.state.versions[ref])
    models = tuple(
        ModelAt(
            model=model,
            deployment=past.state.deployments.get(model) or Deployment(model=model),
            policy=past.state.policy(model),
            versions=tuple(versions[model]),
        )
        for model in past.state.models
    )
    return RegistryAt(sequence=past.sequence, time=past.time, models=models)
