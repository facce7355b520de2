"""What of an exception may be logged, and how often."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from mendel.resilience import FaultRepeats, fault_of


def raised(error):
    """*error* with a traceback, as an ``except`` clause has it."""
    try:
        raise error
    except type(error) as caught:
        return caught


@given(st.text(min_size=1).filter(lambda text: text.strip("0123456789. <>:_abcdefghijklmnopqrstuvwxyz")))
def test_a_message_never_shows(message):
    """Type and place are told; no part of the message is."""
    fault = fault_of(raised(ValueError(f"MARK{message}")))
    assert fault.kind == "ValueError"
    assert "MARK" not in fault.at
    assert fault.at.startswith(f"{__name__}:")


def test_a_deep_recursion_is_told_by_its_innermost_frames():
    """A thousand frames are cut to the innermost six."""

    def deeper():
        deeper()

    try:
        deeper()
    except RecursionError as error:
        fault = fault_of(error)
    assert fault.kind == "RecursionError"
    assert fault.at.count("deeper") == 6


def test_kinds_beyond_the_bound_count_together():
    """A caller who makes new kinds of faults fills neither memory nor log."""
    repeats = FaultRepeats(timedelta(seconds=1), kinds=3)
    assert [repeats.first((str(kind),), 0.0) for kind in range(10)] == [True] * 4 + [False] * 6
    assert list(repeats.due(2.0)) == [(("other faults",), 6)]
    assert repeats.first(("0",), 3.0)


def test_a_kind_that_does_not_return_is_forgotten():
    """After a quiet period the next occurrence is a first one again."""
    repeats = FaultRepeats(timedelta(seconds=1))
    assert repeats.first(("a",), 0.0)
    assert not repeats.first(("a",), 0.5)
    assert list(repeats.due(0.9)) == []
    assert list(repeats.due(1.0)) == [(("a",), 1)]
    assert list(repeats.due(2.0)) == []
    assert repeats.first(("a",), 2.1)
