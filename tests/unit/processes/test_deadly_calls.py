"""Which version is at fault when workers end while models are called."""

import signal

import pytest

from mendel.adapters.processes.deadly_calls import DeadlyCalls
from mendel.serving import LoadKey, RefusedLoad
from mendel.values import Digest, ModelName, VersionRef

TWO = Digest(f"sha256:{'2' * 64}")
BAD, OTHER = VersionRef(ModelName("credit"), 1), VersionRef(ModelName("churn"), 3)
SEGV, KILL = -int(signal.SIGSEGV), -int(signal.SIGKILL)


@pytest.fixture
def deadly(desire, steady):
    """A server that serves version 1 of credit in generation 1; seconds pass by ``steady``."""
    calls = DeadlyCalls(lambda: steady.micros / 1e6)
    calls.take(desire(TWO, revision=1))
    return calls


def die(deadly, *calls, exit_code=SEGV, hung=False, loading=False):
    return deadly.lose(exit_code, frozenset(calls or (BAD,)), hung=hung, loading=loading)


def test_two_deaths_in_calls_of_one_version_put_it_at_fault(deadly):
    """After the second death no worker loads the version, and the reason says how the workers ended."""
    assert not die(deadly)
    assert deadly.refused == ()
    assert die(deadly, exit_code=3)
    assert deadly.refused == (
        RefusedLoad(
            load=LoadKey(model=BAD.model, version=1, digest=TWO),
            reason="Calling version 1 of credit ended the worker process: exit code 3, 2 times.",
            at_fault=True,
        ),
    )


def test_a_version_that_is_called_beside_the_guilty_one_is_not_blamed(deadly):
    """As long as two versions were called in every death nobody is blamed; the one in all of them is."""
    assert not die(deadly, BAD, OTHER)
    assert not die(deadly, BAD, OTHER)
    assert die(deadly, BAD)
    assert [one.load.model for one in deadly.refused] == [BAD.model]


def test_a_version_that_is_called_while_another_is_loaded_is_not_blamed(deadly):
    """A load may have ended the worker: it takes one death without a load to blame the called version."""
    assert not any(die(deadly, loading=True) for _ in range(4))
    assert die(deadly)


def test_a_version_that_was_never_called_alone_is_not_blamed(deadly):
    """A busy version beside two others is in every death, and yet may have ended no worker."""
    third = VersionRef(ModelName("fraud"), 2)
    assert not any((die(deadly, BAD, OTHER), die(deadly, BAD, third), die(deadly, BAD, OTHER)))
    assert deadly.refused == ()


def test_deaths_without_a_common_version_blame_nobody(deadly):
    """Each death in calls of another version begins the count anew."""
    assert not any(die(deadly, version) for version in (BAD, OTHER, BAD, OTHER))
    assert deadly.refused == ()


@pytest.mark.parametrize(
    ("exit_code", "calls"), [(KILL, {BAD}), (-int(signal.SIGTERM), {BAD}), (None, {BAD}), (SEGV, set())]
)
def test_other_deaths_count_for_nothing(deadly, exit_code, calls):
    """A kill from outside, a death on order, and a death in no call blame nobody."""
    assert not any(deadly.lose(exit_code, frozenset(calls), hung=False, loading=False) for _ in range(5))


def test_a_hang_that_the_supervisor_ends_counts_the_third_time(deadly):
    """A worker may be stopped from outside; three times in calls of the same version is its fault."""
    assert [die(deadly, exit_code=KILL, hung=True) for _ in range(3)] == [False, False, True]
    assert "its event loop hung, 3 times" in deadly.refused[0].reason


def test_deaths_far_apart_are_not_added_up(deadly, steady):
    """Two deaths count together only within ten minutes."""
    assert not die(deadly)
    steady.micros += 601 * 1_000_000
    assert not die(deadly)
    assert die(deadly)


@pytest.mark.parametrize("changed", [{"generation": 2}, {"restart_epoch": 1}])
def test_a_new_generation_or_restart_epoch_tries_again(deadly, desire, changed):
    """The blame belongs to one generation and restart epoch of the model."""
    die(deadly)
    die(deadly)
    deadly.take(desire(TWO, revision=2))
    assert deadly.refused
    deadly.take(desire(TWO, revision=3, **changed))
    assert deadly.refused == ()
