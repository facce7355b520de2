"""Operations on looks: the stored evaluations of models, with everything that they were decided from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from mendel.errors import IncidentNotFound, InvalidPolicy, InvalidValue
from mendel.healing import (
    Alternative,
    Backtest,
    Explanation,
    HealingStore,
    LookVolume,
    explain,
    parse_playbook,
    run_backtest,
    shipped_playbooks,
)
from mendel.operations.hub_parts import Call
from mendel.operations.incidents import OneIncident
from mendel.operations.operation import operation
from mendel.operations.policy_sections import checked_policy
from mendel.operations.requests import OfModel
from mendel.registry import PolicyDocument
from mendel.values import EPOCH, ModelName, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBacktest:
    """
    The request for a backtest.

    Attributes:
        model: The model; None takes all models.
        period: How far back from now the looks are decided again.
        policy: The sections of another policy; None keeps the recorded policies.
        playbooks: The texts of further playbooks by file name; None keeps the shipped playbooks and those of the hub.
    """

    model: ModelName | None = None
    period: timedelta = timedelta(days=30)
    policy: dict[str, Any] | None = None
    playbooks: dict[str, str] | None = None


@operation("GET", "/looks", scope=Scope.READ)
def looks(call: Call, request: OfModel) -> tuple[LookVolume, ...]:
    """Count the stored looks and their bytes, by model and day."""
    return call.hub.healing.looks.volumes(request.model)


@operation("POST", "/healing/backtest", scope=Scope.READ, errors=(InvalidPolicy,))
def backtest(call: Call, request: RunBacktest) -> Backtest:
    """
    Decide the recorded looks again, and change nothing.

    Without a policy and playbooks, the result says whether every stored decision is reproduced. With them, it lists
    what healing would have done, and the errors and the quality that were recorded afterwards.
    """
    if request.period <= timedelta(0):
        raise InvalidValue("The period of a backtest must be longer than 0.")
    alternative = None
    if request.policy is not None or request.playbooks is not None:
        policy = None if request.policy is None else checked_policy(request.policy, at="policy")
        books = dict(call.hub.healing.playbooks if request.playbooks is None else shipped_playbooks())
        for name, text in sorted((request.playbooks or {}).items()):
            book = parse_playbook(text, where=name)
            books[book.name] = book
        alternative = Alternative(policy=policy, playbooks=books)
    since = max(EPOCH, call.hub.clock() - request.period)
    recorded = call.hub.healing.looks.since(since, model=request.model)
    return run_backtest(recorded, _policies(call), alternative, since=since)


@operation("GET", "/incidents/{incident_id}/explanation", scope=Scope.READ, errors=(IncidentNotFound,))
def explain_incident(call: Call, request: OneIncident) -> tuple[Explanation, ...]:
    """Explain each decision about an incident, oldest first: measured values, bounds, guards, and the deciding rule."""
    call.hub.unit.read(lambda tx: tx.store(HealingStore).incident(request.incident_id))  # raises if there is none
    book, policy_of, found = call.hub.healing.looks, _policies(call), []
    for look in book.since(EPOCH, incident=request.incident_id):
        document = policy_of(look.model, look.policy_hash)
        if document is not None and look.decided is not None:
            found.append(explain(look, book.checks_at(look.model, look.at), document))
    return tuple(found)


def _policies(call: Call) -> Callable[[ModelName, str], PolicyDocument | None]:
    """Make a function that finds the policy of a model with a hash; None if no such policy was ever set."""

    @cache
    def known(model: ModelName) -> dict[str, PolicyDocument]:
        documents = (PolicyDocument(model=model), *call.hub.registry.policies.history(model))
        return {document.hash: document for document in documents}

    return lambda model, policy_hash: known(model).get(policy_hash)
