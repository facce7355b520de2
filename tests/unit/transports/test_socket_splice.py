"""Forwarded connections end without loss."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mendel.transports.socket_splice import Splice
from support.doors import listening

LARGE = 4 << 20


@asynccontextmanager
async def forwarded(serve) -> AsyncIterator[tuple[Splice, int]]:
    """A splice before a server on a unix socket, and the port of the splice."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "s")
        server = await asyncio.start_unix_server(serve, path)
        listener = listening()
        splice = Splice(listener, path)
        await splice.open()
        try:
            yield splice, listener.getsockname()[1]
        finally:
            splice.stop_accepting()
            splice.cut()
            server.close()


@pytest.mark.parametrize("finishing", [False, True], ids=["connection", "server"])
async def test_an_answer_arrives_whole_when_the_end_meets_unread_bytes(finishing):
    """The server answers and closes while the caller still sends: every byte of the answer arrives."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(bytes(LARGE))
        await writer.drain()
        writer.close()

    async with forwarded(serve) as (splice, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(bytes(LARGE))
        got = await reader.readexactly(LARGE // 2)
        if finishing:
            splice.stop_accepting()
            waiting = asyncio.create_task(splice.finish())
        got += await asyncio.wait_for(reader.read(-1), 20)
        assert len(got) == LARGE
        writer.close()
        if finishing:
            await asyncio.wait_for(waiting, 20)
