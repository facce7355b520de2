"""The methods of the client for canaries, shadow and fallback, planned promotions and foreign versions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any, TypeVar

from mendel.client.names import if_match, model_request, optional_name, version_request
from mendel.healing import CanaryState
from mendel.operations import Operation, foreign_versions, promotions, side_routes
from mendel.operations.requests import OfModel
from mendel.registry import ForeignVersion, SideRole, VersionRecord, WaitingPromotion
from mendel.values import Deployment, ModelName, VersionRef

Q = TypeVar("Q")
R = TypeVar("R")


class DeploymentChanges(ABC):
    """The methods that change what is served beside the production version, or later."""

    @abstractmethod
    def _call(self, operation: Operation[Q, R], request: Q, **options: Any) -> R: ...

    def canary(self, ref: str | VersionRef, share: float | None = None) -> Deployment:
        """
        Give a version a share of the traffic beside production.

        Args:
            share: A fraction in (0, 1), which stays; None lets the share grow in the steps of the policy.
        """
        one = version_request(ref)
        return self._call(side_routes.canary, side_routes.Canary(model=one.model, number=one.number, share=share))

    def canaries(self, model: str | None = None) -> tuple[CanaryState, ...]:
        """List the canaries that grow in steps, of *model* or of all models, with the decision about each step."""
        return self._call(side_routes.canaries, OfModel(model=optional_name(model)))

    def set_side_version(
        self, model: str, role: str, version: int | None, *, reason: str = "", generation: int | None = None
    ) -> Deployment:
        """
        Make a version the shadow or the fallback of *model*, or end the role.

        Args:
            role: ``shadow`` or ``fallback``.
            version: The number of the version; None ends the role.
            generation: The expected generation of the deployment; if the deployment was changed since, the method
                raises ``GenerationConflict``. None skips the check.
        """
        request = side_routes.SetSideVersion(
            model=ModelName(model), role=SideRole(role), version=version, reason=reason, if_match=if_match(generation)
        )
        return self._call(side_routes.set_side_version, request)

    def plan_promotion(
        self,
        ref: str | VersionRef,
        at: datetime,
        *,
        reason: str = "",
        override: str | None = None,
        generation: int | None = None,
    ) -> WaitingPromotion:
        """
        Promote a version at the time *at*, or at the first later time that the policy allows; a hub carries it out.

        Args:
            override: The reason to promote without a passing gate report; None requires a passing report.
            generation: The generation that the deployment must have at that time; None allows any.
        """
        one = version_request(ref)
        request = promotions.PlanPromotion(
            model=one.model,
            number=one.number,
            at=at,
            reason=reason,
            override=override,
            if_match=if_match(generation),
        )
        return self._call(promotions.plan_promotion, request)

    def planned_promotions(self, model: str | None = None) -> tuple[WaitingPromotion, ...]:
        """List the last planned promotion of *model*, or of every model; one that waits says until when and why."""
        return self._call(promotions.planned_promotions, OfModel(model=optional_name(model)))

    def cancel_promotion(self, model: str, *, reason: str = "") -> WaitingPromotion:
        """Cancel the promotion of *model* that waits."""
        request = promotions.CancelPromotion(model=ModelName(model), reason=reason)
        return self._call(promotions.cancel_promotion, request)

    def foreign_versions(self, model: str) -> tuple[ForeignVersion, ...]:
        """List the versions of *model* that were registered in MLflow without Mendel."""
        return self._call(foreign_versions.foreign_versions, model_request(model))

    def adopt(self, ref: str | VersionRef, *, flavor: str | None = None, task: str | None = None) -> VersionRecord:
        """
        Register a foreign version of MLflow under its own number and uuid, in development.

        Args:
            flavor: The flavour for loading; None takes the only one of its files beside ``python_function``.
            task: ``classification`` or ``regression``; None takes what its files say.
        """
        one = version_request(ref)
        request = foreign_versions.Adopt(model=one.model, number=one.number, flavor=flavor, task=task)
        return self._call(foreign_versions.adopt, request)
