"""All gRPC methods of a server. To add a method, add its declaration to the table of its service."""

from __future__ import annotations

from typing import Final

from mendel.transports.grpc import health_service, modelops_service, reflection_service, v2_extensions, v2_service
from mendel.transports.grpc.methods import Method

METHODS: Final[tuple[Method, ...]] = (
    *v2_service.METHODS,
    *v2_extensions.METHODS,
    *modelops_service.METHODS,
    *health_service.METHODS,
    *reflection_service.METHODS,
)
