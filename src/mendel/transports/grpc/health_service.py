"""The gRPC health service ``grpc.health.v1.Health``, which reports whether the kernel is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from grpc_health.v1 import health_pb2 as pb

from mendel.errors import NotFound
from mendel.serving import Kernel
from mendel.transports.grpc.methods import Call, Method, StreamingMethod, UnaryMethod

_SERVICE: Final = "grpc.health.v1.Health"
SERVICES: Final = frozenset({"inference.GRPCInferenceService", "modelops.ModelOps", _SERVICE})
"""The services that have a status; the empty name, for the whole server, has one too."""
_LOOK_EVERY_S: Final = 0.25


async def _check(kernel: Kernel, request: pb.HealthCheckRequest, _: Call) -> pb.HealthCheckResponse:
    """Give SERVING when the kernel is ready, else NOT_SERVING."""
    if request.service and request.service not in SERVICES:
        raise NotFound(f"This server has no gRPC service {request.service!r}.")
    return pb.HealthCheckResponse(status=_status(kernel))


async def _watch(
    kernel: Kernel, requests: AsyncIterator[pb.HealthCheckRequest]
) -> AsyncIterator[pb.HealthCheckResponse]:
    """Send the current status, and a new status whenever the readiness changes."""
    async for request in requests:
        known = not request.service or request.service in SERVICES
        told: int | None = None
        while True:
            status = _status(kernel) if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                told = status
                yield pb.HealthCheckResponse(status=status)
            await asyncio.sleep(_LOOK_EVERY_S)


def _status(kernel: Kernel) -> pb.HealthCheckResponse.ServingStatus:
    ready = kernel.readiness().ready
    return pb.HealthCheckResponse.SERVING if ready else pb.HealthCheckResponse.NOT_SERVING


METHODS: Final[tuple[Method, ...]] = (
    UnaryMethod(name=f"/{_SERVICE}/Check", scope=None, request=pb.HealthCheckRequest, answer=_check),
    StreamingMethod(name=f"/{_SERVICE}/Watch", scope=None, request=pb.HealthCheckRequest, answers=_watch),
)
