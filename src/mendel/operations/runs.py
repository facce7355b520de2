"""Operations on runs of playbooks, and on pausing healing."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.errors import AlreadyExists, Conflict, HealingPaused, ModelNotFound, RunNotFound
from mendel.healing import HealingStore, PlaybookRun
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.requests import OfModel, OneModel
from mendel.values import ModelName, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class OneRun:
    """The request for one run of a playbook."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs(OfModel):
    """The request for runs of one model or, if None, of all models; ``waiting`` selects runs that wait for a person."""

    waiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline(OneRun):
    """The request to refuse a run, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlaybook(OneModel):
    """The request to run a playbook, with the reason."""

    playbook: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseHealing:
    """The request to pause or resume healing for one model or, if None, for all models."""

    model: ModelName | None = None
    reason: str = ""


@operation("GET", "/runs", scope=Scope.READ)
def runs(call: Call, request: Runs) -> tuple[PlaybookRun, ...]:
    """List the newest 1000 runs of playbooks, oldest first."""
    return call.read(lambda views: views.runs(request.model, waiting=request.waiting))


@operation("GET", "/runs/{run_id}", scope=Scope.READ, errors=(RunNotFound,))
def run(call: Call, request: OneRun) -> PlaybookRun:
    """Show a run with its steps."""
    return call.hub.unit.read(lambda tx: tx.store(HealingStore).run(request.run_id))


@operation(
    "POST",
    "/runs/{run_id}/approve",
    scope=Scope.APPROVE,
    errors=(RunNotFound, Conflict, AlreadyExists, HealingPaused),
)
def approve_run(call: Call, request: OneRun) -> PlaybookRun:
    """Approve a run that waits for a person, so that the run continues."""
    return call.hub.healing.approve(request.run_id, by=call.by, now=call.hub.clock())


@operation("POST", "/runs/{run_id}/decline", scope=Scope.APPROVE, errors=(RunNotFound, Conflict))
def decline_run(call: Call, request: Decline) -> PlaybookRun:
    """Refuse a run that waits for a person."""
    return call.hub.healing.decline(request.run_id, by=call.by, reason=request.reason, now=call.hub.clock())


@operation(
    "POST",
    "/models/{model}/playbooks/{playbook}",
    scope=Scope.DEPLOY,
    errors=(ModelNotFound, AlreadyExists, HealingPaused),
    status=202,
)
def start_playbook(call: Call, request: StartPlaybook) -> PlaybookRun:
    """Run a playbook on the production version of a model."""
    healing, now = call.hub.healing, call.hub.clock()
    return healing.start(request.model, request.playbook, by=call.by, reason=request.reason, now=now)


@operation("POST", "/healing/pause", scope=Scope.DEPLOY)
def pause_healing(call: Call, request: PauseHealing) -> None:
    """Pause healing for one model or for all models."""
    call.hub.healing.pause(model=request.model, by=call.by, reason=request.reason, now=call.hub.clock())


@operation("POST", "/healing/resume", scope=Scope.DEPLOY)
def resume_healing(call: Call, request: PauseHealing) -> None:
    """Resume healing for one model or for all models."""
    call.hub.healing.resume(model=request.model, by=call.by, now=call.hub.clock())
