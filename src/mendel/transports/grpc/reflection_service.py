"""The gRPC reflection service, in its versions v1 and v1alpha, which tells clients the services and their messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb

from mendel.serving import Kernel
from mendel.transports.grpc.health_service import SERVICES
from mendel.transports.grpc.methods import Method, StreamingMethod

_V1ALPHA: Final = str(reflection.SERVICE_NAME)
_V1: Final = _V1ALPHA.replace("v1alpha", "v1")


def _describe_v1() -> None:
    """Add the descriptor of v1, whose messages are those of v1alpha, to the pool that reflection reads."""
    described = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(described)
    text = text_format.MessageToString(described).replace("v1alpha", "v1")
    descriptor_pool.Default().AddSerializedFile(
        text_format.Parse(text, descriptor_pb2.FileDescriptorProto()).SerializeToString()
    )


async def _info(
    _: Kernel, requests: AsyncIterator[pb.ServerReflectionRequest]
) -> AsyncIterator[pb.ServerReflectionResponse]:
    servicer: Any = reflection.ReflectionServicer((*SERVICES, _V1ALPHA, _V1))
    async for request in requests:
        for response in servicer.ServerReflectionInfo(iter((request,)), None):
            yield response


_describe_v1()
METHODS: Final[tuple[Method, ...]] = tuple(
    StreamingMethod(
        name=f"/{service}/ServerReflectionInfo", scope=None, request=pb.ServerReflectionRequest, answers=_info
    )
    for service in (_V1ALPHA, _V1)
)
