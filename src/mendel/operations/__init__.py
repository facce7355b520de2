"""
The operations of the hub's control API, each declared once as a function with a description.

The HTTP routes and the OpenAPI document are made from :data:`OPERATIONS`; a test checks that the handwritten methods of
the client match the operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mendel.operations import (
    health,
    incidents,
    keys,
    labels,
    ledger,
    lifecycle,
    models,
    performance,
    policies,
    runs,
    servers,
)
from mendel.operations.hub_parts import Call, HubHealth, HubParts, LabelIntake, ServiceHealth
from mendel.operations.operation import Operation
from mendel.operations.policy_sections import POLICIES, checked_policy

_TOPICS = (health, models, lifecycle, policies, performance, incidents, runs, labels, ledger, keys, servers)

OPERATIONS: Mapping[str, Operation[Any, Any]] = MappingProxyType(
    {one.name: one for topic in _TOPICS for one in vars(topic).values() if isinstance(one, Operation)}
)
"""All operations by name."""

__all__ = [
    "OPERATIONS",
    "POLICIES",
    "Call",
    "HubHealth",
    "HubParts",
    "LabelIntake",
    "Operation",
    "ServiceHealth",
    "checked_policy",
]
