"""Restarts of servers blame no version and no model, whatever delays them; a version that is bad is still found out."""

from __future__ import annotations

import random
import sys
import time

import pytest

from mendel.healing import Cause
from support.restarts import DELAYS, World, restart, table


@pytest.mark.parametrize("delay", DELAYS, ids=lambda delay: delay.name)
def test_a_restart_blames_nobody(make_house, make_watch, delay):
    """No incident names a version, nothing is rolled back, a server that is late is told of, and it ends well."""
    outcome = restart(make_house(), make_watch, 7, delay)
    assert (outcome.wrong_incidents, outcome.wrong_rollbacks, outcome.missed) == (0, 0, 0), outcome
    assert outcome.still_open == 0


@pytest.mark.parametrize("servers", [1, 3])
def test_a_bad_version_is_found_out_all_the_same(make_house, make_watch, servers):
    """A version that every server tries and none can load is rolled back, once, and its incident names it."""
    world = World(make_house(), make_watch, random.Random(1), servers=servers)
    world.run(20)
    world.promote(bad=True)
    world.run(60)
    (incident,) = world.incidents()
    assert incident.cause is Cause.LOAD_FAILURE
    assert world.house.registry.lifecycle.deployment(world.models[0]).production == 2


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
