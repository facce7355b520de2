"""A child's end of the socket pair."""

from __future__ import annotations

import asyncio
import socket

from mendel.adapters.processes.worker_messages import MAX_LINE_BYTES, Message, from_line, to_line


class Channel:
    """Hears what the supervisor says, and answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, descriptor: int) -> Channel:
        """Take over an inherited descriptor."""
        return cls(*await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor), limit=MAX_LINE_BYTES))

    async def hear(self) -> Message | None:
        """The next message; None when the supervisor is gone."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return from_line(line) if line else None

    def say(self, message: Message) -> None:
        """Tell the supervisor, if it lives."""
        if not self._writer.is_closing():
            self._writer.write(to_line(message))

    def close(self) -> None:
        """Say no more."""
        self._writer.close()
