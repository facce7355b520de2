"""
Describe unexpected exceptions for the log by type and code location, without the message, which may quote a caller.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Final

_FRAMES: Final = 6
_CAUSES: Final = 4


@dataclass(frozen=True, slots=True)
class Fault:
    """
    An unexpected exception without its message, values and source lines.

    Attributes:
        kind: The type of the exception, and the types of its causes: ``ValueError from KeyError``.
        at: The innermost code locations, the innermost first: ``mendel.serving.kernel:212 infer < ...``.
    """

    kind: str
    at: str


def fault_of(error: BaseException) -> Fault:
    """
    Describe *error* in a time that does not depend on the message length, and without reading files.

    >>> try:
    ...     int("the caller's secret")
    ... except ValueError as error:
    ...     fault_of(error).kind
    'ValueError'
    """
    chain = list(islice(_causes(error), _CAUSES))
    return Fault(kind=" from ".join(map(_kind, chain)), at=" < ".join(_locations(error)))


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _kind(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, OSError) and (code := errno.errorcode.get(error.errno or 0)):
        return f"{name} {code}"
    if isinstance(error, BaseExceptionGroup):
        return f"{name}({', '.join(_kind(inner) for inner in error.exceptions[:_CAUSES])})"
    return name


def _locations(error: BaseException) -> Iterator[str]:
    while isinstance(error, BaseExceptionGroup) and error.exceptions[0].__traceback__ is not None:
        error = error.exceptions[0]
    innermost: deque[tuple[str, int, str]] = deque(maxlen=_FRAMES)
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        innermost.append((frame.f_globals.get("__name__", "?"), trace.tb_lineno, frame.f_code.co_name))
        trace = trace.tb_next
    return (f"{module}:{line} {function}" for module, line, function in reversed(innermost))


@dataclass(slots=True)
class _Repeats:
    since: float
    times: int = 0


class FaultRepeats:
    """
    Limits how often a fault is logged: the first of its kind, then one count per *period*.

    Args:
        period: The time between two log lines about one kind of fault.
        kinds: The maximum number of kinds counted separately; further kinds are counted together.
    """

    def __init__(self, period: timedelta = timedelta(minutes=1), kinds: int = 200) -> None:
        self._period, self._kinds = period.total_seconds(), kinds
        self._seen: dict[tuple[str, ...], _Repeats] = {}

    def first(self, kind: tuple[str, ...], now: float) -> bool:
        """
        Count a fault of *kind*; True if it is the first in its period and must be logged.

        >>> repeats = FaultRepeats()
        >>> repeats.first(("ValueError",), 0.0), repeats.first(("ValueError",), 1.0)
        (True, False)
        >>> list(repeats.due(61.0))
        [(('ValueError',), 1)]
        """
        if kind not in self._seen and len(self._seen) >= self._kinds:
            kind = ("other faults",)
        known = self._seen.get(kind)
        if known is None:
            self._seen[kind] = _Repeats(now)
            return True
        known.times += 1
        return False

    def due(self, now: float) -> Iterator[tuple[tuple[str, ...], int]]:
        """Give the kinds whose period has ended, with the number of faults that were not logged."""
        for kind, repeats in tuple(self._seen.items()):
            if now - repeats.since < self._period:
                continue
            if repeats.times:
                self._seen[kind] = _Repeats(now)
                yield kind, repeats.times
            else:
                del self._seen[kind]
