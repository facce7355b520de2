"""BackgroundJobs: repeated whatever happens, recorded, ended at once."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest

from mendel.app.hub.background_jobs import BackgroundJob, BackgroundJobs
from mendel.errors import Fenced, StoreUnavailable
from mendel.values import EPOCH

SOON, NEVER = timedelta(milliseconds=1), timedelta(hours=1)


def never_fenced():
    pytest.fail("nobody was fenced")


def until(reached):
    end = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.001)


def test_a_failing_job_is_recorded_and_repeated():
    """What a job raises, ours or not, is counted and kept, and it is done again; a success ends the count."""
    errors = [StoreUnavailable("The disk is away."), ZeroDivisionError("oops")]
    calls = []

    def act():
        calls.append(1)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]

    job = BackgroundJob(name="ship", every=SOON, act=act)
    with BackgroundJobs([job], lambda: EPOCH, never_fenced) as jobs:
        state = jobs.states["ship"]
        until(lambda: state.runs >= 2)
    assert (state.failures, state.failed_in_all) == (0, 2)
    assert state.last_error == "ZeroDivisionError: oops"
    assert state.last_success == EPOCH


def test_failures_in_a_row_are_counted():
    """While it fails, the count grows, and nothing counts as success."""

    def act():
        raise StoreUnavailable("The disk is away.")

    with BackgroundJobs([BackgroundJob(name="ship", every=SOON, act=act)], lambda: EPOCH, never_fenced) as jobs:
        until(lambda: jobs.states["ship"].failures >= 3)
        state = jobs.states["ship"]
    assert (state.runs, state.last_success) == (0, None)
    assert state.last_error == "StoreUnavailable: The disk is away."


def test_one_that_fails_or_hangs_keeps_no_other_from_its_pace():
    """Each job has a thread of its own."""
    gate, calm = threading.Event(), []
    hangs = BackgroundJob(name="hangs", every=SOON, act=lambda: gate.wait() and None)
    fine = BackgroundJob(name="fine", every=SOON, act=lambda: calm.append(1))
    with BackgroundJobs([hangs, fine], lambda: EPOCH, never_fenced):
        until(lambda: len(calm) > 5)
        gate.set()


def test_fenced_ends_everything_once():
    """A lost lease stops every job and tells the hub once, however many find out."""
    told, together = [], threading.Barrier(3)

    def act():
        together.wait(10)
        raise Fenced("Another hub acts now.")

    jobs = BackgroundJobs(
        [BackgroundJob(name=f"c{n}", every=SOON, act=act) for n in range(3)], lambda: EPOCH, lambda: told.append(1)
    )
    with jobs:
        until(lambda: all(state.last_error for state in jobs.states.values()))
        time.sleep(0.05)
    assert told == [1]
    assert {state.last_error for state in jobs.states.values()} == {"Fenced: Another hub acts now."}
    assert [state.failed_in_all for state in jobs.states.values()] == [0, 0, 0]


def test_ending_waits_for_no_pace():
    """However long a job sleeps, and however early one ends, ending is prompt and leaves no thread."""
    for _ in range(50):
        began = time.monotonic()
        with BackgroundJobs(
            [BackgroundJob(name=f"c{n}", every=NEVER, act=lambda: None) for n in range(4)], lambda: EPOCH, never_fenced
        ):
            pass
        assert time.monotonic() - began < 5
    assert not [one.name for one in threading.enumerate() if one.name.startswith("job-")]


def test_a_call_that_hangs_is_awaited_no_longer_than_its_job_allows():
    """The end of the hub waits for a running call for ``ends_within``, then the hub ends without the call."""
    began, gate = threading.Event(), threading.Event()
    job = BackgroundJob(name="opens", every=NEVER, act=lambda: began.set() or gate.wait(), ends_within=SOON)
    try:
        with BackgroundJobs([job], lambda: EPOCH, never_fenced):
            assert began.wait(10)
            ended = time.monotonic()
        assert time.monotonic() - ended < 10
    finally:
        gate.set()
    until(lambda: not [one.name for one in threading.enumerate() if one.name == "job-opens"])
