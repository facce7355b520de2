"""Circuit breaker, bulkhead, retry and fault counts as pure decisions; callers pass the time as an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.resilience.breaker import Admission, Admitted, Breaker, BreakerPhase, BreakerPolicy, CallRefused
    from mendel.resilience.bulkhead import BulkheadPolicy, Rejected
    from mendel.resilience.faults import Fault, FaultRepeats, fault_of
    from mendel.resilience.retry import GiveUp, RetryDecision, RetryPolicy, TryAgain, decide_retry
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "Admission",
    "Admitted",
    "Breaker",
    "BreakerPhase",
    "BreakerPolicy",
    "BulkheadPolicy",
    "CallRefused",
    "Fault",
    "FaultRepeats",
    "GiveUp",
    "Rejected",
    "RetryDecision",
    "RetryPolicy",
    "TryAgain",
    "decide_retry",
    "fault_of",
]
