"""Map errors to HTTP statuses of the REST server."""

from __future__ import annotations

import math

import mendel.errors as tree
from mendel.errors import MendelError, Unavailable
from mendel.transports.error_text import text_of
from mendel.transports.rest.http_messages import Response, json_response

STATUS: tuple[tuple[type[MendelError], int], ...] = (
    (tree.Unauthenticated, 401),
    (tree.Forbidden, 403),
    (tree.NotFound, 404),
    (tree.TooLarge, 413),
    (tree.UnsupportedContent, 415),
    (tree.InvalidInput, 400),
    (tree.Conflict, 409),
    (tree.Unsupported, 501),
    (tree.Overloaded, 429),
    (tree.DeadlineExceeded, 504),
    (tree.Unavailable, 503),
    (tree.MendelError, 500),
)
"""Error classes with their statuses; the first class that matches an error decides."""


def status_of(error: MendelError) -> int:
    """Give the HTTP status for *error*."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def retry_after(error: MendelError) -> tuple[tuple[bytes, bytes], ...]:
    """Give the header Retry-After, in whole seconds; empty if *error* states no time to try again."""
    if not isinstance(error, Unavailable) or error.retry_after is None:
        return ()
    return ((b"retry-after", str(max(1, math.ceil(error.retry_after.total_seconds()))).encode()),)


def error_response(error: MendelError) -> Response:
    """Build the response ``{"error": "..."}``; with the header Retry-After if *error* states a time to try again."""
    headers = retry_after(error)
    if isinstance(error, tree.Unauthenticated):
        headers = ((b"www-authenticate", b"Bearer"),)
    return json_response({"error": text_of(error)}, status=status_of(error), headers=headers)
