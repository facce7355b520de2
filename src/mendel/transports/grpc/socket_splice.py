"""
Joins an inherited listening socket to a server that can only bind its own.

grpcio cannot accept from a socket that somebody else bound, and two servers on one port by SO_REUSEPORT would hide a
port in use. So grpcio listens on a private unix socket, and this accepts from the real one and pumps bytes both ways.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast


class Splice:
    """Joins every connection that *listening* accepts to the unix socket at *path*."""

    def __init__(self, listening: socket.socket, path: str) -> None:
        self._listening, self._path = listening, path
        self._sides: set[_Side] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Begin to accept."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Side(self._sides, self._join), sock=self._listening)

    def stop_accepting(self) -> None:
        """Close the listening socket; joined connections go on."""
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """End every connection."""
        for task in self._joining:
            task.cancel()
        for side in list(self._sides):
            side.close()

    def _join(self, outer: _Side) -> None:
        task = asyncio.ensure_future(self._connect(outer))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _connect(self, outer: _Side) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, inner = await loop.create_unix_connection(lambda: _Side(self._sides), self._path)
        except OSError:
            outer.close()  # the server is closing; the client sees a closed connection and comes again
            return
        if outer not in self._sides:  # the client went away meanwhile
            inner.close()
            return
        inner.meet(outer)
        outer.meet(inner)


class _Side(asyncio.Protocol):
    """One end of a joined pair: what it reads, its peer writes, no faster than the peer can."""

    def __init__(self, sides: set[_Side], join: object = None) -> None:
        self._sides, self._join = sides, join
        self._transport: asyncio.Transport | None = None
        self._early = b""  # a server speaks first, and uvloop reads on through a pause in connection_made
        self.peer: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sides.add(self)
        if callable(self._join):
            self._join(self)

    def meet(self, peer: _Side) -> None:
        """Hand over what came before there was a peer, and go on."""
        self.peer = peer
        peer.write(self._early)
        self._early = b""
        self.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self._early += data
            self.pause_reading()
        else:
            self.peer.write(data)

    def eof_received(self) -> None:
        self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._sides.discard(self)
        if self.peer is not None:
            self.peer.close()

    def pause_writing(self) -> None:
        if self.peer is not None:
            self.peer.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None:
            self.peer.resume_reading()

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
