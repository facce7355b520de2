"""Bodies of requests, nouns to responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import fields
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from starlette.responses import Response

from mendel.errors import InvalidInput, InvalidValue, TooLarge
from mendel.values import from_builtins, from_json, to_json, unknown_key_message

T = TypeVar("T")

MAX_NOUN_BYTES = 4 << 20


class NounResponse(Response):
    """One noun as JSON, in the house's one encoding."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Encode *content*."""
        return to_json(content)


async def bounded_stream(request: Request, bound_bytes: int) -> AsyncGenerator[bytes, None]:
    """
    The body of *request*, piece by piece.

    Raises:
        TooLarge: It says or turns out to be larger than the bound; the rest is not read.
        InvalidInput: Its Content-Length is not a number.
    """
    said = request.headers.get("content-length", "0")
    if not (said.isascii() and said.isdigit()):
        raise InvalidInput(f"Content-Length {said!r} is not a number.")
    too_large = TooLarge(f"The body is larger than {bound_bytes} bytes.")
    if int(said) > bound_bytes:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bound_bytes:
            raise too_large
        yield chunk


async def bounded_body(request: Request, bound_bytes: int) -> bytes:
    """
    The body of *request*.

    Raises:
        TooLarge: It is larger than the bound; the rest is not read.
    """
    return b"".join([chunk async for chunk in bounded_stream(request, bound_bytes)])


def noun_of(body: bytes | str, kind: type[T]) -> T:
    """
    Decode what a person or a program asks for: a key nobody reads is refused, since it might have meant something.

    Raises:
        InvalidValue: Not JSON, an unknown key (with the nearest known one), or it does not fit.
    """
    document = from_json(body, dict[str, Any])
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in document:
        if key not in known:
            raise InvalidValue(unknown_key_message(key, known, kind.__name__))
    return from_builtins(document, kind)


async def _noun_body(request: Request) -> bytes:
    return await bounded_body(request, MAX_NOUN_BYTES)


NounBody = Annotated[bytes, Depends(_noun_body)]
"""
The bounded body of a request, read before its synchronous route runs in the thread pool.

Routes take it after their scope: what a stranger sends is not read.
"""
