"""Map errors to the codes of ZMQ ``error`` replies."""

from __future__ import annotations

import mendel.errors as tree
from mendel.errors import MendelError, Unavailable
from mendel.transports.error_text import text_of
from mendel.transports.zmq.replies import ErrorReply

CODES: tuple[tuple[type[MendelError], str], ...] = (
    (tree.Unauthenticated, "unauthenticated"),
    (tree.Forbidden, "forbidden"),
    (tree.NotFound, "not_found"),
    (tree.TooLarge, "too_large"),
    (tree.InvalidInput, "invalid_request"),
    (tree.Conflict, "conflict"),
    (tree.Unsupported, "unsupported"),
    (tree.Overloaded, "overloaded"),
    (tree.DeadlineExceeded, "deadline_exceeded"),
    (tree.BreakerOpen, "breaker_open"),
    (tree.Unavailable, "unavailable"),
    (tree.ModelError, "model_failed"),
    (tree.MendelError, "internal"),
)
"""Error classes with their codes; the first class that matches an error decides."""


def code_of(error: MendelError) -> str:
    """Give the code for *error* in an ``error`` reply."""
    return next(code for kind, code in CODES if isinstance(error, kind))


def error_reply(error: MendelError) -> ErrorReply:
    """Build the ``data`` of an ``error`` reply for *error*."""
    pause = error.retry_after if isinstance(error, Unavailable) else None
    return ErrorReply(
        code=code_of(error), message=text_of(error), retry_after=None if pause is None else pause.total_seconds()
    )
