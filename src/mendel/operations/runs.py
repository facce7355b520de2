"""Runs of playbooks, and the switch that stops healing."""

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
    """Names a run."""

    run_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs(OfModel):
    """Asks for runs of one model, or (None) of any; with *waiting* only for those that wait for a person."""

    waiting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decline(OneRun):
    """Says why a run is refused."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlaybook(OneModel):
    """Asks for a run of a playbook, and says why."""

    playbook: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseHealing:
    """Switches healing off or on, for one model or (None) for all."""

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
    scope=Scope.DEPLOY,
    errors=(RunNotFound, Conflict, AlreadyExists, HealingPaused),
)
def approve_run(call: Call, request: OneRun) -> PlaybookRun:
    """Let a proposed or held run go on."""
    return call.hub.healing.approve(request.run_id, by=call.by, now=call.hub.clock())


@operation("POST", "/runs/{run_id}/decline", scope=Scope.DEPLOY, errors=(RunNotFound, Conflict))
def decline_run(call: Call, request: Decline) -> PlaybookRun:
    """Refuse a proposed or held run."""
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
    """Switch healing off, for one model or for all."""
    call.hub.healing.pause(model=request.model, by=call.by, reason=request.reason, now=call.hub.clock())


@operation("POST", "/healing/resume", scope=Scope.DEPLOY)
def resume_healing(call: Call, request: PauseHealing) -> None:
    """Switch healing on again."""
    call.hub.healing.resume(model=request.model, by=call.by, now=call.hub.clock())
