"""How a check ends when it does not pass, and the comparison that most checks make."""

from __future__ import annotations

from typing import Final

LONGEST_TEXT: Final = 300


class CheckEnded(Exception):
    """A check ended before it passed; the text tells why."""


class Violation(CheckEnded):
    """The server does what the specification forbids, or not what it demands."""


class Undecided(CheckEnded):
    """The check cannot tell whether the server conforms."""


class NotOffered(CheckEnded):
    """The server or the model does not have what the check tests, and need not have it."""


def expect(holds: bool, otherwise: str) -> None:
    """Raise a Violation with the text *otherwise* unless the expectation *holds*."""
    if not holds:
        raise Violation(otherwise)


def shown(value: object, longest: int = LONGEST_TEXT) -> str:
    r"""
    Give *value* as one printable line, because the texts of a server may hold anything.

    >>> shown("not found\x1b[2J")
    'not found\\x1b[2J'
    """
    text = value if isinstance(value, str) else repr(value)
    line = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[: longest + 1])
    return line if len(line) <= longest else f"{line[:longest]}..."
