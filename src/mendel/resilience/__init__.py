"""Breaker, bulkhead, deadline, retry: state machines over values; time is an argument."""

from mendel.resilience.breaker import Admission, Admitted, Breaker, BreakerPhase, BreakerPolicy, Refused
from mendel.resilience.bulkhead import Bulkhead, BulkheadPolicy, Entry, Go, Rejected, Wait
from mendel.resilience.deadline import Deadline
from mendel.resilience.retry import GiveUp, Retry, RetryPolicy, TryAgain, decide_retry

__all__ = [
    "Admission",
    "Admitted",
    "Breaker",
    "BreakerPhase",
    "BreakerPolicy",
    "Bulkhead",
    "BulkheadPolicy",
    "Deadline",
    "Entry",
    "GiveUp",
    "Go",
    "Refused",
    "Rejected",
    "Retry",
    "RetryPolicy",
    "TryAgain",
    "Wait",
    "decide_retry",
]
