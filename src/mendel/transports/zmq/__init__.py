"""The ZMQ door: one proxy for callers, a server in each worker."""
