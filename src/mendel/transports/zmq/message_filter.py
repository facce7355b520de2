"""Limit the messages of one ZMQ connection, of which libzmq limits only the single frames."""

from __future__ import annotations

from typing import Final

REFUSED: Final = b"\0too-large"
"""The frame that replaces the last frame of a message that is too large; no message in JSON or msgpack begins so."""

MAX_FRAMES: Final = 16
"""The most frames of one message, the empty frames of its envelope included."""

_GREETING_BYTES: Final = 64
_SIGNATURE: Final = {0: 0xFF, 9: 0x7F}
_VERSION_AT, _VERSION = 10, 3
_MORE, _LONG, _COMMAND = 1, 2, 4
_LARGEST_COMMAND: Final = 1 << 16
_REPLACEMENT: Final = bytes((0, len(REFUSED))) + REFUSED


class HandshakeFilter:
    """
    Passes on the bytes that a caller sends over one encrypted connection (ZMTP 3 with CURVE).

    Only the two commands of the caller's handshake are looked at: libzmq would take such a command up to the size of a
    message, before it knows the caller. What follows is encrypted.
    """

    def __init__(self) -> None:
        self._commands, self._skipped, self._head = 2, _GREETING_BYTES, b""

    def __call__(self, received: bytes) -> bytes | None:
        """Give the bytes to pass on; None when the connection must be closed, because a command is too large."""
        place = 0
        while self._commands and place < len(received):
            if self._skipped:
                step = min(self._skipped, len(received) - place)
                place, self._skipped = place + step, self._skipped - step
                continue
            self._head += received[place : place + 1]
            place += 1
            if len(self._head) == (9 if self._head[0] & _LONG else 2):
                self._skipped, self._head = int.from_bytes(self._head[1:]), b""
                self._commands -= 1
                if self._skipped > _LARGEST_COMMAND:
                    return None
        return received


class MessageFilter:
    """
    Passes on the bytes that a caller sends over one connection (ZMTP 3, without encryption).

    If a message has more than 16 frames, or more than *max_message_bytes* in all its frames, the frames beyond the
    limit are left out, and its last frame is replaced by ``REFUSED``, which gets an error as its reply. Without this
    filter, libzmq would keep all frames in memory until the last frame has arrived.
    """

    def __init__(self, max_message_bytes: int) -> None:
        self._most = max_message_bytes
        self._greeted = 0
        self._partial = b""
        self._left = 0
        self._dropping = False
        self._frames, self._bytes = 0, 0

    def __call__(self, received: bytes) -> bytes | None:
        """Give the bytes to pass on; None when the connection must be closed, because the bytes are not ZMTP 3."""
        if self._greeted < _GREETING_BYTES:
            greeting = received[: _GREETING_BYTES - self._greeted]
            if not self._is_greeting(greeting):
                return None
            self._greeted += len(greeting)
            rest = self._frames_of(received[len(greeting) :])
            return None if rest is None else greeting + rest
        return self._frames_of(self._partial + received)

    def _is_greeting(self, part: bytes) -> bool:
        for place, byte in enumerate(part, self._greeted):
            if _SIGNATURE.get(place, byte) != byte or (place == _VERSION_AT and byte < _VERSION):
                return False
        return True

    def _frames_of(self, data: bytes) -> bytes | None:
        self._partial = b""
        parts: list[bytes] = []
        place, start = 0, 0
        while True:
            step = min(self._left, len(data) - place)
            place += step
            self._left -= step
            if self._dropping:
                start = place
            if place == len(data):
                break
            flags = data[place]
            header = 9 if flags & _LONG else 2
            if place + header > len(data):
                self._partial = data[place:]
                break
            self._left = int.from_bytes(data[place + 1 : place + header])
            if flags & _COMMAND:
                if self._left > _LARGEST_COMMAND:
                    return None
                self._dropping = False
            elif self._exceeds_limit():
                parts.append(data[start:place])
                start = place + header
                self._dropping = True
                if not flags & _MORE:
                    parts.append(_REPLACEMENT)
            else:
                self._dropping = False
            if not flags & (_MORE | _COMMAND):
                self._frames, self._bytes = 0, 0
            place += header
        parts.append(data[start:place])
        return b"".join(parts)

    def _exceeds_limit(self) -> bool:
        """Count the frame whose header was read, and tell whether its message is too large by now."""
        self._frames += 1
        self._bytes += self._left
        return self._frames > MAX_FRAMES or self._bytes > self._most
