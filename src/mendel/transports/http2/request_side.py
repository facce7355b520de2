"""The half of a connection that reads requests: header blocks, bodies and trailers."""

from __future__ import annotations

from typing import Final

from mendel.transports.http2.application import SMALL_BODY_BYTES, Shared
from mendel.transports.http2.control_frames import COST_OF_RESET, ControlFrames
from mendel.transports.http2.frames import (
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    PADDED,
    ConnectionFault,
    ErrorCode,
    window_update,
)
from mendel.transports.http2.header_blocks import RequestBlocks
from mendel.transports.http2.request_headers import MalformedRequest, check_trailers
from mendel.transports.http2.stream import Refusal, Stream

STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 1 << 24
_TINY_BYTES: Final = 128
"""A part of a body below this size counts as a frame without use, unless the part is the last."""
_PRIORITY_BYTES: Final = 5
_SMALL_HEADERS: Final = 1024
"""Larger headers count as memory of the server."""
_FAIR_STREAMS: Final = 16
"""So many streams a connection may open even while all connections together have too many."""


class OpenBlock:
    """A header block of which CONTINUATION frames are missing."""

    __slots__ = ("ended", "number", "parts", "since", "size")

    def __init__(self, number: int, *, ended: bool, since: float) -> None:
        self.number, self.ended, self.since = number, ended, since
        self.parts: list[bytes] = []
        self.size = 0


