"""Unit of work, ledger and outbox, workflows: the ports and the event types."""

from mendel.durable.clock import Clock, NewId
from mendel.durable.events import GENESIS, Event, LedgerEntry, chain, entry_hash
from mendel.durable.fencing import require_lease
from mendel.durable.ledger import Anchor, Verified, as_recorded, check_anchor, sign_head, verify
from mendel.durable.outbox_relay import Relay
from mendel.durable.ports import (
    Lease,
    Leases,
    Ledger,
    Outbox,
    Payload,
    Run,
    StepKey,
    Transaction,
    UnitOfWork,
    WorkflowCall,
    WorkflowFunction,
    WorkflowRun,
    Workflows,
    WorkflowState,
)
from mendel.durable.step_outcomes import Abandoned, StepOutcome, as_json, attempt, settle

__all__ = [
    "GENESIS",
    "Abandoned",
    "Anchor",
    "Clock",
    "Event",
    "Lease",
    "Leases",
    "Ledger",
    "LedgerEntry",
    "NewId",
    "Outbox",
    "Payload",
    "Relay",
    "Run",
    "StepKey",
    "StepOutcome",
    "Transaction",
    "UnitOfWork",
    "Verified",
    "WorkflowCall",
    "WorkflowFunction",
    "WorkflowRun",
    "WorkflowState",
    "Workflows",
    "as_json",
    "as_recorded",
    "attempt",
    "chain",
    "check_anchor",
    "entry_hash",
    "require_lease",
    "settle",
    "sign_head",
    "verify",
]
