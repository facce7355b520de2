"""The schema of project files, with the policy sections of the rooms that act on them."""

from __future__ import annotations

from typing import Any

from mendel.drift import MonitoringPolicy
from mendel.gates import GatePolicy
from mendel.healing import HealingPolicy
from mendel.projects import project_schema
from mendel.registry import GovernancePolicy, RollbackPolicy
from mendel.retraining import RetrainingPolicy

POLICIES: dict[str, type] = {
    "monitoring": MonitoringPolicy,
    "gates": GatePolicy,
    "retraining": RetrainingPolicy,
    "healing": HealingPolicy,
    "rollback": RollbackPolicy,
    "governance": GovernancePolicy,
}


def mlserver_schema() -> dict[str, Any]:
    """The whole JSON Schema of ``mlserver.yaml``."""
    return project_schema(POLICIES)
