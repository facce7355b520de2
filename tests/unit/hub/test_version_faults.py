"""Who gets the words of a model and the values of its probe rows from the hub."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mendel.errors import Forbidden
from mendel.registry import Registration, VersionFault
from mendel.values import ModelConvergence, ModelName, ServerReport, to_json
from mendel.values.parity import PARITY_FILE, ParityReport, ParityStatus

SECRET = "41.625"
CREDIT = ModelName("credit")


@pytest.fixture
def reported(hub, tmp_path):
    """A version that differs at its registration, and that a server could not load."""
    tree = tmp_path / "tree"
    (tree / PARITY_FILE).parent.mkdir(parents=True)
    (tree / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    report = ParityReport(
        status=ParityStatus.DIFFERS,
        reason="row 0 has another prediction than the fitted model gave (1 of 1 rows differ)",
        detail=f"row 0 has another prediction than the fitted model gave: it answered {SECRET}, served is 0",
        difference_id="d1",
    )
    (tree / PARITY_FILE).write_bytes(to_json(report))
    registry = hub.parts.registry
    registry.versions.register(Registration(model=CREDIT, flavor="sklearn", task="regression"), tree)
    line = ModelConvergence(
        model=CREDIT,
        generation_desired=1,
        generation_serving=0,
        version_serving=None,
        failed_version=1,
        error="Unpickling the model failed with ValueError.",
        detail=f"ValueError: {SECRET}",
    )
    now = datetime.now(UTC)
    registry.performance.record_server_report(
        ServerReport(server="s1", epoch="e", seq=1, at=now, revision=1, ready=True, spool={}, convergence=(line,))
    )
    return report


def test_a_key_that_may_only_read_gets_no_value(hub, reported):
    """Versions, models, servers and cards have the type of the fault and its place."""
    client = hub.client("read")
    told = (client.model(CREDIT), client.versions(CREDIT), client.version("credit@1"), client.servers())
    assert SECRET not in repr(told) + client.card("credit@1")
    assert client.version("credit@1").parity.reason == reported.reason
    assert client.servers()[0].report.convergence[0].error == "Unpickling the model failed with ValueError."
    with pytest.raises(Forbidden):
        client.version_faults("credit@1")


def test_a_key_that_may_deploy_gets_the_values(hub, reported):
    """What the registration found and what a server reported, each with its detail."""
    assert hub.client("deploy").version_faults("credit@1") == (
        VersionFault(where="registration", fault=reported.reason, detail=reported.detail),
        VersionFault(where="s1", fault="Unpickling the model failed with ValueError.", detail=f"ValueError: {SECRET}"),
    )
