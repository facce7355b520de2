"""Errors to RFC 9457 problem documents: the one table of the control API, and the way back for its clients."""

from __future__ import annotations

from typing import Any

import mendel.errors as tree
from mendel.errors import GenerationConflict, MendelError, PromotionRefused, Unavailable

STATUS: tuple[tuple[type[MendelError], int], ...] = (
    (tree.Unauthenticated, 401),
    (tree.Forbidden, 403),
    (tree.NotFound, 404),
    (tree.GenerationConflict, 412),
    (tree.Conflict, 409),
    (tree.TooLarge, 413),
    (tree.InvalidInput, 400),
    (tree.Unsupported, 501),
    (tree.Overloaded, 429),
    (tree.DeadlineExceeded, 504),
    (tree.Unavailable, 503),
    (tree.Corrupt, 422),
    (tree.ModelError, 502),
    (tree.RunnerError, 502),
    (tree.MendelError, 500),
)
"""First match wins."""

MEDIA_TYPE = "application/problem+json"


def status_of(error: MendelError) -> int:
    """The HTTP status of *error*."""
    return next(status for kind, status in STATUS if isinstance(error, kind))


def to_problem(error: MendelError) -> dict[str, Any]:
    """The problem document of *error*; ``type`` names the class, so that a client can raise it again."""
    document: dict[str, Any] = {
        "type": f"urn:mendel:{type(error).__name__}",
        "title": type(error).__name__,
        "status": status_of(error),
        "detail": error.message,
        "remedy": error.remedy,
    }
    match error:
        case GenerationConflict():
            document |= {"expected": error.expected, "actual": error.actual}
        case PromotionRefused():
            document |= {"reasons": list(error.reasons)}
        case tree.NeedsNewImage():
            document |= {"release": error.release}
        case tree.LedgerBroken():
            document |= {"sequence": error.sequence}
        case Unavailable() if error.retry_after is not None:
            document |= {"retry_after": error.retry_after.total_seconds()}
        case _:
            pass
    return document


def from_problem(document: dict[str, Any]) -> MendelError:
    """The error a problem document was made of; an unknown one becomes a plain :class:`MendelError`."""
    message, remedy = str(document.get("detail", "The hub refused.")), str(document.get("remedy", ""))
    kind = getattr(tree, str(document.get("type", "")).removeprefix("urn:mendel:"), MendelError)
    if not (isinstance(kind, type) and issubclass(kind, MendelError)) or kind is tree.InvalidProject:
        kind = MendelError
    particulars = {name: document[name] for name in _PARTICULARS.get(kind, ())}
    if "reasons" in particulars:
        particulars["reasons"] = tuple(particulars["reasons"])
    return kind(message, remedy=remedy, **particulars)


_PARTICULARS: dict[type[MendelError], tuple[str, ...]] = {
    GenerationConflict: ("expected", "actual"),
    PromotionRefused: ("reasons",),
    tree.NeedsNewImage: ("release",),
    tree.LedgerBroken: ("sequence",),
}
