"""Refuse gRPC messages that cannot be decoded, or that have too many fields, with a status that blames the caller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError

from mendel.errors import TooLarge
from mendel.transports.grpc.message_size import check_message_size

if TYPE_CHECKING:
    _Interceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    _Interceptor = grpc.aio.ServerInterceptor
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Any]]
_REFUSAL = "The message is not of the type that the method takes."


@dataclass(frozen=True, slots=True)
class _Refused:
    """Takes the place of a message that was not decoded."""

    status: grpc.StatusCode
    reason: str


class MalformedMessages(_Interceptor):
    """
    Answers INVALID_ARGUMENT to a message that cannot be decoded; grpcio alone answers UNKNOWN, with a traceback.

    A message with too many fields is not decoded, because each field may cost far more memory than its bytes; the
    answer is RESOURCE_EXHAUSTED, as for a message with too many bytes.
    """

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
            check_message_size(message)
            return decode(message)
        except DecodeError:
            return _Refused(grpc.StatusCode.INVALID_ARGUMENT, _REFUSAL)
        except TooLarge as error:
            return _Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    return decoded


def _refusing(act: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def answer(request: Any, context: Any) -> Any:
        if isinstance(request, _Refused):
            await context.abort(request.status, request.reason)
        try:
            return await act(request, context)
        except grpc.aio.AbortError as error:
            del request
            raise _without_frames(error)  # noqa: B904 - the context is what keeps the message

    return answer


def _without_frames(error: grpc.aio.AbortError) -> grpc.aio.AbortError:
    """
    Release the frames of *error*, whose variables hold the caller's message.

    grpcio keeps the error in the state of the call, which the frames refer to: a message of 100 MiB would stay in
    memory until the next full garbage collection.
    """
    error.__context__ = None
    return error.with_traceback(None)


def _refusing_stream(act: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    async def answers(request: Any, context: Any) -> Any:
        if isinstance(request, _Refused):
            await context.abort(request.status, request.reason)
        async for answer in act(request, context):
            yield answer

    return answers
