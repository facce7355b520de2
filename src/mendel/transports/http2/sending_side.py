"""The half of a connection that sends: responses, flow control, and one write per turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from mendel.transports.http2.application import Shared
from mendel.transports.http2.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_WINDOW,
    FRAME,
    HEADERS,
    MAX_WINDOW,
    MIN_FRAME,
    ConnectionFault,
    ErrorCode,
    header_frames,
    reset,
)
from mendel.transports.http2.stream import Stream

_WRITE_BYTES: Final = 1 << 16
"""How much of large responses is handed to the transport at once, which then may ask for a pause."""
ALLOWANCE: Final = 10_000
"""How many frames without use a connection may send at once; see :meth:`Connection._charge`."""
_EARNED: Final = 4
"""By how much a response that was sent raises the allowance."""
_MOST_IGNORED: Final = 2048
_PROGRESS_BYTES: Final = 1024
"""A peer that takes less of a response at once does not keep the response from being given up as too slow."""
_WHOLE: Final = END_HEADERS
_LAST: Final = END_HEADERS | END_STREAM


class SendingSide:
    """
    Sends responses on the streams of a connection.

    A response that finds no room in the windows of the peer, or in the transport, waits on its stream.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport | None = None
        self._streams: dict[int, Stream] = {}
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._window = FIRST_WINDOW
        self._first_window = FIRST_WINDOW
        self._largest = MIN_FRAME
        self._before_block = b""
        self._waiting: dict[int, Stream] = {}  # for room in the connection, in the order in which they have waited
        self._stalled: dict[int, Stream] = {}  # for room in the window of the stream
        self._paused_at: float | None = None
        self._ignored: dict[int, None] = {}
        self._abandoned = 0
        self._last_call = False
        self._allowance = ALLOWANCE
        self._flush_later: Callable[[Callable[[], None]], None] = shared.flushes.add

    def write(self, data: bytes | memoryview) -> None:
        """Send *data* at the end of this turn of the event loop."""
        if not self._out:
            self._flush_later(self.flush)
        self._out.append(data)

    def flush(self) -> None:
        """Hand everything to the transport."""
        out, self._out = self._out, []
        self._out_bytes = 0
        if out and self._transport is not None and not self._transport.is_closing():
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def respond(self, stream: Stream, block: bytes, body: bytes, trailers: bytes) -> None:
        """Send a whole response: the header block, the body, and the block of trailers."""
        size = len(body)
        if (
            stream.closed
            or self._waiting
            or self._before_block
            or self._paused_at is not None
            or size > self._window
            or size > stream.window
            or size > self._largest
            or len(block) + len(trailers) > MIN_FRAME
        ):
            self.start(stream, block)
            self.send(stream, body)
            self.end(stream, trailers)
            return
        self._window -= size
        number, pack = stream.id, FRAME.pack
        if not self._out:
            self._flush_later(self.flush)
        self._out.append(
            pack(len(block) >> 8, len(block) & 0xFF, HEADERS, _WHOLE, number)
            + block
            + pack(size >> 8, size & 0xFF, DATA, 0, number)
            + body
            + pack(len(trailers) >> 8, len(trailers) & 0xFF, HEADERS, _LAST, number)
            + trailers
        )
        self._sent(stream)

    def respond_empty(self, stream: Stream, block: bytes) -> None:
        """Send a response that is only a header block."""
        if stream.closed:
            self.release(stream)
            return
        self._write_block(stream, block, end=True)
        self._sent(stream)

    def start(self, stream: Stream, block: bytes) -> None:
        """Send the header block of a response whose body follows."""
        if not stream.closed:
            self._write_block(stream, block, end=False)

    def send(self, stream: Stream, part: bytes) -> None:
        """Send a part of a response's body."""
        if stream.closed or not part:
            return
        if stream.pending is None:
            stream.pending = deque()
        stream.pending.append(memoryview(part))
        self._push(stream)

    def end(self, stream: Stream, trailers: bytes) -> None:
        """End a response with a block of trailers."""
        if stream.closed:
            self.release(stream)
            return
        stream.trailers = trailers
        self._push(stream)

    def hold(self, stream: Stream, size: int) -> bool:
        """Count *size* bytes as memory of the server until *stream* ends; gives False if that is too much memory."""
        shared = self._shared
        stream.held_bytes += size
        shared.body_bytes += size
        return shared.body_bytes <= 2 * shared.limits.memory_bytes

    def release(self, stream: Stream) -> None:
        """Count a stream no more that the peer has reset, because the application has ended its work for it."""
        if stream.abandoned:
            stream.abandoned = False
            self._abandoned -= 1
            self._uncount(stream)

    def finish(self) -> None:
        """Send what is ready and end the connection so that the peer receives all of that."""
        self.close()

    def close(self) -> None:
        """Send what is ready and close the connection."""
        self.flush()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()

    def _reset(self, stream: Stream, code: ErrorCode) -> None:
        """Reset *stream*: nothing more is read or sent, and frames that are on their way are ignored."""
        self._write_reset(stream.id, code)
        self._forget(stream)

    def _write_reset(self, number: int, code: ErrorCode) -> None:
        self.write(reset(number, code))
        self._ignored[number] = None
        if len(self._ignored) > _MOST_IGNORED:
            del self._ignored[next(iter(self._ignored))]

    def _forget(self, stream: Stream) -> None:
        """Take *stream* out of the open streams."""
        stream.closed = True
        stream.pending = stream.trailers = stream.sink = None
        if stream.on_room is not None:
            stream.on_room()
        del self._streams[stream.id]
        self._wait_no_more(stream)
        if stream.abandoned:
            self._abandoned += 1
        else:
            self._uncount(stream)
        if self._last_call and not self._streams:
            self._shared.loop.call_soon(self.finish)

    def _uncount(self, stream: Stream) -> None:
        self._shared.streams -= 1
        self._shared.body_bytes -= stream.held_bytes

    def _sent(self, stream: Stream) -> None:
        """Note that the response of *stream* has been sent."""
        self._allowance += _EARNED
        if stream.complete:
            self._forget(stream)
        else:
            self._reset(stream, ErrorCode.NO_ERROR)

    def _write_block(self, stream: Stream, block: bytes, *, end: bool) -> None:
        if self._before_block:
            block, self._before_block = self._before_block + block, b""
        self.write(header_frames(stream.id, block, self._largest, end=end))

    def _push(self, stream: Stream) -> None:
        """Send as much of the waiting response as there is room for, and its trailers when nothing waits."""
        sent = 0
        while stream.pending:
            room = min(self._window, stream.window, self._largest)
            if room <= 0 or self._paused_at is not None:
                self._wait(stream, sent)
                return
            part = stream.pending[0]
            piece = part[:room]
            if len(piece) == len(part):
                stream.pending.popleft()
            else:
                stream.pending[0] = part[room:]
            sent += len(piece)
            self._window -= len(piece)
            stream.window -= len(piece)
            self._write_piece(stream.id, piece)
        self._wait_no_more(stream)
        if stream.on_room is not None:
            stream.on_room()
        if stream.trailers is not None:
            self._write_block(stream, stream.trailers, end=True)
            self._sent(stream)

    def _wait(self, stream: Stream, sent: int) -> None:
        """Let the rest of a response wait, of which *sent* bytes have just been sent."""
        if not stream.moved_at or sent >= _PROGRESS_BYTES:
            stream.moved_at = self._shared.steady()
        if not stream.waited:
            stream.waited = True
            if not self.hold(stream, sum(map(len, stream.pending or ()))):
                self._reset(stream, ErrorCode.ENHANCE_YOUR_CALM)
                return
        places = (self._waiting, self._stalled) if stream.window > 0 else (self._stalled, self._waiting)
        places[0][stream.id] = stream
        places[1].pop(stream.id, None)

    def _wait_no_more(self, stream: Stream) -> None:
        self._waiting.pop(stream.id, None)
        self._stalled.pop(stream.id, None)

    def _write_piece(self, number: int, piece: memoryview) -> None:
        size = len(piece)
        self.write(FRAME.pack(size >> 8, size & 0xFF, DATA, 0, number))
        self.write(piece)
        self._out_bytes += size
        if self._out_bytes >= _WRITE_BYTES:
            self.flush()

    def _push_all(self) -> None:
        """Send what waits for room in the connection, the stream that has waited for the longest time first."""
        while self._waiting and self._window > 0 and self._paused_at is None:
            self._push(self._waiting.pop(next(iter(self._waiting))))

    def _widen(self, size: int) -> None:
        """Let the peer's window of the connection grow by *size*."""
        self._window += size
        if self._window > MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "The window of the connection is too large.")
        self._push_all()

    def _widen_all(self, first_window: int) -> None:
        """Set the size of the windows of all streams, those of open streams included."""
        change = first_window - self._first_window
        self._first_window = first_window
        for stream in self._streams.values():
            stream.window += change
            if stream.window > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "The window of a stream is too large.")
            if stream.window > 0 and self._stalled.pop(stream.id, None) is not None:
                self._waiting[stream.id] = stream
        self._push_all()

    def pause_writing(self) -> None:
        """Send and read nothing more while the transport's buffer is full."""
        self._paused_at = self._shared.steady()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self._paused_at = None
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._push_all()
