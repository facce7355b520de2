"""The frames that control a connection: settings, windows, resets, pings, and the end of the connection."""

from __future__ import annotations

from typing import Final

from mendel.transports.http2.application import Shared
from mendel.transports.http2.frames import (
    ACK,
    GOAWAY,
    MAX_FRAME,
    MAX_STREAM,
    MAX_WINDOW,
    MIN_FRAME,
    NUMBER,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    ErrorCode,
    Setting,
    frame,
    goaway,
)
from mendel.transports.http2.header_blocks import SIZE_ZERO
from mendel.transports.http2.sending_side import SendingSide
from mendel.transports.http2.stream import Stream

COST_OF_RESET: Final = 5
"""A reset costs the server the work for a request, so 2,000 at once, and 200 in a second, are allowed."""
_PING_BYTES: Final = 8
_GOAWAY_BYTES: Final = 8
_PRIORITY_BYTES: Final = 5
_LAST_CALL: Final = b"lastcall"


class ControlFrames(SendingSide):
    """Reads the frames that control a connection, and bounds how many of them the peer may send."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._greeted = False
        self._last_id = 0
        self._promised_id = MAX_STREAM
        self._draining = False
        self._readers = {
            PRIORITY: self._on_priority,
            RST_STREAM: self._on_reset,
            SETTINGS: self._on_settings,
            PUSH_PROMISE: self._on_push_promise,
            PING: self._on_ping,
            GOAWAY: self._on_goaway,
            WINDOW_UPDATE: self._on_window_update,
        }

    def _charge(self, cost: int) -> None:
        """
        Take *cost* from the allowance of frames without use.

        Responses that were sent and the time raise the allowance, so that no honest peer uses it up.
        """
        self._allowance -= cost
        if self._allowance < 0:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "Too many frames without use, or too many resets.")

    def _on_control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Read a frame that is neither DATA, HEADERS nor CONTINUATION; frames of unknown types are ignored."""
        if not self._greeted and kind != SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "The first frame is not SETTINGS.")
        self._charge(COST_OF_RESET if kind == RST_STREAM else 1)
        reader = self._readers.get(kind)
        if reader is not None:
            reader(flags, number, payload)

    def _on_priority(self, _: int, number: int, payload: bytes) -> None:
        if not number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY is not for the connection.")
        if len(payload) != _PRIORITY_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PRIORITY has the wrong size.")

    def _on_reset(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != NUMBER.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "RST_STREAM has the wrong size.")
        self._require_used(number)
        stream = self._streams.get(number)
        if stream is None:
            return
        self._drop(stream, None)

    def _drop(self, stream: Stream, code: ErrorCode | None) -> None:
        """End *stream* before its response is sent: with a reset, or without *code* because the peer has reset it."""
        handed_over = stream.complete or stream.sink is not None
        stream.abandoned = handed_over and stream.trailers is None
        if code is None:
            self._forget(stream)
        else:
            self._allowance -= COST_OF_RESET
            self._reset(stream, code)
        if stream.abandoned:
            self._shared.application.cancelled(stream)

    def _require_used(self, number: int) -> None:
        if number > self._last_id or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "A frame is for a stream that was never opened.")

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS is not for a stream.")
        if len(payload) % SETTING.size or (flags & ACK and payload):
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS has the wrong size.")
        if flags & ACK:
            if not self._greeted:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "The first frame is not SETTINGS.")
            return
        self._greeted = True
        self._charge(len(payload) // SETTING.size)
        for key, value in SETTING.iter_unpack(payload):
            self._set(key, value)
        self.write(frame(SETTINGS, ACK, 0))

    def _set(self, key: int, value: int) -> None:
        if key == Setting.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is too large.")
            self._widen_all(value)
        elif key == Setting.MAX_FRAME_SIZE:
            if not MIN_FRAME <= value <= MAX_FRAME:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE is out of range.")
            self._largest = min(value, 1 << 18)
        elif key == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1.")
        elif key == Setting.HEADER_TABLE_SIZE:
            self._before_block = SIZE_ZERO

    def _on_push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "Clients do not send PUSH_PROMISE.")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING is not for a stream.")
        if len(payload) != _PING_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "PING has the wrong size.")
        if not flags & ACK:
            self.write(frame(PING, ACK, 0, payload))
        elif payload == _LAST_CALL and self._draining:
            self._call_last()

    def _on_goaway(self, _: int, number: int, payload: bytes) -> None:
        """Finish the open streams; the peer opens no more, and closes the connection."""
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY is not for a stream.")
        if len(payload) < _GOAWAY_BYTES:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY has the wrong size.")

    def _on_window_update(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != NUMBER.size:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "WINDOW_UPDATE has the wrong size.")
        size = NUMBER.unpack(payload)[0] & MAX_WINDOW
        if not number:
            if not size:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE has no size.")
            self._widen(size)
            return
        self._require_used(number)
        stream = self._streams.get(number)
        if stream is None:
            return
        stream.window += size
        if not size or stream.window > MAX_WINDOW:
            self._drop(stream, ErrorCode.FLOW_CONTROL_ERROR if size else ErrorCode.PROTOCOL_ERROR)
        elif self._stalled.pop(number, None) is not None:
            self._push(stream)

    def _ask_to_leave(self) -> None:
        """Ask the peer to open no more streams; the answer to the PING tells that all that it opened have arrived."""
        self._draining = True
        self.write(goaway(MAX_STREAM, ErrorCode.NO_ERROR) + frame(PING, 0, 0, _LAST_CALL))

    def _write_goaway(self, code: ErrorCode, text: str = "") -> None:
        """Say which streams were looked at; the number never grows, because the peer repeats the others elsewhere."""
        self._promised_id = min(self._promised_id, self._last_id)
        self.write(goaway(self._promised_id, code, text))

    def _call_last(self) -> None:
        """Take no more streams, because the peer knows that the connection ends."""
        if not self._last_call:
            self._last_call = True
            self._write_goaway(ErrorCode.NO_ERROR)
            if not self._streams:
                self.finish()
