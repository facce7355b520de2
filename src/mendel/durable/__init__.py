"""The ports and event types of durable work: transactions, the ledger, the outbox, leases and workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.durable.changes import ChangeWatch
    from mendel.durable.clock import Clock, NewId
    from mendel.durable.events import GENESIS, Event, LedgerEntry, entry_hash, next_entry
    from mendel.durable.fencing import require_lease
    from mendel.durable.ledger import Anchor, VerifiedRange, check_anchor, normalised_event, sign_head, verify_chain
    from mendel.durable.outbox_relay import OutboxRelay
    from mendel.durable.ports import (
        Anchors,
        Lease,
        Leases,
        Ledger,
        Outbox,
        Payload,
        StepKey,
        Transaction,
        UnitOfWork,
        WorkflowCall,
        WorkflowContext,
        WorkflowFunction,
        WorkflowRun,
        Workflows,
        WorkflowState,
    )
    from mendel.durable.step_outcomes import ExecutionAbandoned, StepOutcome, as_json, result_or_raise, run_step
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "GENESIS",
    "Anchor",
    "Anchors",
    "ChangeWatch",
    "Clock",
    "Event",
    "ExecutionAbandoned",
    "Lease",
    "Leases",
    "Ledger",
    "LedgerEntry",
    "NewId",
    "Outbox",
    "OutboxRelay",
    "Payload",
    "StepKey",
    "StepOutcome",
    "Transaction",
    "UnitOfWork",
    "VerifiedRange",
    "WorkflowCall",
    "WorkflowContext",
    "WorkflowFunction",
    "WorkflowRun",
    "WorkflowState",
    "Workflows",
    "as_json",
    "check_anchor",
    "entry_hash",
    "next_entry",
    "normalised_event",
    "require_lease",
    "result_or_raise",
    "run_step",
    "sign_head",
    "verify_chain",
]
