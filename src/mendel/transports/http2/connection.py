"""One HTTP/2 connection of a server: the loop over its frames, its times, and its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from mendel.transports.http2.application import Shared
from mendel.transports.http2.frames import (
    CONTINUATION,
    DATA,
    END_STREAM,
    FIRST_WINDOW,
    FRAME,
    HEAD_BYTES,
    HEADERS,
    MAX_STREAM,
    MIN_FRAME,
    PING,
    PREFACE,
    ConnectionFault,
    ErrorCode,
    Setting,
    frame,
    settings_frame,
    window_update,
)
from mendel.transports.http2.request_side import CONNECTION_WINDOW, STREAM_WINDOW, RequestSide
from mendel.transports.http2.sending_side import ALLOWANCE
from mendel.transports.http2.stream import Refusal

_REFILL: Final = 1_000
"""By how much the allowance grows in one second."""
_ALIVE: Final = b"alive?\0\0"
_KEEPALIVE_S: Final = 30.0
_KEEPALIVE_TIMEOUT_S: Final = 10.0
_LAST_CALL_AFTER_S: Final = 1.0
_LAST_BYTES_S: Final = 5.0
"""How long a peer may take for the last bytes and for closing its side."""


class Connection(RequestSide, asyncio.Protocol):
    """
    The protocol of one connection.

    Frames are read in one pass over what the transport received; only a frame that is not complete is kept.

    Args:
        shared: What the connections of the server share.
        admit: Says whether the server has room for this connection.
        left: Called when the connection has ended.
        spread: By how much the age of this connection may exceed ``max_age``, a fraction.
    """

    def __init__(
        self,
        shared: Shared,
        *,
        admit: Callable[[Connection], bool],
        left: Callable[[Connection], None],
        spread: float = 0.0,
    ) -> None:
        super().__init__(shared)
        self._admit, self._left = admit, left
        self._rest = b""
        self._rest_since = self._idle_since = self._now
        self._retire_at = self._now + shared.limits.max_age * (1 + spread)
        self._preface_read = False
        self._idle_id = 0
        self._pinged_at: float | None = None
        self._drained_at: float | None = None
        self._closed_at: float | None = None
        self._peer_ended = False
        self._abort_at = float("inf")

    @property
    def idle_since(self) -> float | None:
        """The second of the loop's clock since which there is no stream; None while there is one."""
        return None if self._streams else self._idle_since

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings of this server, or refuse the connection."""
        self._transport = cast("asyncio.Transport", transport)
        limits = self._shared.limits
        settings = (
            (Setting.MAX_CONCURRENT_STREAMS, limits.max_streams),
            (Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (Setting.MAX_HEADER_LIST_SIZE, limits.header_bytes),
        )
        self.write(settings_frame(settings) + window_update(0, CONNECTION_WINDOW - FIRST_WINDOW))
        if not self._admit(self):
            self.fail(ErrorCode.ENHANCE_YOUR_CALM, "The server has too many connections.")

    def connection_lost(self, _: Exception | None) -> None:
        """Cancel the work for all open streams."""
        self._transport = None
        self._left(self)
        self._drop_block()
        for stream in list(self._streams.values()):
            self._drop(stream, None)

    def eof_received(self) -> bool:
        """Answer the complete requests before the connection is closed."""
        self._draining = self._last_call = self._peer_ended = True
        self.flush()
        encrypted = self._transport is None or self._transport.get_extra_info("ssl_object") is not None
        return not encrypted and any(stream.complete for stream in self._streams.values())

    def data_received(self, data: bytes) -> None:
        """Read frames; a peer that breaks the protocol gets GOAWAY."""
        self._now = self._shared.steady()
        if self._closed_at is not None:
            return
        try:
            self._read(self._rest + data if self._rest else data)
        except ConnectionFault as fault:
            self.fail(fault.code, fault.text)

    def fail(self, code: ErrorCode, text: str) -> None:
        """End the connection with GOAWAY."""
        if self._closed_at is not None:
            self.abort()
            return
        self._rest = b""
        self._drop_block()
        self._write_goaway(code, text)
        self.close()

    def finish(self) -> None:
        """
        Send what is ready, and close the connection when the peer has closed it too, or after some seconds.

        To close a socket with unread bytes resets the connection, and what the peer has not received is lost.
        """
        if self._closed_at is not None or self._transport is None or self._transport.is_closing():
            return
        if self._peer_ended:
            self.close()
            return
        self._closed_at = self._shared.steady()
        self.flush()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what is ready and close the connection."""
        if self._closed_at is None:
            self._closed_at = self._shared.steady()
            super().close()

    def abort(self) -> None:
        """Close the connection without sending what is ready."""
        if self._transport is not None:
            self._transport.abort()

    def _read(self, buffer: bytes) -> None:  # noqa: C901 - one loop, because every call of a function costs here
        place = began = 0 if self._preface_read else self._read_preface(buffer)
        end = len(buffer) if self._preface_read else 0
        unpack, streams = FRAME.unpack_from, self._streams
        while end - place >= HEAD_BYTES:
            upper, lower, kind, flags, number = unpack(buffer, place)
            start = place + HEAD_BYTES
            size = upper << 8 | lower
            if size > MIN_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "A frame is larger than MAX_FRAME_SIZE.")
            stop = start + size
            if stop > end:
                break
            place = stop
            number &= MAX_STREAM
            if self._open_block is not None and kind != CONTINUATION:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "A frame interrupts a header block.")
            if kind == DATA:
                stream = streams.get(number)
                if (
                    flags == END_STREAM
                    and stream is not None
                    and stream.body is None
                    and stream.sink is None
                    and not stream.complete
                ):
                    self._unacknowledged += size
                    if self._unacknowledged >= CONNECTION_WINDOW // 2:
                        self._acknowledge()
                    stream.body = buffer[start:stop]
                    self._complete(stream)
                else:
                    self._on_data(stream, flags, number, buffer[start:stop])
            elif kind == HEADERS:
                self._on_headers(flags, number, buffer[start:stop])
            elif kind == CONTINUATION:
                self._on_continuation(flags, number, buffer[start:stop])
            else:
                self._on_control(kind, flags, number, buffer[start:stop])
        if place > began or not self._rest:
            self._rest_since = self._now
        self._rest = buffer[place:]

    def _read_preface(self, buffer: bytes) -> int:
        """Check the preface as far as it has arrived; gives the place behind it."""
        if not PREFACE.startswith(buffer[: len(PREFACE)]):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "The connection does not begin with HTTP/2.")
        self._preface_read = len(buffer) >= len(PREFACE)
        return len(PREFACE) if self._preface_read else 0

    def drain(self) -> None:
        """Ask the peer to open no more streams, finish the open ones, and close the connection."""
        now = self._shared.steady()
        self._abort_at = min(self._abort_at, now + self._shared.limits.drain_timeout)
        if not self._greeted:
            self.close()
        elif not self._draining:
            self._drained_at = now
            self._ask_to_leave()

    def expire(self, now: float) -> None:
        """Look at all times of the connection; called once a second."""
        self._allowance = min(self._allowance + _REFILL, ALLOWANCE)
        limits = self._shared.limits
        if now > self._abort_at or any(
            since is not None and now - since > limits.body_timeout for since in (self._closed_at, self._paused_at)
        ):
            self.abort()
        elif self._closed_at is not None:
            if now - self._closed_at > _LAST_BYTES_S:
                self._close_when_sent()
        elif self._is_late(now):
            self.fail(ErrorCode.ENHANCE_YOUR_CALM, "A frame or a header block did not arrive in time.")
        else:
            self._expire_streams(now - limits.body_timeout)
            self._keep_alive(now)
            self._retire(now)

    def _close_when_sent(self) -> None:
        if self._transport is not None and not self._transport.get_write_buffer_size():
            self._transport.close()

    def _is_late(self, now: float) -> bool:
        """Whether the peer is too slow with the preface, a frame, or a header block."""
        limits = self._shared.limits
        if self._open_block is not None:
            return now - self._open_block.since > limits.header_timeout
        if not self._greeted:
            return now - self._rest_since > limits.header_timeout
        in_data = len(self._rest) > HEAD_BYTES and self._rest[3] == DATA
        return bool(self._rest) and now - self._rest_since > (limits.body_timeout if in_data else limits.header_timeout)

    def _expire_streams(self, before: float) -> None:
        """End streams whose request or response has not moved since *before*."""
        for stream in list(self._streams.values()):
            if not stream.complete and stream.sink is None and stream.began < before:
                self._shared.application.refused(stream, Refusal.BODY_TOO_SLOW)
        for stream in [*self._waiting.values(), *self._stalled.values()]:
            if stream.moved_at < before:
                self._drop(stream, ErrorCode.CANCEL)

    def _keep_alive(self, now: float) -> None:
        """Ask a silent peer whether it is there."""
        if self._pinged_at is not None and self._now < self._pinged_at:
            if now - self._pinged_at > _KEEPALIVE_TIMEOUT_S:
                self.abort()
        elif now - self._now > _KEEPALIVE_S:
            self._pinged_at = now
            self.write(frame(PING, 0, 0, _ALIVE))

    def _retire(self, now: float) -> None:
        """Drain a connection that is old or idle."""
        if self._streams or self._last_id != self._idle_id:
            self._idle_since, self._idle_id = now, self._last_id
        if self._drained_at is not None:
            if now - self._drained_at > _LAST_CALL_AFTER_S:
                self._call_last()
        elif now > self._retire_at or now - self._idle_since > self._shared.limits.idle_timeout:
            self.drain()
