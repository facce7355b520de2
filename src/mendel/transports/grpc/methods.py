"""What a gRPC method is; both forms of the gRPC server are made from a table of methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message

from mendel.serving import Caller, InferenceAnswer, InferenceCall, Kernel
from mendel.values import Scope


@dataclass(slots=True, kw_only=True)
class Call:
    """
    The state of one gRPC call.

    Attributes:
        timeout: The time left until the client's deadline; None when the client set no deadline.
        model: The model's name, which the method sets for the metrics; None until then.
        single: Whether the request was one record in plain JSON, so that the answer is one flat object.
    """

    correlation_id: str
    timeout: timedelta | None
    model: str | None = None
    single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """
    A gRPC method.

    Attributes:
        name: The path, ``/package.Service/Method``.
        scope: The scope that the callers' API key needs; None means that no key is needed.
        request: The type of the request messages.
    """

    name: str
    scope: Scope | None
    request: type[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnaryMethod(Method):
    """A method with one request and one response."""

    answer: Callable[[Kernel, Any, Call], Awaitable[Message]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingMethod(Method):
    """A method with several requests or several responses; calls are not counted in the metrics."""

    answers: Callable[[Kernel, AsyncIterator[Any]], AsyncIterator[Message]]


Decode = Callable[[Any, Call, Caller | None], InferenceCall]
Encode = Callable[[Any, Call, InferenceAnswer, dict[Any, bytes]], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceMethod(Method):
    """
    A method that predicts; the fast form answers several of its calls at once.

    Attributes:
        decode: Turns a request message into a call of the kernel. Its last argument becomes the caller's mark.
        encode: Gives the encoded response to a request message. Its last argument keeps the constant parts of the
            responses of one batch.
    """

    decode: Decode
    encode: Encode
