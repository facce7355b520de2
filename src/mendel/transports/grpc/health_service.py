"""The gRPC health service ``grpc.health.v1.Health``, which reports whether the kernel is ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
from grpc_health.v1 import health_pb2 as pb
from grpc_health.v1 import health_pb2_grpc as stubs

from mendel.serving import Kernel
from mendel.transports.grpc.call_handling import Method

METHODS = {name: Method(name=f"/grpc.health.v1.Health/{name}", scope=None) for name in ("Check", "Watch")}


class Health(stubs.HealthServicer):  # type: ignore[misc]
    """
    The implementation of ``grpc.health.v1.Health``.

    Args:
        services: The names of the server's gRPC services; the empty name, for the whole server, is always known.
        look_every: The interval at which ``Watch`` checks the readiness for changes.
    """

    def __init__(
        self, kernel: Kernel, services: frozenset[str], *, look_every: timedelta = timedelta(milliseconds=250)
    ) -> None:
        self._kernel, self._services, self._look_every = kernel, services, look_every

    async def Check(self, request: pb.HealthCheckRequest, context: Any) -> pb.HealthCheckResponse:  # noqa: N802 - the service's
        """Give SERVING when the kernel is ready, else NOT_SERVING; fails with NOT_FOUND for an unknown service."""
        if request.service and request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"This server has no gRPC service {request.service!r}.")
        return pb.HealthCheckResponse(status=self._status())

    async def Watch(self, request: pb.HealthCheckRequest, _: Any) -> AsyncIterator[pb.HealthCheckResponse]:  # noqa: N802
        """Send the current status, and a new status whenever the readiness changes."""
        told: int | None = None
        while True:
            known = not request.service or request.service in self._services
            status = self._status() if known else pb.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                told = status
                yield pb.HealthCheckResponse(status=status)
            await asyncio.sleep(self._look_every.total_seconds())

    def _status(self) -> pb.HealthCheckResponse.ServingStatus:
        ready = self._kernel.readiness().ready
        return pb.HealthCheckResponse.SERVING if ready else pb.HealthCheckResponse.NOT_SERVING
