"""Endpoints that predict, in two halves: from a request to a call of the kernel, and from the answer to a response."""

from __future__ import annotations

from collections.abc import Callable

from mendel.serving import InferenceAnswer, InferenceCall
from mendel.transports.rest.http_messages import Request, Response
from mendel.transports.rest.route_table import RestContext

Encode = Callable[[InferenceAnswer], Response]
Asked = tuple[InferenceCall, Encode]
"""The call that a request makes, with the request as its ``caller``, and the function that writes the response."""

Decode = Callable[[RestContext, Request, bytes], Asked]


class PredictionEndpoint:
    """
    An endpoint that predicts the rows of a body.

    Called, it answers one request. A fast server takes both halves apart: it decodes the requests of one turn of the
    event loop, gives their calls to the kernel together, and encodes the answers of a batch together.

    Args:
        decode: The first half; it raises MendelError for a body that is no request. Its docstring is the endpoint's.
    """

    def __init__(self, decode: Decode) -> None:
        self.decode = decode
        self.__doc__ = decode.__doc__

    async def __call__(self, context: RestContext, request: Request) -> Response:
        """Answer *request*."""
        call, encode = self.decode(context, request, await request.body(context.kernel.policy.max_body_bytes))
        answer = await context.kernel.infer(call)
        request.model = answer.metadata.model
        return encode(answer)
