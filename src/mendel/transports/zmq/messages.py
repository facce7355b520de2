"""ZMQ messages: one frame of JSON, or of msgpack by its first byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from mendel.errors import InvalidRequest
from mendel.serving import malformed
from mendel.transports.zmq.replies import Reply
from mendel.values import to_builtins

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
    """A message that could be read."""

    type: str
    request_id: str | int | None
    api_key: str | None
    data: dict[str, Any]


def write_reply(reply: Reply, *, to: bytes) -> bytes:
    """The frame of *reply*, in the format of the frame that it answers."""
    if to[:1] and to[0] in _MSGPACK_MAPS:
        return _to_msgpack(to_builtins(reply))  # msgpack's own times are not text
    return _to_json(reply)


def read_message(frame: bytes) -> Incoming:
    """
    Read one frame.

    Raises:
        InvalidRequest: It is neither, or has no type.
    """
    packed = bool(frame) and frame[0] in _MSGPACK_MAPS
    try:
        envelope = (_from_msgpack if packed else _from_json)(frame)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = None if packed else malformed(frame, error)
        if found is not None and found.feature is not None:
            raise found from error
        raise InvalidRequest(f"Not a message: {error}.") from error
    return Incoming(type=envelope.type, request_id=envelope.request_id, api_key=envelope.api_key, data=envelope.data)
