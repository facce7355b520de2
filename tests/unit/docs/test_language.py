"""The check of hard phrases finds them in the texts that users read, and nowhere else."""

from __future__ import annotations

import pytest

ERRORS = frozenset({"InvalidValue"})


def found(check_language, source):
    return [
        line for line, _ in check_language.faults(check_language.texts_for_users(source, ERRORS), source.split("\n"))
    ]


@pytest.mark.parametrize(
    "source",
    [
        'raise InvalidValue(f"{name!r} is no stage.")',
        'raise InvalidValue("x", remedy=f"There are {known}.")',
        'option("--force", help="Push as it stands.")',
    ],
)
def test_a_hard_phrase_is_found_with_its_line(check_language, source):
    """A message, a remedy and a help text are searched, fields of f-strings included."""
    assert found(check_language, f"\n{source}") == [2]


@pytest.mark.parametrize(
    "source",
    [
        'raise InvalidValue("There is no stage x.")',
        'raise InvalidValue("x is no stage.")  # plain: quotes an older message',
        'log("x is no stage.")',
    ],
)
def test_other_texts_are_left_alone(check_language, source):
    """'There is no' is plain; an exempt line and a text that is no message are not searched."""
    assert found(check_language, source) == []
