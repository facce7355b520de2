"""Let other servers answer for a model: v2 over REST and gRPC, and the ZMQ messages of Mendel."""

from mendel.adapters.remote.discovery import announced_signature, announced_task, discover
from mendel.adapters.remote.remote_backend import RemoteLoads

__all__ = ["RemoteLoads", "announced_signature", "announced_task", "discover"]
