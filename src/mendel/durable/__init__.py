"""Unit of work, ledger and outbox, workflows: the ports and the event types."""

from mendel.durable.clock import Clock, NewId
from mendel.durable.events import GENESIS, Event, LedgerEntry, chain, entry_hash
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

__all__ = [
    "GENESIS",
    "Clock",
    "Event",
    "Lease",
    "Leases",
    "Ledger",
    "LedgerEntry",
    "NewId",
    "Outbox",
    "Payload",
    "Run",
    "StepKey",
    "Transaction",
    "UnitOfWork",
    "WorkflowCall",
    "WorkflowFunction",
    "WorkflowRun",
    "WorkflowState",
    "Workflows",
    "chain",
    "entry_hash",
]
