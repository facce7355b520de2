"""Plans for the versions beside the production version: canary, shadow and fallback."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from enum import StrEnum

from mendel.errors import Conflict, InvalidValue, PromotionRefused
from mendel.registry.admission import require_same_code, signature_refusals
from mendel.registry.history import GateRecord
from mendel.registry.promotion_windows import require_open
from mendel.registry.stage_plans import (
    ModelState,
    Plan,
    StageChange,
    admitted,
    moved,
    require_generation,
    require_transition,
)
from mendel.registry.version_records import VersionRecord
from mendel.values import Route, Stage


class SideRole(StrEnum):
    """A role beside the routes of a deployment, named like the field of the deployment."""

    SHADOW = "shadow"
    FALLBACK = "fallback"


_STAGES = {
    SideRole.SHADOW: (Stage.SANDBOX, Stage.ROLLBACK),
    SideRole.FALLBACK: (Stage.SANDBOX,),
}
"""The stages from which a version can take a role: its parity is checked, and a fallback was not rolled back."""


def plan_canary(
    state: ModelState,
    candidate: VersionRecord,
    *,
    share: float,
    gate: GateRecord | None,
    now: datetime,
) -> Plan:
    """
    Check that *candidate* may receive *share* of the traffic beside production, and plan the change.

    Raises:
        Conflict: The model has no production version, or another version is in canary.
        IllegalTransition, PromotionRefused, NeedsNewImage: As in :func:`plan_promotion`.
    """
    if not 0 < share < 1:
        raise InvalidValue(
            f"The share of a canary must be above 0 and below 1, not {share}.",
            remedy="To send all traffic to the version, promote the version.",
        )
    serving = state.serving
    if serving is None:
        raise Conflict(
            f"A canary needs a production version, but {candidate.model} has no production version.",
            remedy="Promote a version first with: mendel promote",
        )
    running = next((r.version for r in state.deployment.routes[1:] if r.version != candidate.number), None)
    if running is not None:
        raise Conflict(
            f"The model {candidate.model} already has the canary {candidate.model}@{running}.",
            remedy=f"First promote {candidate.model}@{running}, or move it to sandbox with 'mendel stage'.",
        )
    changes: tuple[StageChange, ...] = ()
    governance = None
    if share > _share_of(state, candidate):
        require_open(state.policy.promotion, now, str(candidate.ref))
    if candidate.stage is not Stage.CANARY:
        require_transition(candidate.stage, Stage.CANARY)
        governance = admitted(state, candidate, gate, None, now)
        changes = (moved(candidate, Stage.CANARY, f"canary at {share:g}"),)
    deployment = replace(
        state.deployment,
        generation=state.deployment.generation + 1,
        routes=(
            Route(version=serving.number, share=1 - share),
            Route(version=candidate.number, share=share),
        ),
        shadow=None if state.deployment.shadow == candidate.number else state.deployment.shadow,
        fallback=None if state.deployment.fallback == candidate.number else state.deployment.fallback,
    )
    return Plan(changes=changes, deployment=deployment, governance=governance)


def plan_side_version(
    state: ModelState,
    role: SideRole,
    record: VersionRecord | None,
    *,
    expected_generation: int | None,
    gate: GateRecord | None,
    now: datetime,
) -> Plan:
    """
    Plan to give *record* the role, or to end the role if *record* is None; without effect if that is already so.

    A shadow needs the signature and the code of the production version. A fallback answers users: it was in production
    before, or passes the same checks as a canary.

    Raises:
        GenerationConflict: The deployment has changed since *expected_generation*.
        Conflict: Nothing is in production, or the version already gets traffic, or its stage forbids the role.
        PromotionRefused, NeedsNewImage: As in :func:`plan_promotion`.
    """
    deployment, number = state.deployment, None if record is None else record.number
    if expected_generation is not None:
        require_generation(deployment, expected_generation)
    if getattr(deployment, role) == number:
        return Plan(changes=())
    if record is not None:
        _require_fit(state, role, record)
    governance = None
    if record is not None and role is SideRole.FALLBACK and all(t.version != number for t in state.tenures):
        governance = admitted(state, record, gate, None, now)
    generation = deployment.generation + 1
    changed = (
        replace(deployment, generation=generation, shadow=number)
        if role is SideRole.SHADOW
        else replace(deployment, generation=generation, fallback=number)
    )
    return Plan(changes=(), deployment=changed, governance=governance)


def _require_fit(state: ModelState, role: SideRole, record: VersionRecord) -> None:
    serving = state.serving
    if serving is None:
        raise Conflict(
            f"A {role} needs a production version, but {record.model} has no production version.",
            remedy="Promote a version first with: mendel promote",
        )
    if record.stage not in _STAGES[role]:
        raise Conflict(
            f"{record.ref} is in {record.stage} and cannot become the {role} of {record.model}.",
            remedy=f"Choose a version in: {', '.join(_STAGES[role])}.",
        )
    if refusals := signature_refusals(record, serving):
        raise PromotionRefused(
            f"{record.ref} cannot become the {role} of {record.model}: {refusals[0]}", reasons=refusals
        )
    require_same_code(record, serving, builds=state.builds)


def _share_of(state: ModelState, record: VersionRecord) -> float:
    return next((route.share for route in state.deployment.routes[1:] if route.version == record.number), 0.0)
