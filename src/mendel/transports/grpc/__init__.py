"""The gRPC door: v2, ModelOps, health and reflection over grpcio's asyncio server."""

from mendel.transports.grpc.door import METHODS, SERVICES, GrpcDoor

__all__ = ["METHODS", "SERVICES", "GrpcDoor"]
