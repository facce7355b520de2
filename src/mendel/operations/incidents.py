"""Operations on incidents."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.errors import Conflict, IncidentNotFound, ModelNotFound
from mendel.healing import DecisionRecord, HealingStore, Incident, LookResult
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.requests import OfModel, OneModel
from mendel.values import Scope
from mendel.views import IncidentView


@dataclass(frozen=True, slots=True, kw_only=True)
class OneIncident:
    """The request for one incident."""

    incident_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve(OneIncident):
    """The request to resolve an incident, with the reason."""

    reason: str


@operation("GET", "/incidents", scope=Scope.READ)
def incidents(call: Call, request: OfModel) -> tuple[Incident, ...]:
    """List the newest 100 incidents, newest first."""
    return call.read(lambda views: views.incidents(request.model))


@operation("GET", "/incidents/{incident_id}", scope=Scope.READ, errors=(IncidentNotFound,))
def incident(call: Call, request: OneIncident) -> Incident:
    """Show an incident with its timeline."""
    return call.read(lambda views: views.incident(request.incident_id)).incident


@operation("GET", "/incidents/{incident_id}/details", scope=Scope.READ, errors=(IncidentNotFound,))
def incident_details(call: Call, request: OneIncident) -> IncidentView:
    """Show an incident with its timeline, decisions and runs."""
    return call.read(lambda views: views.incident(request.incident_id))


@operation("GET", "/incidents/{incident_id}/decisions", scope=Scope.READ)
def decisions(call: Call, request: OneIncident) -> tuple[DecisionRecord, ...]:
    """List the decisions of healing about an incident, oldest first."""
    return call.hub.unit.read(lambda tx: tx.store(HealingStore).decisions(request.incident_id))


@operation("POST", "/incidents/{incident_id}/acknowledge", scope=Scope.DEPLOY, errors=(IncidentNotFound, Conflict))
def acknowledge(call: Call, request: OneIncident) -> Incident:
    """Record that the caller investigates an incident."""
    return call.hub.healing.acknowledge(request.incident_id, by=call.by, now=call.hub.clock())


@operation("POST", "/incidents/{incident_id}/resolve", scope=Scope.DEPLOY, errors=(IncidentNotFound, Conflict))
def resolve(call: Call, request: Resolve) -> Incident:
    """Close an incident as resolved."""
    return call.hub.healing.resolve(request.incident_id, by=call.by, how=request.reason, now=call.hub.clock())


@operation("POST", "/models/{model}/monitor", scope=Scope.DEPLOY, errors=(ModelNotFound,))
def observe(call: Call, request: OneModel) -> LookResult:
    """Check a model now for faults, drift and loss of quality, and let healing react."""
    return call.hub.observe(request.model)
