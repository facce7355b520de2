"""Bodies of requests, nouns to responses."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from starlette.responses import Response

from mendel.errors import TooLarge
from mendel.values import to_json

MAX_NOUN_BYTES = 4 << 20


class NounResponse(Response):
    """One noun as JSON, in the house's one encoding."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode *content*."""
        return to_json(content)


async def bounded_body(request: Request, bound_bytes: int) -> bytes:
    """
    The body of *request*.

    Raises:
        TooLarge: It is larger than the bound; the rest is not read.
    """
    parts, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bound_bytes:
            raise TooLarge(f"The body is larger than {bound_bytes} bytes.")
        parts.append(chunk)
    return b"".join(parts)


async def _noun_body(request: Request) -> bytes:
    return await bounded_body(request, MAX_NOUN_BYTES)


NounBody = Annotated[bytes, Depends(_noun_body)]
"""The bounded body of a request, read before its synchronous route runs in the thread pool."""
