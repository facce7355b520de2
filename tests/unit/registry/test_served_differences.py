"""A difference that only a server finds when it loads a version, in its own environment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mendel.errors import Conflict
from mendel.values import ModelConvergence, ServerReport


def failed(model, difference_id):
    return ModelConvergence(
        model=model,
        generation_desired=1,
        generation_serving=0,
        version_serving=None,
        failed_version=1,
        error="The answers differ: row 0.",
        detail="row 0: the model answered 41.625, served is 0",
        difference_id=difference_id,
        version_at_fault=True,
    )


def server_report(house, server, seq, line):
    return ServerReport(
        server=server, epoch="e1", seq=seq, at=house.clock(), revision=1, ready=True, convergence=(line,), spool={}
    )


@pytest.fixture
def report(house, registry):
    """Reports of servers that could not load version 1."""
    house.register()
    sent = []

    def report_(difference_id, server="s1"):
        line = failed(house.model, difference_id)
        sent.append(line)
        registry.performance.record_server_report(server_report(house, server, len(sent), line))

    return report_


def test_a_difference_that_only_a_server_found_can_be_accepted(report, house, registry):
    """Accepting takes exactly what servers reported, and servers hear of it; what was accepted before stays."""
    ref = house.ref(1)
    with pytest.raises(Conflict, match="no difference to accept"):
        registry.parity.accept_difference(ref, by="ann", reason="none")
    report("d1 d2")
    before = registry.lifecycle.revision()
    accepted = registry.parity.accept_difference(ref, by="ann", reason="another library there")
    assert accepted.served.accepted_difference == "d1 d2"
    assert registry.lifecycle.revision() > before
    report("d2 d3", server="s2")
    accepted = registry.parity.accept_difference(ref, by="ann", reason="and a third one")
    assert accepted.served.accepted_difference == "d1 d2 d3"


def test_a_difference_is_recorded_once(report, house, registry):
    """Two servers that report the same or different rows in turn write one event per new difference."""
    for difference_id, server in (("d1", "s1"), ("d2", "s2")) * 3:
        report(difference_id, server)
    assert len(house.events("model.difference_served")) == 2
    version = registry.versions.get(house.ref(1))
    assert version.served_parity.difference_id == "d1 d2"
    assert (version.public.served_parity.detail, version.accepted) == ("", None)


def test_the_values_are_told_after_the_version_was_taken_back(report, house, registry):
    """A server that serves another version no longer reports the fault; the registry kept it."""
    report("d1")
    assert [fault.where for fault in registry.performance.faults(house.ref(1))] == ["s1"]
    healthy = replace(failed(house.model, ""), failed_version=None, error=None, detail=None)
    registry.performance.record_server_report(server_report(house, "s1", 9, healthy))
    (fault,) = registry.performance.faults(house.ref(1))
    assert (fault.where, "41.625" in fault.detail) == ("a server", True)
