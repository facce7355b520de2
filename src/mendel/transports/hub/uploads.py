"""Uploads: a multipart form that is read only after its sender was let in, and never beyond its bound."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from mendel.errors import InvalidInput, TooLarge
from mendel.transports.hub.answers import MAX_NOUN_BYTES, bounded_stream


@dataclass(frozen=True, slots=True)
class Upload:
    """The parts of a form by name."""

    form: FormData

    def text(self, name: str) -> str:
        """
        The text part *name*.

        Raises:
            InvalidInput: There is none.
        """
        value = self.form.get(name)
        if not isinstance(value, str):
            raise InvalidInput(f"The form has no text part {name!r}.")
        return value

    def file(self, name: str) -> BinaryIO | None:
        """The file part *name*, or None."""
        value = self.form.get(name)
        return value.file if isinstance(value, UploadFile) else None


@asynccontextmanager
async def uploaded(request: Request, bound_bytes: int) -> AsyncIterator[Upload]:
    """
    The multipart form of *request*; its files are gone afterwards.

    Raises:
        TooLarge: It is larger than the bound; the rest is not read.
        InvalidInput: It is no such form.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InvalidInput("The body is not a form.", remedy="Send multipart/form-data.")
    parser = MultiPartParser(
        request.headers,
        _told_as_its_own(bounded_stream(request, bound_bytes)),
        max_files=2,
        max_fields=1,
        max_part_size=MAX_NOUN_BYTES,
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if isinstance(error.__cause__, TooLarge):
            raise error.__cause__ from None
        raise InvalidInput(f"The form cannot be read: {error.message}") from error
    try:
        yield Upload(form)
    finally:
        await form.close()


async def _told_as_its_own(stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The parser closes the files it has begun only for errors of its own."""
    try:
        async for chunk in stream:
            yield chunk
    except TooLarge as error:
        raise MultiPartException(error.message) from error
