"""The ports and event types of durable work: transactions, the ledger, the outbox, leases and workflows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.durable.changes import ChangeWatch
    from mendel.durable.checkpoints import (
        Anchor,
        Checkpoint,
        FormerAnchor,
        keys_by_id,
        read_anchor,
        read_checkpoint,
        sign_checkpoint,
    )
    from mendel.durable.clock import Clock, NewId
    from mendel.durable.events import GENESIS, Event, LedgerEntry, SealedEntry, entry_hash, next_entry, sealed
    from mendel.durable.fencing import require_lease
    from mendel.durable.findings import Finding, FindingKind
    from mendel.durable.ledger import LedgerCheck, LedgerState, VerifiedRange, normalised_event, verify_chain
    from mendel.durable.ledger_keys import LedgerKey
    from mendel.durable.notary import Notary
    from mendel.durable.outbox_relay import OutboxRelay
    from mendel.durable.ports import (
        Anchors,
        Checkpoints,
        Lease,
        Leases,
        Ledger,
        LedgerHead,
        Outbox,
        Payload,
        RecordedCheckpoint,
        SigningKeys,
        StepKey,
        StoredAnchor,
        Transaction,
        UnitOfWork,
        WorkflowCall,
        WorkflowContext,
        WorkflowFunction,
        WorkflowRun,
        Workflows,
        WorkflowState,
    )
    from mendel.durable.receipts import ConsistencyProof, Receipt
    from mendel.durable.step_outcomes import ExecutionAbandoned, StepOutcome, as_json, result_or_raise, run_step
    from mendel.durable.verification import LedgerVerification
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "GENESIS",
    "Anchor",
    "Anchors",
    "ChangeWatch",
    "Checkpoint",
    "Checkpoints",
    "Clock",
    "ConsistencyProof",
    "Event",
    "ExecutionAbandoned",
    "Finding",
    "FindingKind",
    "FormerAnchor",
    "Lease",
    "Leases",
    "Ledger",
    "LedgerCheck",
    "LedgerEntry",
    "LedgerHead",
    "LedgerKey",
    "LedgerState",
    "LedgerVerification",
    "NewId",
    "Notary",
    "Outbox",
    "OutboxRelay",
    "Payload",
    "Receipt",
    "RecordedCheckpoint",
    "SealedEntry",
    "SigningKeys",
    "StepKey",
    "StepOutcome",
    "StoredAnchor",
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
    "entry_hash",
    "keys_by_id",
    "next_entry",
    "normalised_event",
    "read_anchor",
    "read_checkpoint",
    "require_lease",
    "result_or_raise",
    "run_step",
    "sealed",
    "sign_checkpoint",
    "verify_chain",
]
