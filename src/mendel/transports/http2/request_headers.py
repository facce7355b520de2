"""Check the headers of a request as RFC 9113, section 8, says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUES: Final = re.compile(rb"[\0\r\n]|\A[ \t]|[ \t]\Z")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_OF_CONNECTIONS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_MOST_DIGITS: Final = 18


class MalformedRequest(Exception):
    """The headers are not those of a request; the stream is reset with PROTOCOL_ERROR."""


@dataclass(slots=True, kw_only=True)
class Request:
    """
    The headers of a request; streams with equal header blocks may share one.

    Attributes:
        fields: The headers without those that begin with a colon; a repeated header has its last value.
        content_length: The announced size of the body; None if it is not announced.
        size: The bytes of all names and values.
        head: What the application made of the headers.
    """

    method: bytes
    path: bytes
    fields: Mapping[bytes, bytes]
    content_length: int | None
    size: int
    head: Any = None


def read_request(headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """
    Check *headers* and sort them into a request.

    Raises:
        MalformedRequest: The headers break a rule of RFC 9113, section 8.2 or 8.3.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name[:1] == b":":
            if fields or name in pseudo or name not in _PSEUDO:
                raise MalformedRequest
            pseudo[name] = value
            if _FORBIDDEN_IN_VALUES.search(value):
                raise MalformedRequest
        else:
            _check_field(name, value)
            fields[name] = value
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    if not method or not path or not pseudo.get(b":scheme"):
        raise MalformedRequest
    length = _length(fields.get(b"content-length"))
    return Request(method=method, path=path, fields=fields, content_length=length, size=size)


def check_trailers(headers: Iterable[tuple[bytes, bytes]], *, ended: bool, most_bytes: int) -> None:
    """
    Check the trailers of a request.

    Raises:
        MalformedRequest: They do not end the request, have more than *most_bytes*, or break a rule of RFC 9113, 8.2.
    """
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        _check_field(name, value)
    if not ended or size > most_bytes:
        raise MalformedRequest


def _check_field(name: bytes, value: bytes) -> None:
    """Raise MalformedRequest for a header, not one that begins with a colon, that no request may have."""
    if not _NAME.fullmatch(name) or name in _OF_CONNECTIONS or (name == b"te" and value != b"trailers"):
        raise MalformedRequest
    if _FORBIDDEN_IN_VALUES.search(value):
        raise MalformedRequest


def _length(text: bytes | None) -> int | None:
    if text is None:
        return None
    if not text.isdigit() or len(text) > _MOST_DIGITS:
        raise MalformedRequest
    return int(text)
