"""Operations on the versions beside the production version: canaries, shadow and fallback."""

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
from mendel.healing import CanaryState
from mendel.operations.hub_parts import Call
from mendel.operations.lifecycle import generation_of
from mendel.operations.operation import Header, operation
from mendel.operations.requests import Number, OfModel, OneModel, OneVersion
from mendel.registry import SideRole
from mendel.values import Deployment, Scope

_REFUSED = (Conflict, GenerationConflict, PromotionRefused, NeedsNewImage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary(OneVersion):
    """
    The request to give a version a share of the traffic.

    Attributes:
        share: A fraction in (0, 1), which stays until another request; None lets the share grow in the steps of the
            policy, each by its own decision.
    """

    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSideVersion(OneModel):
    """
    The request to set the shadow or the fallback of a model.

    Attributes:
        version: The number of the version; None ends the role.
        if_match: The expected generation of the deployment, in quotes; None sets it at any generation.
    """

    role: SideRole
    version: Number | None = None
    reason: str = ""
    if_match: Annotated[str | None, Header("if-match")] = None


@operation(
    "POST",
    "/models/{model}/versions/{number}/canary",
    scope=Scope.DEPLOY,
    errors=(VersionNotFound, Conflict, IllegalTransition, PromotionRefused, NeedsNewImage),
)
def canary(call: Call, request: Canary) -> Deployment:
    """Give a version a share of the traffic beside production, as a fixed share or in the steps of the policy."""
    hub = call.hub
    if request.share is None:
        return hub.canaries.begin(request.ref, by=call.by, now=hub.clock())
    return hub.registry.side_routes.canary(request.model, request.number, request.share, by=call.by)


@operation("GET", "/canaries", scope=Scope.READ)
def canaries(call: Call, request: OfModel) -> tuple[CanaryState, ...]:
    """List the canaries that grow in steps, each with the decision about its step as things stand."""
    return call.hub.canaries.states(call.hub.clock(), request.model)


@operation(
    "PUT",
    "/models/{model}/deployment/{role}",
    scope=Scope.DEPLOY,
    errors=(ModelNotFound, VersionNotFound, *_REFUSED),
)
def set_side_version(call: Call, request: SetSideVersion) -> Deployment:
    """Set or end the shadow of a model, which gets copies of requests, or its fallback, which answers in an outage."""
    return call.hub.registry.side_routes.set_side_version(
        request.model,
        request.role,
        request.version,
        by=call.by,
        reason=request.reason,
        expected_generation=generation_of(request.if_match),
    )
