"""Which loads a server tries again after they ended a worker."""

import signal

import pytest

from mendel.adapters.processes.deadly_loads import DeadlyLoads, LoadOrders
from mendel.serving import LoadKey
from mendel.values import Digest, ModelName

ONE, TWO = Digest(f"sha256:{'1' * 64}"), Digest(f"sha256:{'2' * 64}")
BAD = LoadKey(model=ModelName("credit"), version=2, digest=TWO)
GOOD = LoadKey(model=ModelName("churn"), version=1, digest=ONE)
SEGV, KILL = -int(signal.SIGSEGV), -int(signal.SIGKILL)


@pytest.fixture
def deadly(desire, steady):
    """A server that serves generation 1 of one model; seconds pass by ``steady``."""
    loads = DeadlyLoads(lambda: steady.micros / 1e6)
    loads.take(desire(TWO, revision=1))
    return loads


def die(deadly, slot, exit_code=SEGV, *loads, answering=False):
    deadly.note_loading(slot, frozenset(loads or (BAD,)))
    return deadly.lose(slot, exit_code, answering=answering)


def test_a_load_that_killed_a_worker_is_tried_by_one_worker_alone(deadly):
    """The successor of the dead worker tries it; the others serve what they have and say why."""
    assert die(deadly, 1, answering=True)
    assert deadly.orders(1) == LoadOrders(trials=(BAD,))
    (refused,) = deadly.orders(0).refused
    assert (refused.load, refused.at_fault) == (BAD, False)
    assert "signal 11 (SIGSEGV)" in refused.reason


def test_two_deaths_prove_that_the_version_cannot_be_loaded(deadly):
    """The second death, in a worker that did nothing else, is evidence; no worker tries the load again."""
    die(deadly, 0, answering=True)
    die(deadly, 0, 3)
    for slot in (0, 1):
        (refused,) = deadly.orders(slot).refused
        assert refused.at_fault
        assert refused.reason == "Loading version 2 of credit ended the worker process: exit code 3, 2 times."
        assert deadly.orders(slot).trials == ()


@pytest.mark.parametrize("changed", [{"generation": 2}, {"restart_epoch": 1}])
def test_a_new_generation_or_restart_epoch_tries_again(deadly, desire, changed):
    """The refusal belongs to one generation and restart epoch of the model."""
    die(deadly, 0)
    die(deadly, 0)
    deadly.take(desire(TWO, revision=2))
    assert deadly.orders(0).refused
    deadly.take(desire(TWO, revision=3, **changed))
    assert deadly.orders(0) == LoadOrders()


def test_deaths_among_requests_or_other_loads_prove_nothing(deadly):
    """A request or another load may have ended the process; each load is then tried alone, and lives."""
    for _ in range(4):
        die(deadly, 0, answering=True)
    assert deadly.orders(0).trials == (BAD,)
    die(deadly, 0, SEGV, GOOD, BAD)
    assert not any(refused.at_fault for refused in deadly.orders(0).refused)


def test_of_two_loads_only_the_deadly_one_is_refused(deadly, desire):
    """The load that ends in a living worker is cleared, and every worker may run it again."""
    other = desire(ONE, revision=1, model="churn").models
    state = desire(TWO, revision=1)
    deadly.take(type(state)(revision=1, models=(*state.models, *other), key_hashes={}))
    die(deadly, 0, SEGV, GOOD, BAD)
    assert set(deadly.orders(0).trials) == {GOOD, BAD}
    deadly.note_loading(0, frozenset({GOOD}))
    assert deadly.note_loading(0, frozenset())
    assert deadly.orders(1).refused[0].load == BAD
    die(deadly, 0)
    assert [refused.load for refused in deadly.orders(0).refused] == [BAD]


def test_a_worker_killed_from_outside_is_no_evidence(deadly, steady):
    """Lack of memory, or a person, ended the worker: the load pauses for 1 minute, then 2, and nobody is blamed."""
    die(deadly, 0, KILL)
    assert deadly.orders(0).trials == (BAD,)
    for minutes in (1, 2, 4):
        die(deadly, 0, KILL)
        (refused,) = deadly.orders(0).refused
        assert not refused.at_fault
        assert "tried again later" in refused.reason
        steady.pass_seconds(60 * minutes - 1)
        assert not deadly.end_pauses()
        steady.pass_seconds(1)
        assert deadly.end_pauses()
        assert deadly.orders(0).trials == (BAD,)


def test_a_worker_that_was_told_to_end_is_no_death(deadly):
    """A worker that drains in the middle of a load leaves no suspicion, and another worker takes over a trial."""
    assert not die(deadly, 0, None)
    assert deadly.orders(0) == LoadOrders()
    die(deadly, 0)
    deadly.lose(0, None, answering=False)
    assert deadly.orders(5).trials == (BAD,)


def test_a_worker_that_dies_without_a_load_blames_no_load(deadly):
    """Only loads that ran at the time are suspect."""
    deadly.note_loading(0, frozenset({BAD}))
    deadly.note_loading(0, frozenset())
    assert not deadly.lose(0, SEGV, answering=True)
    assert deadly.orders(0) == LoadOrders()
