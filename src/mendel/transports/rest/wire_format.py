"""HTTP/1.1 responses as bytes."""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final

from mendel.transports.rest.http_messages import Response

END: Final = b"\r\n"
"""Ends the headers of a response."""

CLOSE: Final = b"connection: close\r\n\r\n"
"""Ends the headers of the last response of a connection."""

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
"""Asks a caller that sent ``Expect: 100-continue`` for the body."""


def head_of(response: Response, correlation_id: str = "") -> bytes:
    r"""
    Give the status line and the headers of *response*; :data:`END` or :data:`CLOSE` must follow, and then the body.

    >>> head_of(Response(body=b"{}"), "7")
    b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nx-request-id: 7\r\n'
    """
    more = b"".join([b"%b: %b\r\n" % header for header in response.headers]) if response.headers else b""
    if correlation_id:
        more = b"%bx-request-id: %b\r\n" % (more, correlation_id.encode())
    return b"%b%d\r\n%b" % (_beginning(response.status, response.content_type), len(response.body), more)


@lru_cache(maxsize=256)
def _beginning(status: int, content_type: bytes) -> bytes:
    phrase = HTTPStatus(status).phrase
    return f"HTTP/1.1 {status} {phrase}\r\ncontent-type: ".encode() + content_type + b"\r\ncontent-length: "
