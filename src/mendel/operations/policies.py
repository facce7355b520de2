"""Operations on the policy of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mendel.errors import InvalidPolicy
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.policy_sections import checked_policy
from mendel.operations.requests import OneModel
from mendel.registry import PolicyDocument
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy(OneModel):
    """The request to replace the policy of a model."""

    body: dict[str, Any]


@operation("GET", "/models/{model}/policy", scope=Scope.READ)
def policy(call: Call, request: OneModel) -> PolicyDocument:
    """Show the policy of a model; version 0 means the defaults."""
    return call.hub.registry.policies.of(request.model)


@operation("PUT", "/models/{model}/policy", scope=Scope.DEPLOY, errors=(InvalidPolicy,))
def set_policy(call: Call, request: SetPolicy) -> PolicyDocument:
    """Replace the policy of a model; an unchanged policy makes no new version. Its section governance needs approve."""
    body, may_approve = checked_policy(request.body, at=request.model), call.caller.may(Scope.APPROVE)
    return call.hub.registry.policies.set(request.model, body, by=call.by, may_approve=may_approve)
