"""Processes of the data plane: launch, worker, door proxy, health check, and a server without a hub."""
