"""Policy files: YAML, read whole or refused, section by section, by the room that acts on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mendel.drift import MonitoringPolicy
from mendel.errors import InvalidPolicy
from mendel.gates import GatePolicy
from mendel.healing import HealingPolicy
from mendel.registry import GovernancePolicy, RollbackPolicy
from mendel.retraining import RetrainingPolicy
from mendel.values import from_mapping, unknown_key

_SECTIONS: dict[str, type] = {
    "gates": GatePolicy,
    "monitoring": MonitoringPolicy,
    "retraining": RetrainingPolicy,
    "rollback": RollbackPolicy,
    "governance": GovernancePolicy,
}


def read_policy_file(path: Path) -> dict[str, Any]:
    """
    The policy that *path* holds.

    Raises:
        InvalidPolicy: Not YAML, or a key or value that no room understands.
    """
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidPolicy(f"{path} is not YAML: {error}.") from error
    return checked_policy(body or {}, at=str(path))


def checked_policy(body: Mapping[str, Any], *, at: str) -> dict[str, Any]:
    """
    *body*, once every room has read its section of it.

    Raises:
        InvalidPolicy: A key or value that no room understands.
    """
    if not isinstance(body, Mapping):
        raise InvalidPolicy(f"{at}: a mapping of sections is needed, not {type(body).__name__}.")
    for name, section in body.items():
        if name == "healing":
            HealingPolicy.of(body)
        elif name in _SECTIONS:
            from_mapping(_SECTIONS[name], section or {}, at=f"{at}: {name}")
        else:
            raise InvalidPolicy(unknown_key(name, ["healing", *_SECTIONS], at))
    return dict(body)
