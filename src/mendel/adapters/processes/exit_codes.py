"""Say how a child process ended, from its exit code."""

from __future__ import annotations

import signal
from typing import Final

_SENT_BY_OTHERS: Final = frozenset(
    -int(number)
    for number in (
        *(signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
        *(signal.SIGBUS, signal.SIGXCPU, signal.SIGXFSZ),  # the disk or shared memory is full, or a limit is reached
    )
)


def sent_by_others(exit_code: int) -> bool:
    """Tell whether another process or the machine may have ended the process, for example when memory ran out."""
    return exit_code in _SENT_BY_OTHERS


def exit_text(exit_code: int) -> str:
    """
    Give the exit code or the signal as text.

    >>> exit_text(3), exit_text(-11)
    ('exit code 3', 'signal 11 (SIGSEGV)')
    """
    if exit_code >= 0:
        return f"exit code {exit_code}"
    try:
        return f"signal {-exit_code} ({signal.Signals(-exit_code).name})"
    except ValueError:
        return f"signal {-exit_code}"
