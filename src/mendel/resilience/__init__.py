"""Breaker, bulkhead, deadline, retry: state machines over values; time is an argument."""

from mendel.resilience.retry import GiveUp, Retry, RetryPolicy, TryAgain, decide_retry

__all__ = ["GiveUp", "Retry", "RetryPolicy", "TryAgain", "decide_retry"]