class RequestSide(ControlFrames):
    """Reads requests and hands them to the application when they are complete."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._blocks = RequestBlocks(shared.limits.header_bytes, shared.application.head)
        self._open_block: OpenBlock | None = None
        self._unacknowledged = 0
        self._now = shared.steady()

    def _on_headers(self, flags: int, number: int, payload: bytes) -> None:
        if not self._greeted:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "The first frame is not SETTINGS.")
        if not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "Streams of clients have odd numbers.")
        if flags & (PADDED | HAS_PRIORITY):
            payload = _without_priority(flags, _without_padding(flags, payload))
        if flags & END_HEADERS:
            self._on_block(number, payload, ended=bool(flags & END_STREAM))
        else:
            self._open_block = OpenBlock(number, ended=bool(flags & END_STREAM), since=self._now)
            self._keep(self._open_block, payload)

    def _on_continuation(self, flags: int, number: int, payload: bytes) -> None:
        block = self._open_block
        if block is None or block.number != number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION follows no header block.")
        self._charge(1)
        self._keep(block, payload)
        if flags & END_HEADERS:
            self._drop_block()
            self._on_block(number, b"".join(block.parts), ended=block.ended)

    def _keep(self, block: OpenBlock, part: bytes) -> None:
        """Keep a *part* of *block*, which counts as memory of the server until the block ends."""
        shared = self._shared
        block.parts.append(part)
        block.size += len(part)
        shared.body_bytes += len(part)
        if block.size > 2 * shared.limits.header_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "A header block is too large.")
        if shared.body_bytes > 2 * shared.limits.memory_bytes:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "The server has no memory for a header block.")

    def _drop_block(self) -> None:
        """Count the open header block no more, if there is one."""
        if self._open_block is not None:
            self._shared.body_bytes -= self._open_block.size
            self._open_block = None

    def _on_block(self, number: int, block: bytes, *, ended: bool) -> None:
        if number <= self._last_id:
            self._on_trailers(number, block, ended=ended)
            return
        self._last_id = number
        try:
            request = self._blocks.known.get(block) or self._blocks.request(block)
        except MalformedRequest:
            self._refuse_stream(number, ErrorCode.PROTOCOL_ERROR)
            return
        shared, streams = self._shared, self._streams
        limits = shared.limits
        if (
            len(streams) + self._abandoned >= limits.max_streams
            or (shared.streams >= limits.max_all_streams and len(streams) >= _FAIR_STREAMS)
            or self._last_call
        ):
            self._refuse_stream(number, ErrorCode.REFUSED_STREAM)
            return
        shared.streams += 1
        stream = streams[number] = Stream(self, number, request, self._first_window, self._now)
        if request.size > limits.header_bytes:
            stream.complete = ended
            shared.application.refused(stream, Refusal.HEADERS_TOO_LARGE)
            return
        if request.size > _SMALL_HEADERS and not self.hold(stream, request.size):
            stream.complete = ended
            shared.application.refused(stream, Refusal.TOO_MUCH_MEMORY)
            return
        if request.head.refusal is not None:  # nothing of the body is read
            stream.complete = ended
            shared.application.rejected(stream)
            return
        if request.head.streams:
            shared.application.opened(stream)
        if ended:
            self._complete(stream)

    def _refuse_stream(self, number: int, code: ErrorCode) -> None:
        self._charge(COST_OF_RESET)
        self._write_reset(number, code)

    def _on_trailers(self, number: int, block: bytes, *, ended: bool) -> None:
        headers = self._blocks.decode(block)
        stream = self._streams.get(number)
        if stream is None:
            if number not in self._ignored:
                raise ConnectionFault(ErrorCode.STREAM_CLOSED, "HEADERS is for a closed stream.")
        elif stream.complete:
            self._drop(stream, ErrorCode.STREAM_CLOSED)
        else:
            try:
                check_trailers(headers, ended=ended, most_bytes=self._shared.limits.header_bytes)
            except MalformedRequest:
                self._drop(stream, ErrorCode.PROTOCOL_ERROR)
            else:
                self._complete(stream)

    def _on_data(self, stream: Stream | None, flags: int, number: int, payload: bytes) -> None:
        """Read a DATA frame of which the loop in ``Connection`` made no complete request."""
        size = len(payload)
        self._unacknowledged += size
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            self._acknowledge()
        if stream is None or stream.complete:
            self._on_stray_data(stream, number)
            return
        stream.unacknowledged += size
        if stream.unacknowledged > STREAM_WINDOW:
            self._drop(stream, ErrorCode.FLOW_CONTROL_ERROR)
            return
        self._on_part(stream, _without_padding(flags, payload), ended=bool(flags & END_STREAM))

    def _on_part(self, stream: Stream, payload: bytes, *, ended: bool) -> None:
        """Read a part of a body."""
        if len(payload) < _TINY_BYTES and not ended:
            self._charge(1)
        if stream.sink is None:
            if stream.body is None and not ended and not self._shared.application.admits(stream):
                return
            self._collect(stream, payload)
        elif payload:
            stream.sink(payload)
        if stream.closed:
            return
        if ended:
            self._complete(stream)
        elif stream.unacknowledged >= STREAM_WINDOW // 2:
            self.write(window_update(stream.id, stream.unacknowledged))
            stream.unacknowledged = 0

    def _acknowledge(self) -> None:
        """Let the peer send as much again as has been read."""
        self.write(window_update(0, self._unacknowledged))
        self._unacknowledged = 0

    def _on_stray_data(self, stream: Stream | None, number: int) -> None:
        self._require_used(number)
        if stream is not None:
            self._drop(stream, ErrorCode.STREAM_CLOSED)
        elif number not in self._ignored:
            raise ConnectionFault(ErrorCode.STREAM_CLOSED, "DATA is for a closed stream.")
        self._charge(1)

    def _collect(self, stream: Stream, payload: bytes) -> None:
        if stream.body is None:
            stream.body = bytearray(payload)
        else:
            stream.body += payload
        shared = self._shared
        stream.held_bytes += len(payload)
        shared.body_bytes += len(payload)
        size, limits = len(stream.body), shared.limits
        if size > limits.body_bytes:
            shared.application.refused(stream, Refusal.BODY_TOO_LARGE)
        elif shared.body_bytes > limits.memory_bytes * (1 if size > SMALL_BODY_BYTES else 2):
            shared.application.refused(stream, Refusal.TOO_MUCH_MEMORY)

    def _complete(self, stream: Stream) -> None:
        """Hand a complete request over."""
        length = stream.request.content_length
        if length is not None and length != len(stream.body or b"") and stream.sink is None:
            self._drop(stream, ErrorCode.PROTOCOL_ERROR)
            return
        stream.complete = True
        self._shared.application.completed(stream)


def _without_padding(flags: int, payload: bytes) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "A frame has no room for the length of its padding.")
    if payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "The padding of a frame is longer than the frame.")
    return payload[1 : len(payload) - payload[0]]


def _without_priority(flags: int, payload: bytes) -> bytes:
    if not flags & HAS_PRIORITY:
        return payload
    if len(payload) < _PRIORITY_BYTES:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS has no room for its priority.")
    return payload[_PRIORITY_BYTES:]
