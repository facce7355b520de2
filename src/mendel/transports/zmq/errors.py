"""Errors to the codes of ZMQ ``error`` replies: the one table of the ZMQ door."""

from __future__ import annotations

from typing import Any

import mendel.errors as tree
from mendel.errors import MendelError, Unavailable

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
"""First match wins."""


def code_of(error: MendelError) -> str:
    """The code of *error*."""
    return next(code for kind, code in CODES if isinstance(error, kind))


def error_data(error: MendelError) -> dict[str, Any]:
    """The ``data`` of an ``error`` reply."""
    data: dict[str, Any] = {"code": code_of(error), "message": str(error)}
    if isinstance(error, Unavailable) and error.retry_after is not None:
        data["retry_after"] = error.retry_after.total_seconds()
    return data
