"""What a protocol on HTTP/2 offers to its connections, and what the connections of a server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from mendel.transports.http2.request_headers import Request
    from mendel.transports.http2.stream import Refusal, Stream

SMALL_BODY_BYTES: Final = 1 << 16
"""Larger bodies are refused first when the bodies in memory are too many."""


class Application(Protocol):
    """
    Answers the requests of connections; all calls come on the event loop, and no method may raise or block.

    For every stream that was handed over, the application answers with the methods of ``stream.connection``, or, if
    ``stream.closed``, calls ``stream.connection.release(stream)``.
    """

    def head(self, request: Request) -> Any:
        """
        Make the application's view of the headers.

        Its attribute ``refusal``, unless None, asks for :meth:`rejected`; its attribute ``streams`` asks for
        :meth:`opened`.
        """

    def rejected(self, stream: Stream) -> None:
        """Answer a request whose headers suffice to refuse it; its body is not read."""

    def admits(self, stream: Stream) -> bool:
        """Tell whether a body of several parts is to be read; if not, the request has been answered."""

    def opened(self, stream: Stream) -> None:
        """Take over a request whose body is read as it arrives; set ``stream.sink``."""

    def completed(self, stream: Stream) -> None:
        """Take over a request that is complete; with a sink, the end of its body."""

    def refused(self, stream: Stream, refusal: Refusal) -> None:
        """Answer a request of which no more is read."""

    def cancelled(self, stream: Stream) -> None:
        """Note that the peer reset a stream that was handed over, or closed its connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What connections may take; times in seconds.

    Attributes:
        header_bytes: The largest size of the headers of a request.
        header_timeout: The time in which a header block, or the preface, must arrive.
        body_bytes: The largest body.
        body_timeout: The time in which a body must arrive, and in which the peer must take a part of a response.
        memory_bytes: The most bytes in all bodies of several frames; twice as many before small bodies are refused.
        idle_timeout: After this time without a request a connection is closed.
        max_age: After this time the peer is asked to open a new connection.
        drain_timeout: How long the requests of a connection that ends may take.
        max_connections: The largest number of connections.
        max_streams: The largest number of requests at once on one connection.
        max_all_streams: The largest number of requests at once on all connections.
        max_handshakes: The largest number of connections that have not ended their handshake of TLS.
    """

    header_bytes: int
    header_timeout: float
    body_bytes: int
    body_timeout: float
    memory_bytes: int
    idle_timeout: float
    max_age: float
    drain_timeout: float
    max_connections: int
    max_streams: int = 1024
    max_all_streams: int = 1 << 16
    max_handshakes: int = 1024


class Flushes:
    """Writes what connections produced in one turn of the event loop with one call per connection."""

    __slots__ = ("_loop", "_scheduled", "_touched")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._touched: list[Callable[[], None]] = []
        self._scheduled = False

    def add(self, flush: Callable[[], None]) -> None:
        """Call *flush* at the end of this turn of the event loop, or in :meth:`run`."""
        self._touched.append(flush)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._later)

    def run(self) -> None:
        """Write everything now."""
        touched, self._touched = self._touched, []
        for place, flush in enumerate(touched):
            try:
                flush()
            except BaseException:
                self._touched += touched[place + 1 :]  # the fault of one connection does not keep others from writing
                self._loop.call_soon(self._later)
                raise

    def _later(self) -> None:
        self._scheduled = False
        self.run()


class Shared:
    """
    What the connections of one server share.

    Attributes:
        steady: A monotonic clock in seconds.
        streams: The requests at once, those included that the peer has reset and the application still works on.
        body_bytes: The bytes of bodies of several frames whose requests have not been answered, of large headers, and
            of header blocks that have not ended.
    """

    __slots__ = ("application", "body_bytes", "flushes", "limits", "loop", "steady", "streams")

    def __init__(
        self,
        application: Application,
        limits: Limits,
        loop: asyncio.AbstractEventLoop,
        steady: Callable[[], float],
    ) -> None:
        self.application, self.limits, self.loop, self.steady = application, limits, loop, steady
        self.flushes = Flushes(loop)
        self.streams = self.body_bytes = 0
