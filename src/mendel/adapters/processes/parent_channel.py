"""The child's end of the message channel to the supervisor."""

from __future__ import annotations

import asyncio
import socket

from mendel.adapters.processes.worker_messages import MAX_LINE_BYTES, Message, from_line, to_line


class Channel:
    """Receives messages from the supervisor and sends messages to it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, descriptor: int) -> Channel:
        """Open the channel on an inherited file descriptor."""
        return cls(*await asyncio.open_unix_connection(sock=socket.socket(fileno=descriptor), limit=MAX_LINE_BYTES))

    async def hear(self) -> Message | None:
        """Wait for the next message; None when the supervisor has ended."""
        try:
            line = await self._reader.readline()
        except ConnectionError:
            return None
        return from_line(line) if line else None

    def say(self, message: Message) -> None:
        """Send *message* to the supervisor; dropped if the supervisor has ended."""
        if not self._writer.is_closing():
            self._writer.write(to_line(message))

    def close(self) -> None:
        self._writer.close()
