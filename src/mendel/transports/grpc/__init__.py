"""The gRPC door: v2, ModelOps, health and reflection over grpcio's asyncio server."""
