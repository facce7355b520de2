"""The table of all operations."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from mendel.operations import (
    evidence,
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
    time_travel,
)
from mendel.operations.operation import Operation

_TOPICS = (
    health,
    models,
    lifecycle,
    policies,
    performance,
    incidents,
    evidence,
    runs,
    labels,
    ledger,
    time_travel,
    keys,
    servers,
)

OPERATIONS: Mapping[str, Operation[Any, Any]] = MappingProxyType(
    {one.name: one for topic in _TOPICS for one in vars(topic).values() if isinstance(one, Operation)}
)
"""All operations by name."""
