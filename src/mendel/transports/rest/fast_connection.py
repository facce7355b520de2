"""One HTTP/1.1 connection of the fast server: pass requests on, and write their answers in order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

from mendel.errors import MendelError
from mendel.transports.rest.connection_limits import FULL
from mendel.transports.rest.connection_server import ConnectionServer
from mendel.transports.rest.errors import error_response
from mendel.transports.rest.exchange import Exchange
from mendel.transports.rest.http_messages import SMALL_BYTES, late_body
from mendel.transports.rest.request_parser import RequestParser
from mendel.transports.rest.wire_format import CLOSE, CONTINUE, head_of

_MOST_PIPELINED: Final = 16
"""So many requests of one connection may wait for answers; no more bytes are parsed meanwhile."""

_SILENCE_S: Final = 2.0
"""How long a caller whose request was refused may send nothing before its connection is closed."""

_REQUEST_BYTES: Final = 1024
"""About so much memory a request in the pipeline takes besides its body."""

_BODILESS: Final = frozenset({"GET", "HEAD"})


class FastConnection(asyncio.Protocol):
    """
    One connection of *server*.

    A request enters the pipeline when its headers are complete, and leaves the pipeline when its answer is written.
    Predictions of one pipeline are answered side by side; any other request waits until those before it are answered,
    and those behind wait for it.

    Attributes:
        gone: True once the connection is closed.
    """

    __slots__ = (
        *("server", "_loop", "_transport", "_parser", "_pipeline", "_unparsed", "_since", "_paused", "_write_paused"),
        *("_unread_bytes", "_unread_since", "_half_closed", "_refused_at", "gone"),
    )

    def __init__(self, server: ConnectionServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self._loop = server, loop
        self._pipeline: deque[Exchange] = deque()
        self._parser = RequestParser(self, self._pipeline)
        self._unparsed = b""
        self._paused = self._write_paused = self._half_closed = False
        self._since = self._unread_since = loop.time()
        self._unread_bytes = 0
        self._refused_at: float | None = None
        self.gone = False
        self._transport: asyncio.Transport

    @property
    def idle_since(self) -> float | None:
        """The second of the loop's clock since which the connection has no request; None while it has one."""
        busy = self._pipeline or self._parser.in_head or self._parser.arriving is not None
        return None if busy else self._since

    @property
    def kept_bytes(self) -> int:
        """The memory that this connection takes for requests that were not begun and answers that were not read."""
        waiting = _REQUEST_BYTES * len(self._pipeline)
        return waiting + len(self._unparsed) + self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept the connection, or refuse it when the limit is reached and no connection is idle."""
        self._transport = cast("asyncio.Transport", transport)
        if not self.server.admit(self):
            self.server.application.count_refusal(FULL.status)
            self._transport.write(head_of(FULL) + CLOSE + FULL.body)
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the requests, which are answered to nobody, and the transport, which refers to this connection."""
        self.gone = True
        self.server.leave(self)
        self._parser.close()
        for exchange in self._pipeline:
            if not exchange.begun:
                exchange.drop_body()
        self._pipeline.clear()
        self._unparsed = b""
        del self._transport

    def data_received(self, data: bytes) -> None:
        """Parse *data* as far as the pipeline has room; forget what follows a refused request."""
        if self._refused_at is not None:
            self._since = self._loop.time()
            return
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._advance()

    def eof_received(self) -> bool:
        """Answer the complete requests of a caller that sends no more, and close then; forget an incomplete one."""
        arriving = self._parser.arriving
        if arriving is not None and not arriving.ready:
            self._pipeline.pop().drop_body()
        self._parser.stop()
        self._half_closed = True
        return bool(self._pipeline)

    def pause_writing(self) -> None:
        """Begin no more requests while the caller does not read the answers."""
        self._write_paused = True
        self._balance()

    def resume_writing(self) -> None:
        """Go on."""
        self._write_paused = False
        self._advance()

    def hear(self) -> None:
        """Note that a request begins."""
        self._since = self._loop.time()

    def keep(self, exchange: Exchange, part: bytes) -> None:
        """Keep a *part* of the body of *exchange*, or refuse a body that is too large."""
        exchange.keep(part)
        if exchange.size_bytes > SMALL_BYTES:
            try:
                exchange.check_size(self.server.body_limit)
            except MendelError as error:
                exchange.refuse(error_response(error))

    def write_answers(self) -> None:
        """Write the answers at the beginning of the pipeline, and close the connection behind its last one."""
        answers, closing = [], False
        while self._pipeline and self._pipeline[0].answered:
            exchange = self._pipeline.popleft()
            if exchange.expects and exchange is self._parser.arriving:
                self._parser.refuse_rest()  # what follows may be its body or the next request
            last = self._parser.ended or self.server.draining or not exchange.keep_alive
            closing = last and not self._pipeline
            answers.append(exchange.written(closing=closing))
        if not answers:
            return
        self._since = self._loop.time()
        self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))
        if closing:
            self._close()
        elif self._pipeline or self._unparsed:
            self._advance()

    def close_idle(self) -> None:
        """Close the connection if no request of it is answered or begins."""
        if not self._pipeline and not self._parser.in_head:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """Refuse a request that arrives too slowly, and close a connection that is idle or not read for too long."""
        limits, waited = self.server.limits, now - self._since
        if self._transport.is_closing():
            if waited > limits.idle_timeout + limits.body_timeout:
                self._transport.abort()  # the caller does not read its last answer
        elif self._refused_at is not None:
            if waited > _SILENCE_S or now - self._refused_at > limits.body_timeout:
                self._transport.close()
        elif self._unread_for(now) > limits.body_timeout:
            self._transport.abort()
        elif not self._paused:  # else the caller waits for this server
            self._expire_reading(waited)

    def _expire_reading(self, waited: float) -> None:
        limits, arriving = self.server.limits, self._parser.arriving
        if self._parser.in_head:
            if waited > limits.header_timeout:
                self._parser.end(limits.slow_headers)
                self._advance()
        elif arriving is not None:
            if waited > limits.body_timeout:
                self._refuse_slow(arriving)
        elif not self._pipeline and waited > limits.idle_timeout:
            self._transport.close()

    def _unread_for(self, now: float) -> float:
        """For how long the caller has read nothing of the answers that wait for it; 0 if none waits."""
        unread = self._transport.get_write_buffer_size()
        if not unread or unread < self._unread_bytes:
            self._unread_since = now
        self._unread_bytes = unread
        return now - self._unread_since

    def _refuse_slow(self, arriving: Exchange) -> None:
        self._since = self._loop.time()
        if not arriving.ready:
            arriving.refuse(error_response(late_body(self.server.limits.body_timeout)))
            self._advance()
        elif not self._pipeline:
            self._transport.abort()  # it was answered, and the rest of its body does not come

    def _advance(self) -> None:
        """Parse what has arrived, and begin the requests whose turn it is."""
        if self._transport.is_closing() or self._refused_at is not None:
            return
        self._parse()
        if not self._write_paused:
            self._begin()
        if self._parser.ended and not self._pipeline:
            self._close()
        else:
            self._balance()

    def _close(self) -> None:
        """
        Close the connection behind its last answer.

        To close a socket with unread bytes resets the connection, and the answer may be lost: while the rest of a
        refused request may still arrive, it is read and forgotten, until the caller closes its side or sends no more.
        """
        unread = self._parser.refusing or self._parser.arriving is not None
        if not unread or self._half_closed or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._since = self._refused_at = self._loop.time()
        self._parser.stop()
        self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _parse(self) -> None:
        parser, data, place = self._parser, self._unparsed, 0
        while place < len(data) and not parser.ended and self._has_room():
            most = parser.next_bytes
            piece = data if len(data) <= most and not place else memoryview(data)[place : place + most]
            place += len(piece)
            parser.feed(piece)
            if parser.padded:
                self._transport.abort()
                return
            if parser.arriving is not None and not parser.arriving.admitted:
                self._admit(parser.arriving)
        self._unparsed = b"" if parser.ended else data[place:]

    def _has_room(self) -> bool:
        """Whether further requests may enter the pipeline: neither they nor their bodies are too many."""
        waiting = self._pipeline
        return len(waiting) <= 1 or (
            len(waiting) < _MOST_PIPELINED and sum(one.size_bytes for one in waiting if one.parts) < SMALL_BYTES
        )

    def _admit(self, exchange: Exchange) -> None:
        """Refuse *exchange*, whose body is incomplete, if the body would be read in vain."""
        exchange.admitted = True
        bodiless = exchange.method in _BODILESS
        refusal = exchange.refusal or (None if bodiless else self.server.admission(exchange))
        if refusal is not None:
            exchange.refuse(refusal)
        exchange.ready = exchange.ready or bodiless

    def _begin(self) -> None:
        for place, exchange in enumerate(self._pipeline):
            if exchange.begun:
                if exchange.alone:
                    return
            elif not exchange.ready:
                if exchange.expects and not place:
                    exchange.expects = False
                    self._transport.write(CONTINUE)
                return
            elif place and exchange.alone:
                return
            else:
                exchange.begun = True
                self.server.begin(exchange)
                if exchange.alone:
                    return

    def _balance(self) -> None:
        """Read from the caller only while there is room for what it sends."""
        pause = self._write_paused or self._parser.ended or bool(self._unparsed)
        if pause != self._paused and not self._transport.is_closing():
            self._paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()
