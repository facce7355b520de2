"""
Forward connections from a listening socket to a server on a unix socket.

grpcio cannot accept connections from a socket that the parent process bound, and with SO_REUSEPORT two servers could
share a port unnoticed. Therefore grpcio listens on a private unix socket; this module accepts connections from the
inherited socket and copies bytes in both directions. libzmq stands behind it too, because libzmq does not limit the
frames of a message.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

_LAST_BYTES_S: Final = 5.0
"""How long a caller may take for the last bytes of a connection that the server has ended."""

Filter = Callable[[bytes], bytes | None]
"""Gives the bytes to pass on for bytes that a caller sent; None closes the connection."""


class Splice:
    """
    Forwards every connection that the socket *listening* accepts to the unix socket at *path*.

    Args:
        make_filter: Makes the filter of the bytes that a new caller sends; None passes all bytes on.
        max_connections: The largest number of connections; a further one is closed at once. None means no limit.
    """

    def __init__(
        self,
        listening: socket.socket,
        path: str,
        *,
        make_filter: Callable[[], Filter] | None = None,
        max_connections: int | None = None,
    ) -> None:
        self._listening, self._path, self._make_filter = listening, path, make_filter
        self._max_connections = max_connections
        self._sides: set[_Side] = set()
        self._joining: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Start to accept connections; the caller must be in a running event loop."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._caller, sock=self._listening)

    def _caller(self) -> _Side:
        return _Side(self._sides, self._join, None if self._make_filter is None else self._make_filter())

    def stop_accepting(self) -> None:
        """Close the listening socket; accepted connections stay open."""
        if self._server is not None:
            self._server.close()

    async def finish(self) -> None:
        """Close every connection when its last bytes are sent, or after some seconds."""
        if ends := [side.lost for side in self._sides]:
            await asyncio.wait(ends, timeout=_LAST_BYTES_S)
        self.cut()

    def cut(self) -> None:
        """Close every connection."""
        for task in self._joining:
            task.cancel()
        for side in list(self._sides):
            side.close()

    def _join(self, outer: _Side) -> None:
        if self._max_connections is not None and len(self._sides) > 2 * self._max_connections:
            outer.close()  # each connection has two sides
            return
        task = asyncio.ensure_future(self._connect(outer))
        self._joining.add(task)
        task.add_done_callback(self._joining.discard)

    async def _connect(self, outer: _Side) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, inner = await loop.create_unix_connection(lambda: _Side(self._sides), self._path)
        except OSError:
            outer.close()  # the gRPC server is closing; the client sees a closed connection and reconnects
            return
        if outer not in self._sides:  # the client disconnected meanwhile
            inner.close()
            return
        inner.meet(outer)
        outer.meet(inner)


class _Side(asyncio.Protocol):
    """One connection of a forwarded pair: bytes read here are written to ``peer``, with back pressure."""

    def __init__(
        self, sides: set[_Side], join: Callable[[_Side], None] | None = None, filter_: Filter | None = None
    ) -> None:
        self._sides, self._join, self._filter = sides, join, filter_
        self._transport: asyncio.Transport | None = None
        self._early = b""  # bytes read before peer is set; pausing in connection_made does not stop uvloop
        self._ended = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.peer: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._sides.add(self)
        if self._join is not None:
            self._join(self)

    def meet(self, peer: _Side) -> None:
        """Set the other connection of the pair, write the bytes read so far to it, and resume reading."""
        self.peer = peer
        peer.write(self._early)
        self._early = b""
        self.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._filter is not None:
            filtered = self._filter(data)
            if filtered is None:
                self.close()
                return
            data = filtered
        if self.peer is None:
            self._early += data
            self.pause_reading()
        else:
            self.peer.write(data)

    def eof_received(self) -> None:
        self.close()

    def connection_lost(self, _: Exception | None) -> None:
        self._sides.discard(self)
        self.lost.set_result(None)
        if self.peer is not None:
            self.peer.end()

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

    def end(self) -> None:
        """
        Send what is left and end the connection when the other end has closed it too, or after some seconds.

        To close a socket with unread bytes resets the connection, and what the other end has not received is lost.
        """
        if self._transport is None or self._transport.is_closing():
            return
        self._ended = True
        self._transport.write_eof()
        self._transport.resume_reading()
        late = asyncio.get_running_loop().call_later(_LAST_BYTES_S, self.close)
        self.lost.add_done_callback(lambda _: late.cancel())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
