"""Errors to RFC 9457 problem documents: the one table of the control API, and the way back for its clients."""

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
"""First match wins."""

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    An error (RFC 9457); errors that carry particulars, as the reasons of a refusal, have them as further members.

    Attributes:
        type: ``urn:mendel:`` and the class of the error.
        remedy: What the caller can do; may be empty.
    """

    type: str
    title: str
    status: int
    detail: str
    remedy: str


def status_of(error: MendelError) -> int:
    """The HTTP status of *error*."""
    return status_of_class(type(error))


def status_of_class(error: type[MendelError]) -> int:
    """The HTTP status of errors of the class *error*."""
    return next(status for kind, status in STATUS if issubclass(error, kind))


def to_problem(error: MendelError) -> dict[str, Any]:
    """The problem document of *error*; ``type`` names the class, so that a client can raise it again."""
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
    The error a problem document was made of; one of an unknown class becomes a plain :class:`MendelError`.

    A particular that is missing is None, or empty.
    """
    kind = getattr(tree, str(document.get("type", "")).removeprefix(_URN), MendelError)
    if not (isinstance(kind, type) and issubclass(kind, MendelError)):
        kind = MendelError
    error = kind.__new__(kind)  # its own __init__ composes the message that stands in the document already
    MendelError.__init__(error, str(document.get("detail", "The hub refused.")), remedy=str(document.get("remedy", "")))
    for name in _particulars(kind):
        setattr(error, name, _typed(name, document.get(name)))
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
    (tree.RunnerError, ("log_tail",)),
    (tree.BuildError, ("log_tail",)),
    (tree.Unavailable, ("retry_after",)),
)
"""What errors carry beside message and remedy; it holds for subclasses too."""


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
        case "log_tail":
            return value or ""
        case _:
            return value
