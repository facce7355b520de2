"""Operations on the performance and the health of models."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from mendel.errors import InvalidValue, ModelNotFound, VersionNotFound
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.requests import Nothing, OneModel
from mendel.registry import FROM_COUNTERS, HealthReport, RollbackCheck, Snapshot
from mendel.values import Scope, parse_duration, render_duration
from mendel.views import FleetView

_LONGEST: Final = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordSnapshot(OneModel):
    """The request to store the performance of a version that another system measured."""

    body: Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckTriggers(OneModel):
    """The request to check the rollback policy; ``window`` is a duration, such as ``10m``, or None for the policy's."""

    window: str | None = None


@operation("GET", "/models/{model}/rollback-check", scope=Scope.READ, errors=(ModelNotFound,))
def check_rollback_triggers(call: Call, request: CheckTriggers) -> RollbackCheck:
    """Check whether the production version's performance violates the rollback policy; change nothing."""
    window = None if request.window is None else parse_duration(request.window)
    if window is not None and not timedelta(0) < window <= _LONGEST:
        raise InvalidValue(f"The window must be longer than 0 and at most {render_duration(_LONGEST)}.")
    return call.hub.registry.performance.check_rollback_triggers(request.model, window=window)


@operation("GET", "/models/{model}/health", scope=Scope.READ, errors=(ModelNotFound,))
def health(call: Call, request: OneModel) -> HealthReport:
    """Show the health of the production version of a model."""
    return call.hub.registry.performance.health(request.model)


@operation("GET", "/fleet", scope=Scope.READ)
def fleet(call: Call, _: Nothing) -> FleetView:
    """Show every model with its production version, its health, and whether a person must act."""
    return call.read(lambda views: views.fleet(call.hub.clock(), presence=call.presence))


@operation("POST", "/models/{model}/snapshots", scope=Scope.DEPLOY, errors=(VersionNotFound,))
def record_performance_snapshot(call: Call, request: RecordSnapshot) -> RollbackCheck:
    """Store the performance of a version, and check the production version against the rollback policy."""
    if request.body.ref.model != request.model:
        raise InvalidValue(
            f"The snapshot is of model {request.body.ref.model!r}, but the path names {request.model!r}."
        )
    if request.body.source == FROM_COUNTERS:
        raise InvalidValue(
            f"The source {FROM_COUNTERS!r} is reserved for the counters of Mendel's own servers.",
            remedy="Name the system that measured as the source.",
        )
    return call.hub.registry.performance.record_snapshot(request.body, by=call.by)
