"""The table of all operations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mendel.operations import (
    evidence,
    foreign_versions,
    health,
    incidents,
    keys,
    labels,
    ledger,
    lifecycle,
    models,
    performance,
    policies,
    promotions,
    runs,
    servers,
    side_routes,
    time_travel,
)
from mendel.operations.operation import Operation

_TOPICS = (
    *(health, models, foreign_versions, lifecycle, promotions, side_routes, policies, performance),
    *(incidents, evidence, runs, labels, ledger, time_travel, keys, servers),
)

OPERATIONS: Mapping[str, Operation[Any, Any]] = MappingProxyType(
    {one.name: one for topic in _TOPICS for one in vars(topic).values() if isinstance(one, Operation)}
)
"""All operations by name."""
