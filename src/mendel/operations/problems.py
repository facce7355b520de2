"""Convert errors to RFC 9457 problem documents (hub) and problem documents to errors (client)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import mendel.errors as tree
from mendel.errors import MendelError

STATUS: tuple[tuple[type[MendelError], int], ...] = (
    (tree.Unauthenticated, 401),
    (tree.Forbidden, 403),
    (tree.NotFound, 404),
    (tree.GenerationConflict, 412),
    (tree.Conflict, 409),
    (tree.TooLarge, 413),
    (tree.UnsupportedContent, 415),
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
"""Error classes with their HTTP statuses; the first class that matches an error decides."""

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    An error as a problem document (RFC 9457); some errors have further members, such as ``reasons``.

    Attributes:
        type: ``urn:mendel:`` followed by the name of the error's class.
        remedy: The advice to the caller; may be empty.
    """

    type: str
    title: str
    status: int
    detail: str
    remedy: str


def status_of(error: MendelError) -> int:
    """Give the HTTP status for *error*."""
    return status_of_class(type(error))


def status_of_class(error: type[MendelError]) -> int:
    """Give the HTTP status for errors of the class *error*."""
    return next(status for kind, status in STATUS if issubclass(error, kind))


def to_problem(error: MendelError) -> dict[str, Any]:
    """Convert *error* to a problem document; ``type`` names the class, so that a client can raise the same error."""
    return {
        "type": f"{_URN}{type(error).__name__}",
        "title": type(error).__name__,
        "status": status_of(error),
        "detail": error.message,
        "remedy": error.remedy,
        **{name: _plain(getattr(error, name)) for name in _particulars(type(error))},
    }


def from_problem(document: dict[str, Any]) -> MendelError:
    """
    Convert a problem document to an error of the class that ``type`` names, or to a MendelError for an unknown class.

    An attribute that the document lacks becomes None or empty.
    """
    kind = getattr(tree, str(document.get("type", "")).removeprefix(_URN), MendelError)
    if not (isinstance(kind, type) and issubclass(kind, MendelError)):
        kind = MendelError
    error = kind.__new__(kind)  # kind.__init__ would compose the message, which the document already has
    MendelError.__init__(
        error, str(document.get("detail", "The hub refused the request.")), remedy=str(document.get("remedy", ""))
    )
    for name in _particulars(kind):
        setattr(error, name, _typed(name, document.get(name)))
    if isinstance(error, tree.ModelError):
        error.detail = ""  # never in a document: it may quote training rows
    return error


_URN = "urn:mendel:"
_PARTICULARS: tuple[tuple[type[MendelError], tuple[str, ...]], ...] = (
    (tree.GenerationConflict, ("expected", "actual")),
    (tree.PromotionRefused, ("reasons",)),
    (tree.ReleaseRefused, ("reasons",)),
    (tree.BuildRefused, ("reasons",)),
    (tree.SignatureInvalid, ("reasons",)),
    (tree.NeedsNewImage, ("release",)),
    (tree.LedgerBroken, ("sequence",)),
    (tree.InvalidProject, ("path", "line")),
    (tree.InvalidRequest, ("feature",)),
    (tree.StepFailed, ("kind",)),
    (tree.ModelFailed, ("kind", "at")),
    (tree.ModelNotLoadable, ("difference_id",)),
    (tree.RunnerError, ("log_tail",)),
    (tree.BuildError, ("log_tail",)),
    (tree.Unavailable, ("retry_after",)),
)
"""The further attributes of error classes and their subclasses, besides message and remedy."""


def _particulars(kind: type[MendelError]) -> tuple[str, ...]:
    return next((names for base, names in _PARTICULARS if issubclass(kind, base)), ())


def _plain(value: object) -> object:
    match value:
        case timedelta():
            return value.total_seconds()
        case tuple():
            return list(value)
        case _:
            return value


def _typed(name: str, value: Any) -> object:
    match name:
        case "retry_after":
            return None if value is None else timedelta(seconds=value)
        case "reasons":
            return tuple(value or ())
        case "log_tail" | "difference_id" | "at":
            return value or ""
        case _:
            return value
