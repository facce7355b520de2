"""Views: what is shown is what registry, healing and ledger answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from mendel.adapters.memory import MemoryUnitOfWork, all_stores
from mendel.errors import IncidentNotFound
from mendel.healing import Evidence, Healing, Signal, SignalKind, load_playbooks
from mendel.registry import Approval, Governance, Registry, RegistryStore, VersionRecord
from mendel.values import Digest, Health, ModelName, Severity, Stage, VersionRef, VersionUuid, to_json
from mendel.views import Views

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CREDIT, DIGITS = ModelName("credit"), ModelName("digits")
SIGNED = Governance(policy_compliant=Approval(by="ann", at=NOW), bias_check_passed=Approval(by="ann", at=NOW))


@pytest.fixture
def house():
    unit, ids = MemoryUnitOfWork(all_stores()), count(1)
    registry = Registry(unit, None, lambda: NOW, lambda: f"id-{next(ids)}")
    healing = Healing(unit, registry, playbooks=load_playbooks(), training=None, new_id=lambda: f"h-{next(ids)}")
    for place, (model, number) in enumerate([(CREDIT, 1), (CREDIT, 2), (DIGITS, 1)], 1):
        record = VersionRecord(
            ref=VersionRef(model, number),
            uuid=VersionUuid(f"m-{place:032x}"),
            run_id=None,
            stage=Stage.SANDBOX,
            flavor="sklearn",
            task="classification",
            artifact_digest=Digest(f"sha256:{place:064x}"),
            registered_at=NOW,
            idempotency_key=str(place),
            governance=SIGNED,
        )
        unit.write(lambda tx, r=record: tx.store(RegistryStore).add_version(r))
        if model == CREDIT:
            registry.lifecycle.promote(record.ref, by="ann", reason="first")
    return Views(unit, registry), healing, registry


def fault():
    return Signal(
        kind=SignalKind.FAULTS,
        ref=VersionRef(CREDIT, 2),
        severity=Severity.HIGH,
        at=NOW,
        reasons=("High error rate: 12.00%",),
        evidence=Evidence(policy_hash="h", readings={}),
    )


def test_the_fleet_shows_who_needs_somebody_first(house):
    """A model with an incident stands before one without; nothing unknown is called healthy."""
    views, healing, _ = house
    assert [row.model for row in views.fleet(NOW).models] == ["credit", "digits"]
    healing.notice([fault()], NOW)
    healing.pause(by="ann", reason="night", now=NOW, model=DIGITS)
    fleet = views.fleet(NOW + timedelta(minutes=1))
    first, second = fleet.models
    assert (first.model, first.production, first.open_incidents, first.worst) == ("credit", 2, 1, Severity.HIGH)
    assert (second.production, second.health, second.open_incidents) == (None, Health.UNKNOWN, 0)
    assert str(first.following) == "no server reports this model"
    assert [pause.model for pause in fleet.pauses] == [DIGITS]
    assert to_json(fleet)


def test_a_model_in_full(house):
    """Versions, tenures and incidents come newest first, with deployment and policy."""
    views, healing, registry = house
    healing.notice([fault()], NOW)
    page = views.model(CREDIT, NOW)
    assert [record.ref.number for record in page.versions] == [2, 1]
    assert [tenure.version for tenure in page.history] == [2, 1]
    assert page.deployment == registry.lifecycle.deployment(CREDIT)
    assert [one.id for one in page.incidents] == ["INC-2026-1"]
    assert page.policy.hash == registry.policies.of(CREDIT).hash


def test_an_incident_in_full(house):
    """An incident comes with its decisions and runs; what waits for somebody is in the inbox."""
    views, healing, registry = house
    registry.policies.set(CREDIT, {"healing": {"autonomy": {"rollback": "propose"}}})
    healing.notice([fault()], NOW)
    page = views.incident("INC-2026-1")
    assert [record.verdict for record in page.decisions] == ["propose"]
    assert [run.id for run in page.runs] == [run.id for run in views.inbox()] == ["INC-2026-1-1"]
    assert views.incidents(DIGITS) == ()
    with pytest.raises(IncidentNotFound):
        views.incident("INC-2026-9")


def test_history_is_the_ledger_in_words(house):
    """Every event of a model and its versions, in order, with its reason in a sentence and its hash."""
    views, healing, _ = house
    healing.notice([fault()], NOW)
    rows = views.history("credit")
    assert [row.sequence for row in rows] == sorted(row.sequence for row in rows)
    (opened,) = views.history(types=["incident.opened"])
    assert "High error rate: 12.00%" in opened.summary
    assert len(opened.hash) == 64
    assert views.history(after=rows[-1].sequence) == ()
