"""Circuit breaker, bulkhead, deadline and retry as pure state machines; callers pass the time as an argument."""

from mendel.resilience.breaker import Admission, Admitted, Breaker, BreakerPhase, BreakerPolicy, CallRefused
from mendel.resilience.bulkhead import Bulkhead, BulkheadDecision, BulkheadPolicy, Rejected, RunNow, WaitForPlace
from mendel.resilience.deadline import Deadline
from mendel.resilience.retry import GiveUp, RetryDecision, RetryPolicy, TryAgain, decide_retry

__all__ = [
    "Admission",
    "Admitted",
    "Breaker",
    "BreakerPhase",
    "BreakerPolicy",
    "Bulkhead",
    "BulkheadDecision",
    "BulkheadPolicy",
    "CallRefused",
    "Deadline",
    "GiveUp",
    "Rejected",
    "RetryDecision",
    "RetryPolicy",
    "RunNow",
    "TryAgain",
    "WaitForPlace",
    "decide_retry",
]
