"""Answer gRPC messages that cannot be decoded with INVALID_ARGUMENT instead of an error of the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = grpc.aio.ServerInterceptor
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
_REFUSAL = "The message is not of the type that the method takes."


class _Malformed:
    """Takes the place of a message that could not be decoded."""


class MalformedMessages(_Interceptor):
    """Answers INVALID_ARGUMENT to a message that cannot be decoded; grpcio alone answers UNKNOWN, with a traceback."""

    async def intercept_service(self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Wrap the method's handler, if there is one that takes a single message."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        decode = _tolerant(handler.request_deserializer)
        if handler.response_streaming:
            stream = _refusing_stream(handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(stream, decode, handler.response_serializer)
        unary = _refusing(handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(unary, decode, handler.response_serializer)


def _tolerant(decode: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decoded(message: bytes) -> Any:
        try:
            return decode(message)
        except DecodeError:
            return _Malformed()

    return decoded


def _refusing(act: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, _Malformed):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)
        return await act(request, context)

    return answer


def _refusing_stream(act: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    async def answers(request: Any, context: Any) -> Any:
        if isinstance(request, _Malformed):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)
        async for answer in act(request, context):
            yield answer

    return answers
