"""Answer gRPC calls on our own HTTP/2 connections: inference calls in groups, other calls in tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc

from mendel.errors import DeadlineExceeded, MendelError
from mendel.serving import Answered, InferenceAnswer, InferenceCall, Kernel
from mendel.transports.content_encoding import QUICK_BYTES
from mendel.transports.grpc.call_handling import SEND_KEY, failure_of
from mendel.transports.grpc.compression import decompress
from mendel.transports.grpc.fast_streams import StreamCalls
from mendel.transports.grpc.framing import INITIAL, framed, only_message, trailers, trailers_only
from mendel.transports.grpc.messages import MessageRefused, read_message
from mendel.transports.grpc.methods import Call, InferenceMethod, Method, UnaryMethod
from mendel.transports.grpc.request_head import RequestHead
from mendel.transports.http2.header_blocks import encode_text
from mendel.transports.http2.request_headers import Request
from mendel.transports.http2.stream import Refusal, Stream
from mendel.values import Scope

_OK: Final = trailers(grpc.StatusCode.OK)
_INITIAL_WITH_ID: Final = INITIAL + b"\0" + encode_text(b"x-request-id")
_REFUSED: Final[dict[Refusal, tuple[grpc.StatusCode, str, list[tuple[str, str]]]]] = {
    Refusal.HEADERS_TOO_LARGE: (grpc.StatusCode.RESOURCE_EXHAUSTED, "The headers of the call are too large.", []),
    Refusal.BODY_TOO_LARGE: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "The message is larger than this server accepts.",
        [],
    ),
    Refusal.TOO_MUCH_MEMORY: (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "The server is reading too many large messages.",
        [("retry-after-ms", "1000")],
    ),
    Refusal.BODY_TOO_SLOW: (grpc.StatusCode.DEADLINE_EXCEEDED, "The message did not arrive in time.", []),
}
_MOST_DECOMPRESSED: Final = 2
"""The most large messages that are decompressed at once."""
_NO_MEMORY: Final = "The server holds too many large messages."
_Allowed = dict[tuple[str | None, Scope | None], MendelError | None]


@dataclass(slots=True, kw_only=True)
class _FastCall(Call):
    """A call with its decoded request."""

    request: Any = None


class FastCalls:
    """
    The application on our HTTP/2 connections.

    The inference calls of all connections that are complete within one turn of the event loop go to the kernel
    together.
    """

    def __init__(self, kernel: Kernel, methods: Iterable[Method], loop: asyncio.AbstractEventLoop) -> None:
        self._kernel, self._loop = kernel, loop
        self._methods = {method.name.encode(): method for method in methods}
        self._ready: list[Stream] = []
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._streams = StreamCalls(kernel)
        self._decompressing = asyncio.Semaphore(_MOST_DECOMPRESSED)

    def stop(self) -> None:
        """End the calls that do not end by themselves."""
        self._streams.stop()

    def head(self, request: Request) -> RequestHead:
        """Read the headers of a request."""
        return RequestHead(request, self._methods)

    def opened(self, stream: Stream) -> None:
        """Begin a streaming call."""
        self._streams.open(stream)

    def completed(self, stream: Stream) -> None:
        """Take a call whose message has arrived."""
        head: RequestHead = stream.request.head
        if head.streams:
            self._streams.end(stream)
        elif head.compression is not None and len(stream.body or b"") > QUICK_BYTES:
            self._start(stream, self._decompressed(stream))
        else:
            self._accept(stream)

    def refused(self, stream: Stream, refusal: Refusal) -> None:
        """Answer a call of which no more is read."""
        status, text, metadata = _REFUSED[refusal]
        stream.connection.respond_empty(stream, trailers_only(status, text, metadata))
        self._count_refusal(stream, status.name)

    def rejected(self, stream: Stream) -> None:
        """Answer a call whose headers suffice to refuse it."""
        head: RequestHead = stream.request.head
        assert head.refusal is not None  # noqa: S101 - else the call is not rejected
        stream.connection.respond_empty(stream, head.refusal)
        self._count_refusal(stream, head.refused_as)

    def admits(self, stream: Stream) -> bool:
        """Tell whether the caller may call the method; if not, the call is answered before its message is here."""
        try:
            self._request_denied(stream.request.head)
        except MendelError as error:
            self._fail(stream, error)
            return False
        return True

    def cancelled(self, stream: Stream) -> None:
        """Stop the work for a call; inference calls of which the kernel has begun nothing are not predicted."""
        task = self._tasks.get(stream)
        if task is not None:
            task.cancel()
        else:
            self._streams.cancel(stream)

    def _accept(self, stream: Stream) -> None:
        if isinstance(stream.request.head.method, InferenceMethod):
            if not self._ready:
                self._loop.call_soon(self._submit)
            self._ready.append(stream)
        else:
            self._start(stream, self._unary(stream))

    def _start(self, stream: Stream, work: Coroutine[Any, Any, None]) -> None:
        task = self._tasks[stream] = self._loop.create_task(work)
        task.add_done_callback(lambda task: self._ended(stream, task))

    def _ended(self, stream: Stream, task: asyncio.Task[None]) -> None:
        self._tasks.pop(stream, None)
        if task.cancelled():  # before its first step, so that it could not release the stream
            stream.connection.release(stream)

    def _submit(self) -> None:
        """Hand the inference calls of this turn to the kernel."""
        streams, self._ready = self._ready, []
        allowed: _Allowed = {}
        now = self._kernel.steady()
        calls = []
        for stream in streams:
            if stream.closed:
                stream.connection.release(stream)
                continue
            try:
                calls.append(self._inference(stream, now, allowed))
            except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the server
                self._fail(stream, error)
        if calls:
            self._kernel.submit_many(calls, self._done)

    def _inference(self, stream: Stream, now: float, allowed: _Allowed) -> InferenceCall:
        call = self._call(stream, now)
        method = stream.request.head.method
        call.request = self._request(stream, allowed)
        inference: InferenceCall = method.decode(call.request, call, stream)
        return inference

    def _call(self, stream: Stream, now: float) -> _FastCall:
        """Begin the state of a call."""
        head: RequestHead = stream.request.head
        call = stream.work = _FastCall(
            correlation_id=self._kernel.correlation_id(head.request_id, head.traceparent),
            timeout=head.left(now - stream.began),
        )
        return call

    def _request(self, stream: Stream, allowed: _Allowed) -> Any:
        """Authorise a call and decode its message."""
        head: RequestHead = stream.request.head
        assert head.method is not None  # noqa: S101 - else there is a refusal
        who = (head.credential, head.method.scope)
        if who not in allowed:
            allowed[who] = self._denial(*who)
        if (denial := allowed[who]) is not None:
            raise denial.with_traceback(None)
        compressed, message = only_message(stream.body)
        stream.body = None
        if compressed:
            content = self._decompress(message, head.compression)
            _hold(stream, len(content))
            return read_message(head.method.request, content)
        return read_message(head.method.request, message)

    def _request_denied(self, head: RequestHead) -> None:
        """Raise the error of a caller that may not call the method, before anything is done for its message."""
        assert head.method is not None  # noqa: S101 - else there is a refusal
        if (denial := self._denial(head.credential, head.method.scope)) is not None:
            raise denial

    def _denial(self, credential: str | None, scope: Scope | None) -> MendelError | None:
        try:
            self._kernel.authorize(credential, scope, remedy=SEND_KEY)
        except MendelError as error:
            return error
        return None

    def _decompress(self, message: bytes | memoryview, compression: str | None) -> bytes:
        return decompress(message, compression, self._kernel.policy.max_body_bytes)

    async def _decompressed(self, stream: Stream) -> None:
        """Decompress a large message in a thread, then go on with the call."""
        head: RequestHead = stream.request.head
        try:
            self._request_denied(head)
            compressed, message = only_message(stream.body)
            if compressed:
                async with self._decompressing:
                    content = await asyncio.to_thread(self._decompress, message, head.compression)
                _hold(stream, len(content))
                stream.body = framed(content)
        except asyncio.CancelledError:
            stream.connection.release(stream)
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the server
            self._fail(stream, error)
        else:
            if isinstance(stream.request.head.method, InferenceMethod):
                self._accept(stream)
            else:
                await self._unary(stream)

    async def _unary(self, stream: Stream) -> None:
        call, method = self._call(stream, self._kernel.steady()), stream.request.head.method
        assert isinstance(method, UnaryMethod)  # noqa: S101 - inference and streaming calls go other ways
        try:
            request = self._request(stream, {})
            if call.timeout is not None and not call.timeout:
                raise TimeoutError  # noqa: TRY301 - answered below like a deadline that passes later
            async with asyncio.timeout(None if call.timeout is None else call.timeout.total_seconds()):
                message = (await method.answer(self._kernel, request, call)).SerializeToString()
        except asyncio.CancelledError:
            stream.connection.release(stream)
            self._count(stream, grpc.StatusCode.CANCELLED)
        except TimeoutError:
            self._fail(stream, DeadlineExceeded("The deadline of the call passed before its answer."))
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the server
            self._fail(stream, error)
        else:
            stream.connection.respond(stream, _initial(call), framed(message), _OK)
            self._count(stream, grpc.StatusCode.OK)

    def _count_refusal(self, stream: Stream, status: str) -> None:
        """Count a call that was refused before its message was here; the name of an unknown method is left out."""
        method = stream.request.head.method
        seconds = self._kernel.steady() - stream.began
        self._kernel.answered("gRPC", "" if method is None else method.name, status, None, seconds)

    def _count(self, stream: Stream, status: grpc.StatusCode) -> None:
        seconds = self._kernel.steady() - stream.began
        self._kernel.answered("gRPC", stream.request.head.method.name, status.name, stream.work.model, seconds)

    def _fail(self, stream: Stream, error: Exception) -> None:
        """Answer one call with the status of *error*."""
        status = self._send_failure(stream, error)
        self._count(stream, status)

    def _send_failure(self, stream: Stream, error: Exception) -> grpc.StatusCode:
        call: _FastCall = stream.work or self._call(stream, self._kernel.steady())
        failure = failure_of(error, stream.request.head.method, call.correlation_id)
        stream.connection.start(stream, _initial(call))
        stream.connection.end(stream, trailers(failure.status, failure.text, failure.metadata))
        return failure.status

    def _done(self, answered: Sequence[Answered]) -> None:
        """Answer the calls that the kernel gives back together."""
        constants: dict[Any, bytes] = {}
        ended: dict[tuple[str, grpc.StatusCode, str | None], list[float]] = {}
        now = self._kernel.steady()
        for inference, result in answered:
            stream: Any = inference.caller
            try:
                status = self._answer(stream, result, constants)
            except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the others
                status = self._give_up(stream, error)
            key = (stream.request.head.method.name, status, stream.work.model)
            ended.setdefault(key, []).append(now - stream.began)
        for (method, status, model), seconds in ended.items():
            self._kernel.answered_many("gRPC", method, status.name, model, seconds)

    def _give_up(self, stream: Stream, error: Exception) -> grpc.StatusCode:
        """End a call whose answer, or whose error, cannot be encoded."""
        failure = failure_of(RuntimeError(type(error).__name__), stream.request.head.method, "")
        stream.connection.end(stream, trailers(failure.status, failure.text, failure.metadata))
        return failure.status

    def _answer(
        self, stream: Stream, result: InferenceAnswer | Exception, constants: dict[Any, bytes]
    ) -> grpc.StatusCode:
        if stream.closed:
            stream.connection.release(stream)
            return grpc.StatusCode.CANCELLED
        if isinstance(result, Exception):
            return self._send_failure(stream, result)
        call: _FastCall = stream.work
        call.model = result.metadata.model
        try:
            message = stream.request.head.method.encode(call.request, call, result, constants)
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the others
            return self._send_failure(stream, error)
        call.request = None  # the response may wait for the peer, the request need not
        stream.connection.respond(stream, _initial(call), framed(message), _OK)
        return grpc.StatusCode.OK


def _hold(stream: Stream, size: int) -> None:
    """Count *size* more bytes of a call as memory of the server, until its response is sent."""
    if not stream.connection.hold(stream, size):
        raise MessageRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, _NO_MEMORY)


def _initial(call: Call) -> bytes:
    """Give the header block before the messages of a response."""
    return _INITIAL_WITH_ID + encode_text(call.correlation_id.encode()) if call.correlation_id else INITIAL
