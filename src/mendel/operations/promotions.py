"""Operations on promotions at a set time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mendel.errors import (
    Conflict,
    GenerationConflict,
    IllegalTransition,
    ModelNotFound,
    NeedsNewImage,
    PromotionRefused,
    VersionNotFound,
)
from mendel.operations.hub_parts import Call
from mendel.operations.lifecycle import generation_of
from mendel.operations.operation import Header, operation
from mendel.operations.requests import OfModel, OneModel, OneVersion
from mendel.registry import WaitingPromotion
from mendel.values import Moment, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPromotion(OneVersion):
    """
    The request to promote a version at a set time.

    Attributes:
        at: The time; the promotion waits longer if the policy forbids promotions then.
        override: The reason to promote without a passing gate report; None requires a passing report.
        if_match: The generation that the deployment must have at that time, in quotes; None allows any.
    """

    at: Moment
    reason: str = ""
    override: str | None = None
    if_match: Annotated[str | None, Header("if-match")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelPromotion(OneModel):
    """The request to cancel the promotion of a model that waits."""

    reason: str = ""


@operation(
    "POST",
    "/models/{model}/versions/{number}/promote/later",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, Conflict, GenerationConflict, IllegalTransition, PromotionRefused, NeedsNewImage),
)
def plan_promotion(call: Call, request: PlanPromotion) -> WaitingPromotion:
    """Promote a version at a set time, or at the first later time that the policy allows; a hub carries it out."""
    return call.hub.registry.promotions.plan(
        request.ref,
        request.at,
        by=call.by,
        reason=request.reason,
        override=request.override,
        expected_generation=generation_of(request.if_match),
    )


@operation("GET", "/promotions", scope=Scope.READ)
def planned_promotions(call: Call, request: OfModel) -> tuple[WaitingPromotion, ...]:
    """List the last planned promotion of each model; one that waits says until when and why."""
    return call.hub.registry.promotions.all(request.model)


@operation("POST", "/models/{model}/promotion/cancel", scope=Scope.DEPLOY, errors=(ModelNotFound, Conflict))
def cancel_promotion(call: Call, request: CancelPromotion) -> WaitingPromotion:
    """Cancel the promotion of a model that waits."""
    return call.hub.registry.promotions.cancel(request.model, by=call.by, reason=request.reason)
