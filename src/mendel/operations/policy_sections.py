"""Policy documents as people send them: read whole or refused, section by section, by the room that acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mendel.drift import MonitoringPolicy
from mendel.errors import InvalidPolicy
from mendel.gates import GatePolicy
from mendel.healing import HealingPolicy
from mendel.registry import GovernancePolicy, RollbackPolicy
from mendel.retraining import RetrainingPolicy
from mendel.values import from_mapping, unknown_key_message

POLICIES: Mapping[str, type] = {
    "monitoring": MonitoringPolicy,
    "gates": GatePolicy,
    "retraining": RetrainingPolicy,
    "healing": HealingPolicy,
    "rollback": RollbackPolicy,
    "governance": GovernancePolicy,
}
"""The sections of a policy, each with the class that reads it."""


def checked_policy(body: Mapping[str, Any], *, at: str) -> dict[str, Any]:
    """
    *body*, once every room has read its section of it.

    Args:
        at: Where it stands, for messages: a file, or the model it is for.

    Raises:
        InvalidPolicy: A key or value that no room understands.
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
