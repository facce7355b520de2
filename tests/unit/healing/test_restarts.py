"""Restarts of servers blame no version and no model, whatever delays them; a version that is bad is still found out."""

from __future__ import annotations

import sys
import time

import pytest

from support.restarts import DELAYS, FAULTS, convict, fault_table, restart, table


@pytest.mark.parametrize("delay", DELAYS, ids=lambda delay: delay.name)
def test_a_restart_blames_nobody(make_house, make_watch, delay):
    """No incident names a version, nothing is rolled back, a server that is late is told of, and it ends well."""
    outcome = restart(make_house(), make_watch, 7, delay)
    assert (outcome.wrong_incidents, outcome.wrong_rollbacks, outcome.missed) == (0, 0, 0), outcome
    assert outcome.still_open == 0


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_bad_version_is_found_out_all_the_same(make_house, make_watch, fault):
    """A version that every server tries and none can load is undone in time; incidents name it and no other version."""
    bad, verdict = convict(make_house(), make_watch, 5, fault)
    assert set(verdict.blamed) == {bad}
    assert verdict.wrong_rollbacks == 0
    assert verdict.seconds is not None, verdict
    assert verdict.seconds <= fault.within


@pytest.mark.soak
def test_bad_versions_are_found_out_by_the_hundred(make_house, make_watch, soak_seconds, capsys):
    """At least 100 bad versions, each undone in time, and no other version is blamed or rolled back."""
    verdicts, end, number = [], time.monotonic() + soak_seconds, 0
    while number < 100 or time.monotonic() < end:
        fault = FAULTS[number % len(FAULTS)]
        verdicts.append((fault, *convict(make_house(), make_watch, number, fault)))
        number += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{fault_table(verdicts)}\n")
    wrong = [
        (fault.name, bad, verdict)
        for fault, bad, verdict in verdicts
        if set(verdict.blamed) != {bad}
        or verdict.wrong_rollbacks
        or verdict.seconds is None
        or verdict.seconds > fault.within
    ]
    assert not wrong


@pytest.mark.soak
def test_hundreds_of_restarts_blame_nobody(make_house, make_watch, soak_seconds, capsys):
    """At least 200 restarts, of every kind in turn, with 0 wrong incidents, 0 wrong rollbacks and none missed."""
    outcomes, end, number = [], time.monotonic() + soak_seconds, 0
    while number < 200 or time.monotonic() < end:
        delay = DELAYS[number % len(DELAYS)]
        outcomes.append((delay, restart(make_house(), make_watch, number, delay)))
        number += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{table(outcomes)}\n")
    wrong = [(d.name, o) for d, o in outcomes if o.wrong_incidents or o.wrong_rollbacks or o.missed]
    assert not wrong
