"""ZMQ messages: one frame of JSON, or of msgpack by its first byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from mendel.errors import InvalidRequest
from mendel.serving import malformed

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
_to_msgpack = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_from_json = msgspec.json.Decoder(_Envelope).decode
_from_msgpack = msgspec.msgpack.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A message that could be read."""

    type: str
    request_id: str | int | None
    api_key: str | None
    data: dict[str, Any]


def encoder_for(frame: bytes) -> Callable[[Any], bytes]:
    """How the reply to *frame* is written: as *frame* was."""
    return _to_msgpack if frame[:1] and frame[0] in _MSGPACK_MAPS else _to_json


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
