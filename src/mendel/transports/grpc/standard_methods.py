"""Serve the table of methods with grpcio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc

from mendel.serving import Kernel
from mendel.transports.grpc.call_handling import SEND_KEY, credential_of, failure_of
from mendel.transports.grpc.messages import MessageRefused, read_message
from mendel.transports.grpc.methods import Call, InferenceMethod, Method, StreamingMethod, UnaryMethod

if TYPE_CHECKING:
    _Handlers = grpc.GenericRpcHandler[Any, Any]
else:
    _Handlers = grpc.GenericRpcHandler


class StandardMethods(_Handlers):
    """Finds the handler of a method; handlers take and give encoded messages."""

    def __init__(self, kernel: Kernel, methods: Iterable[Method]) -> None:
        self._handlers = {method.name: _handler(kernel, method) for method in methods}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Give the handler; None for an unknown method, which grpcio answers with UNIMPLEMENTED."""
        return self._handlers.get(handler_call_details.method)


def _handler(kernel: Kernel, method: Method) -> Any:
    if isinstance(method, StreamingMethod):
        return grpc.stream_stream_rpc_method_handler(_streaming(kernel, method))
    return grpc.unary_unary_rpc_method_handler(_unary(kernel, method))


def _unary(kernel: Kernel, method: Method) -> Any:
    async def unary(message: bytes, context: Any) -> bytes:
        try:
            async with _answering(kernel, method, context) as call:
                return await _answer(kernel, method, message, call)
        except grpc.aio.AbortError as error:
            del message
            raise _without_frames(error)  # noqa: B904 - the context is what keeps the message

    return unary


async def _answer(kernel: Kernel, method: Method, message: bytes, call: Call) -> bytes:
    request = read_message(method.request, message)
    if isinstance(method, InferenceMethod):
        answer = await kernel.infer(method.decode(request, call, None))
        call.model = answer.metadata.model
        return method.encode(request, call, answer, {})
    assert isinstance(method, UnaryMethod)  # noqa: S101 - there is no fourth kind
    return (await method.answer(kernel, request, call)).SerializeToString()


def _streaming(kernel: Kernel, method: StreamingMethod) -> Any:
    async def streaming(messages: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        try:
            async for response in method.answers(kernel, _requests(method, messages)):
                yield response.SerializeToString()
        except MessageRefused as refused:
            await context.abort(refused.status, refused.text)

    return streaming


async def _requests(method: Method, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for message in messages:
        yield read_message(method.request, message)


@asynccontextmanager
async def _answering(kernel: Kernel, method: Method, context: Any) -> AsyncIterator[Call]:
    """
    Authorise a gRPC call, and convert an exception in the ``async with`` block to the gRPC status of the answer.

    The correlation id, unless empty, is sent to the client in the initial metadata.
    """
    began = kernel.steady()
    metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
    call = Call(
        correlation_id=kernel.correlation_id(metadata.get("x-request-id"), metadata.get("traceparent")),
        timeout=_left(context),
    )
    status = grpc.StatusCode.OK
    try:
        if call.correlation_id:
            await context.send_initial_metadata((("x-request-id", call.correlation_id),))
        kernel.authorize(credential_of(metadata), method.scope, remedy=SEND_KEY)
        yield call
    except (grpc.aio.AbortError, asyncio.CancelledError):
        status = grpc.StatusCode.CANCELLED
        raise
    except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the server
        failure = failure_of(error, method, call.correlation_id)
        status = failure.status
        await context.abort(status, failure.text, failure.metadata)
    finally:
        kernel.answered("gRPC", method.name, status.name, call.model, kernel.steady() - began)


def _left(context: Any) -> timedelta | None:
    remaining = context.time_remaining()
    return None if remaining is None else timedelta(seconds=max(0.0, min(remaining, 1e6)))


def _without_frames(error: grpc.aio.AbortError) -> grpc.aio.AbortError:
    """
    Release the frames of *error*, whose variables hold the caller's message.

    grpcio keeps the error in the state of the call, which the frames refer to: a message of 100 MiB would stay in
    memory until the next full garbage collection.
    """
    error.__context__ = None
    return error.with_traceback(None)
