"""Circuit breaker, bulkhead, deadline, retry: state machines over values; time is an argument."""
