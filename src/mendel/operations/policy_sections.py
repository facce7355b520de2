"""Check policy documents, section by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mendel.drift import MonitoringPolicy
from mendel.errors import InvalidPolicy
from mendel.gates import GatePolicy
from mendel.healing import CanaryPolicy, HealingPolicy
from mendel.registry import GovernancePolicy, PromotionPolicy, RollbackPolicy
from mendel.retraining import RetrainingPolicy
from mendel.values import from_mapping, unknown_key_message

POLICIES: Mapping[str, type] = {
    "monitoring": MonitoringPolicy,
    "gates": GatePolicy,
    "retraining": RetrainingPolicy,
    "healing": HealingPolicy,
    "rollback": RollbackPolicy,
    "governance": GovernancePolicy,
    "promotion": PromotionPolicy,
    "canary": CanaryPolicy,
}
"""The sections of a policy with the classes that read them."""


def checked_policy(body: Mapping[str, Any], *, at: str) -> dict[str, Any]:
    """
    Check every section of the policy *body*, and give the policy as a dict.

    Args:
        at: The file or the model of the policy, with which error messages begin.

    Raises:
        InvalidPolicy: A section or key is unknown, or a value is invalid.
    """
    if not isinstance(body, Mapping):
        raise InvalidPolicy(f"{at}: {type(body).__name__} is not a mapping of sections.")
    for name, section in body.items():
        if name not in POLICIES:
            raise InvalidPolicy(unknown_key_message(str(name), [*POLICIES], at))
        if section is not None and not isinstance(section, Mapping):
            raise InvalidPolicy(f"{at}: {name}: {section!r} is not a mapping of keys to values.")
    for name, kind in POLICIES.items():
        if name != "healing":
            from_mapping(kind, body.get(name) or {}, at=f"{at}: {name}")
    HealingPolicy.of(body)
    return dict(body)
