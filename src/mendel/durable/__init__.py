"""Unit of work, ledger and outbox, workflows: the ports and the event types."""

from mendel.durable.clock import Clock, NewId
from mendel.durable.events import GENESIS, Event, LedgerEntry, chain, entry_hash
from mendel.durable.fence import require_lease
from mendel.durable.ledger import Anchor, Verified, as_recorded, check_anchor, sign_head, verify
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
from mendel.durable.relay import Relay

__all__ = [
    "GENESIS",
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
    "Transaction",
    "UnitOfWork",
    "Verified",
    "WorkflowCall",
    "WorkflowFunction",
    "WorkflowRun",
    "WorkflowState",
    "Workflows",
    "as_recorded",
    "chain",
    "check_anchor",
    "entry_hash",
    "require_lease",
    "sign_head",
    "verify",
]
