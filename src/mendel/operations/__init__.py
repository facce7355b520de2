"""
The operations of the hub's control API, each declared once as a function with a description.

The HTTP routes and the OpenAPI document are made from :data:`OPERATIONS`; a test checks that the handwritten methods of
the client match the operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.operations.hub_parts import Call, HubHealth, HubParts, LabelIntake, ServiceHealth
    from mendel.operations.operation import Operation
    from mendel.operations.operation_table import OPERATIONS
    from mendel.operations.policy_sections import POLICIES, checked_policy
else:
    __getattr__ = lazy_exports(__name__)

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
