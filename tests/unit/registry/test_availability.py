"""When a server counts as reporting: one rule for health, triggers, incidents and convergence."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from mendel.healing import convergence_of
from mendel.registry import ServerState, availability_of
from mendel.values import EPOCH, Deployment, ModelConvergence, ModelName, Route, ServerReport

CREDIT, DIGITS = ModelName("credit"), ModelName("digits")
SECOND = timedelta(seconds=1)
SILENCE = 10 * SECOND
NOW = EPOCH + timedelta(days=1)
DEPLOYMENT = Deployment(model=CREDIT, generation=3, routes=(Route(version=2, share=1.0),))


def server(name, ago, *, model=CREDIT, serving=2, error=None, at_fault=False, loads=1, leaving=False):
    line = ModelConvergence(
        model=model,
        generation_desired=3,
        generation_serving=0 if serving is None else 3,
        version_serving=serving,
        failed_version=None if error is None else 2,
        error=error,
        version_at_fault=at_fault,
        failed_loads=loads,
    )
    report = ServerReport(
        server=name,
        epoch="e",
        seq=1,
        at=NOW - ago,
        revision=1,
        ready=True,
        convergence=(line,),
        spool={},
        leaving=leaving,
    )
    return ServerState(report=report, received_at=NOW - ago)


@given(
    ages=st.lists(st.integers(0, 20).map(lambda seconds: seconds * SECOND), max_size=6),
    others=st.integers(0, 3),
)
def test_health_triggers_and_convergence_count_the_same_servers(ages, others):
    """Whatever the ages of the reports, each holder is reporting or silent, and convergence counts the reporting."""
    holders = [server(f"s{place}", age) for place, age in enumerate(ages)]
    elsewhere = [server(f"o{place}", timedelta(0), model=DIGITS) for place in range(others)]
    available = availability_of(CREDIT, [*holders, *elsewhere], SILENCE, NOW)
    assert len(available.reporting) == sum(age <= SILENCE for age in ages)
    assert len(available.reporting) + len(available.silent) == len(ages)
    assert convergence_of(DEPLOYMENT, available).servers == len(available.reporting)
    assert available.all_silent == (bool(ages) and all(age > SILENCE for age in ages))
    assert (available.outage is not None) == available.all_silent


def test_servers_that_fail_to_load_are_an_outage_once_none_serves():
    """A load failure counts while every reporting server has one; silent servers say nothing about it."""
    failing = server("s1", SECOND, serving=None, error="no memory")
    silent = server("s2", 11 * SECOND)
    assert (
        availability_of(CREDIT, [failing, silent], SILENCE, NOW).load_error == "No server can load the model: no memory"
    )
    serving = server("s2", SECOND)
    assert availability_of(CREDIT, [failing, serving], SILENCE, NOW).outage is None


def test_without_a_server_nothing_is_known():
    """A model that no server holds has no outage: absence of reports about it is not evidence."""
    available = availability_of(CREDIT, [server("s1", SECOND, model=DIGITS)], SILENCE, NOW)
    assert (available.outage, available.all_silent, available.uncertainty) == (None, False, None)


def test_only_a_version_that_failed_itself_is_blamed():
    """What no server can load is an outage; it is the version's failure only where a server says so of this version."""
    lost = availability_of(CREDIT, [server("s1", SECOND, serving=None, error="no disk")], SILENCE, NOW)
    assert (lost.outage, lost.failure_of(2)) == ("No server can load the model: no disk", None)
    failing = {"serving": None, "error": "bad", "at_fault": True}
    once = availability_of(CREDIT, [server(name, SECOND, **failing) for name in ("s1", "s2")], SILENCE, NOW)
    assert (once.outage, once.failure_of(2)) == ("No server can load the model: bad", None), "nobody has tried again"
    twice = availability_of(CREDIT, [server("s1", SECOND, loads=2, **failing)], SILENCE, NOW)
    assert twice.failure_of(2) is None, "the second load follows the first within seconds"
    bad = availability_of(CREDIT, [server("s1", SECOND, loads=3, **failing)], SILENCE, NOW)
    assert bad.failure_of(2) == "No server can load the model: bad"
    assert bad.failure_of(3) is None, "another version of the deployment failed"


def test_starting_and_stopped_servers_are_no_outage():
    """A server that loads the model, or said goodbye, leaves open whether the model answers: unknown, and why."""
    starting = availability_of(CREDIT, [server("s1", SECOND, serving=None)], SILENCE, NOW)
    assert (starting.outage, starting.uncertainty) == (None, "No server serves the model yet; loading: s1")
    stopped = availability_of(CREDIT, [server("s1", 11 * SECOND, leaving=True)], SILENCE, NOW)
    assert (stopped.outage, stopped.uncertainty) == (None, "Every server was stopped: s1")
    ahead = availability_of(CREDIT, [server("s1", -timedelta(hours=1))], SILENCE, NOW)
    assert (ahead.outage, ahead.uncertainty) == (None, "No report has arrived yet of: s1")
