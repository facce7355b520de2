"""Read the bodies of requests to the hub, with an upper bound on their size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mendel.errors import InvalidInput, TooLarge
from mendel.operations.binding import Message
from mendel.operations.operation import JSON, Operation, Place

_MAX_LENGTH_DIGITS = 18


@asynccontextmanager
async def received(operation: Operation[Any, Any], request: Request) -> AsyncIterator[Message]:
    """
    Read the path, query, headers and body of *request*; the uploaded files of a form are deleted on exit.

    Raises:
        TooLarge: The body is larger than the operation allows; the rest of the body is not read.
        InvalidInput: The operation takes a multipart form, and the body is not a multipart form.
    """
    form, body = FormData(), b""
    if operation.at(Place.FILE):
        form = await _form(operation, request)
    elif operation.has_body:
        body = b"".join([chunk async for chunk in bounded_stream(request, operation.body.max_bytes)])
    try:
        yield Message(
            path=request.path_params,
            query={name: tuple(request.query_params.getlist(name)) for name in request.query_params},
            headers=request.headers,
            body=body,
            texts={name: value for name, value in form.items() if isinstance(value, str)},
            files={name: value.file for name, value in form.items() if isinstance(value, UploadFile)},
        )
    finally:
        await form.close()


async def bounded_stream(request: Request, bound_bytes: int) -> AsyncGenerator[bytes, None]:
    """
    Yield the body of *request* in chunks.

    Raises:
        TooLarge: The Content-Length or the body exceeds *bound_bytes*; the rest of the body is not read.
        InvalidInput: The Content-Length is not a number.
    """
    said = request.headers.get("content-length", "0")
    if not (said.isascii() and said.isdigit()):
        raise InvalidInput(f"Content-Length {said[:40]!r} is not a number.")
    too_large = TooLarge(f"The request body is larger than {bound_bytes} bytes.")
    if len(said) > _MAX_LENGTH_DIGITS or int(said) > bound_bytes:
        raise too_large
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bound_bytes:
            raise too_large
        yield chunk


async def _form(operation: Operation[Any, Any], request: Request) -> FormData:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidInput(
            "The request body is not a multipart form.", remedy="Send the Content-Type multipart/form-data."
        )
    parser = MultiPartParser(
        request.headers,
        _size_error_as_form_error(bounded_stream(request, operation.body.max_bytes)),
        max_files=len(operation.at(Place.FILE)),
        max_fields=len(operation.at(Place.MEMBER)),
        max_part_size=JSON.max_bytes,
    )
    try:
        return await parser.parse()
    except MultiPartException as error:
        if isinstance(error.__cause__, TooLarge):
            raise error.__cause__ from None
        raise InvalidInput(f"The form cannot be read: {error.message}") from error


async def _size_error_as_form_error(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Convert TooLarge to MultiPartException, the only error on which the form parser closes its temporary files."""
    try:
        async for chunk in stream:
            yield chunk
    except TooLarge as error:
        raise MultiPartException(error.message) from error
