"""Encode and decode ZMQ messages: one frame of JSON or msgpack, which the first byte distinguishes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import structs

from mendel.errors import InvalidRequest, TooLarge
from mendel.serving import (
    check_depth,
    check_json_size,
    check_keys,
    check_levels,
    check_msgpack_size,
    malformed,
    without_mark,
)
from mendel.transports.zmq.message_filter import MAX_FRAMES, REFUSED
from mendel.transports.zmq.replies import Reply
from mendel.values import to_builtins

_SMALLEST, _LARGEST = -(1 << 63), (1 << 63) - 1
_SCALARS = (str, bool, int, float, type(None))
_MSGPACK_MAPS = frozenset({*range(0x80, 0x90), 0xDE, 0xDF})


class _Envelope(msgspec.Struct):
    type: str
    client_id: str | None = None
    request_id: str | int | None = None
    timestamp: str | float | None = None
    api_key: str | None = None
    data: dict[str, Any] = {}


def _plain(value: object) -> str:
    return str.__str__(value) if isinstance(value, str) else str(value)


_to_json = msgspec.json.Encoder(enc_hook=_plain).encode
_to_msgpack = msgspec.msgpack.encode
_from_json = msgspec.json.Decoder(_Envelope).decode
_from_msgpack = msgspec.msgpack.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A decoded message."""

    type: str
    request_id: str | int | None
    api_key: str | None
    data: dict[str, Any]


def write_reply(reply: Reply, *, to: bytes) -> bytes:
    """Encode *reply* as JSON or msgpack, in the format of the frame *to* that it answers."""
    if to[:1] and to[0] in _MSGPACK_MAPS:
        return _to_msgpack(to_builtins(reply))  # to_builtins writes times as text, msgpack would not
    return _to_json(reply)


def read_message(frame: bytes) -> Incoming:
    """
    Decode one frame.

    Raises:
        InvalidRequest: The frame is neither JSON nor msgpack, or the message has no field ``type``.
        TooLarge: The message was too large to pass on, or has more than a million lists and objects, or more than ten
            million values.
    """
    if frame == REFUSED:
        raise TooLarge(
            f"The message is larger than serving.max_body_bytes, or has more than {MAX_FRAMES} frames.",
            remedy="Send fewer rows per message, in one frame.",
        )
    packed = bool(frame) and frame[0] in _MSGPACK_MAPS
    text = b"" if packed else without_mark(frame)
    if packed:
        check_msgpack_size(frame)
    else:
        check_json_size(text)
    try:
        envelope = _from_msgpack(frame) if packed else _from_json(text)
    except (ValueError, TypeError, RecursionError) as error:  # msgspec's own, text that is not Unicode, lists as keys
        found = None if packed or isinstance(error, RecursionError) else malformed(text, error)
        if found is not None and found.feature is not None:
            raise found from error
        raise InvalidRequest(f"The frame is not a message in JSON or msgpack: {error}.") from error
    if packed:
        check_levels(envelope.data)
        _check_like_json(envelope.data)
    else:
        check_depth(envelope.data, text)
        check_keys(envelope.data, text, beside=sum(value not in (None, {}) for value in structs.astuple(envelope)))
    if isinstance(envelope.request_id, int) and not _SMALLEST <= envelope.request_id <= _LARGEST:
        raise InvalidRequest("The request_id is a whole number that does not fit in 64 bits.")
    return Incoming(type=envelope.type, request_id=envelope.request_id, api_key=envelope.api_key, data=envelope.data)


def _check_like_json(data: object) -> None:
    """
    Raise an error if *data* contains a value, at any depth, that msgpack can represent and JSON cannot.

    Raises:
        InvalidRequest: A key is not text, or a value is binary, a time or an extension.
    """
    waiting = [data]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if not all(isinstance(key, str) for key in node):
                raise InvalidRequest("A key of the message is not text.")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
        elif not isinstance(node, _SCALARS):
            raise InvalidRequest(
                f"The message contains a value of type {type(node).__name__}, which is not allowed.",
                remedy="Send only values that JSON can represent, and write times as text.",
            )
