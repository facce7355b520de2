"""Map errors to gRPC status codes."""

from __future__ import annotations

import grpc

import mendel.errors as tree
from mendel.errors import MendelError

STATUS: tuple[tuple[type[MendelError], grpc.StatusCode], ...] = (
    (tree.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (tree.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (tree.NotFound, grpc.StatusCode.NOT_FOUND),
    (tree.InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (tree.Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (tree.Unsupported, grpc.StatusCode.UNIMPLEMENTED),
    (tree.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (tree.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (tree.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (tree.MendelError, grpc.StatusCode.INTERNAL),
)
"""Error classes with their status codes; the first class that matches an error decides."""


def status_of(error: MendelError) -> grpc.StatusCode:
    """Give the gRPC status code for *error*."""
    return next(status for kind, status in STATUS if isinstance(error, kind))
