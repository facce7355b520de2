"""Processes of the data plane: launch, worker, ZMQ proxy, health check, and a server without a hub."""
