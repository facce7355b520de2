"""The declaration of the gRPC door."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from mendel.transports.door import Door, DoorContext, PortSetting

if TYPE_CHECKING:
    from mendel.serving import Kernel


def _open(kernel: Kernel, context: DoorContext) -> AbstractAsyncContextManager[object]:
    (listening,) = context.sockets
    if context.fast:
        from mendel.transports.grpc.fast_server import FastGrpcServer  # noqa: PLC0415

        return FastGrpcServer(kernel, listening)
    from mendel.transports.grpc.server import GrpcServer  # noqa: PLC0415

    return GrpcServer(kernel, listening, scratch=context.scratch)


GRPC: Final = Door(
    name="grpc", title="gRPC", ports=PortSetting(key="grpc_port", default=7212), open=_open, has_fast_form=True
)
