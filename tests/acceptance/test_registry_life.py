"""
The life of a registry, told once through Python, HTTP and the command line: two versions are registered and promoted,
other systems push what they measured, and healing rolls the second version back. One hub, no server.
"""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from mendel.healing import IncidentStatus, RunState, SignalKind
from mendel.registry import Snapshot
from mendel.values import Health, Severity, Stage, VersionRef, Window, to_json
from support.threshold import Threshold

pytestmark = pytest.mark.slow(20)
MODEL, FIRST, SECOND = "credit", "credit@1", "credit@2"
WINDOW = timedelta(minutes=5)
POLICY = {"healing": {"profile": "classic", "effect_within": "1s"}}
TRAINING = pd.DataFrame({"age": np.linspace(20, 70, 200), "income": np.linspace(1000, 2000, 200)})


class Faces:
    """The three faces of one hub."""

    def __init__(self, installation):
        self.house = installation
        self.python = installation.over_http()
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{installation.ports['hub']}/api/v1",
            headers={"Authorization": f"Bearer {installation.data.secret()}"},
            timeout=30,
        )

    def close(self):
        self._http.close()
        self.python.close()

    def get(self, path):
        answer = self._http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path, body):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._http.post(path, content=content, headers={"Content-Type": "application/json"})

    def command(self, *words):
        return json.loads(self.house.ok(*words, "--json"))

    def measured(self, number, **figures):
        window = Window.before(self.house.now(), WINDOW)
        ref = VersionRef.parse(f"{MODEL}@{number}")
        return Snapshot(ref=ref, window=window, num_requests=1500, **{"source": "gateway", **figures})

    def events(self, subject, kind):
        found = self.python.events(subject=subject).entries
        return [entry.event for entry in found if entry.event.type == kind]


@pytest.fixture
def faces(install):
    installation = install()
    process = installation.start("hub")
    installation.until(lambda: installation.data.hub() is not None, process=process)
    found = Faces(installation)
    yield found
    found.close()


def fitted(steepness):
    model = Threshold(tuple(TRAINING.columns), steepness=steepness)
    return model.fit(TRAINING.to_numpy(), np.array(TRAINING["age"] > 40, dtype=int))


def test_the_life_of_a_registry(faces):
    """In order: register, lifecycle, snapshot, triggers, incident, healing, rollback, health, fleet and card."""
    register(faces)
    live(faces)
    push_what_does_not_trigger(faces)
    push_what_triggers(faces)
    incidents = open_incidents(faces)
    heal(faces, incidents)
    measure_the_effect(faces, incidents)
    tell(faces)


def register(faces):
    """One call makes one version, and all faces find it by its uuid."""
    details = {"name": MODEL, "training_data": TRAINING, "metrics": {"f1": 0.81}, "version_info": {"owner": "risk"}}
    first = faces.python.register_baseline(model=fitted(1.0), model_type="classification", **details)
    second = faces.python.register_improved_model(
        model=fitted(2.0),
        baseline_id=first.model_id,
        delta_metrics={"f1": 0.03},
        contributor=f"0x{7:040x}",
        **details,
    )
    assert (first.model_id, second.model_id) == ("credit/1", "credit/2")
    assert faces.python.get_model_by_uuid(first.model_uuid).ref.number == 1
    assert faces.get(f"/versions/by-uuid/{second.model_uuid}")["ref"] == {"model": MODEL, "number": 2}
    assert [one["uuid"] for one in faces.command("models", "versions", MODEL)] == [first.model_uuid, second.model_uuid]


def live(faces):
    """Stages change along the table only; the second promotion moves the first version to sandbox."""
    faces.command("policy", "set", MODEL, policy_file(faces))
    faces.command("approve", FIRST, "--policy", "--bias")
    refused = faces.post(f"/models/{MODEL}/versions/1/promote", {"reason": "too early"})
    assert refused.status_code == 409, refused.text
    assert faces.post(f"/models/{MODEL}/versions/1/stage", {"to": "sandbox"}).json()["stage"] == "sandbox"
    assert faces.command("promote", FIRST, "--reason", "the first")["generation"] == 1
    faces.python.approve(SECOND, policy=True, bias=True)
    faces.python.change_stage(SECOND, "sandbox")
    assert faces.python.version(FIRST).stage is Stage.PRODUCTION


def policy_file(faces):
    path = faces.house.root / "policy.json"
    path.write_text(json.dumps(POLICY))
    return str(path)


def push_what_does_not_trigger(faces):
    """A drift of exactly 0.300, errors of exactly 5 % and OOD rows of exactly 20 % are within their bounds."""
    at_bound = faces.measured(1, error_rate=0.05, ood_rate=0.2, input_drift_score=0.1 + 0.2)
    check = faces.python.record_performance_snapshot(at_bound)
    assert (check.should_roll_back, check.reasons) == (False, ())
    assert not faces.command("rollback-check", MODEL)["should_roll_back"]
    refused = faces.post(f"/models/{MODEL}/snapshots", to_json(at_bound).replace(b'"ood_rate":0.2', b'"ood_rate":20'))
    assert refused.status_code == 400
    assert faces.get("/incidents") == []


def push_what_triggers(faces):
    """Three systems push 6.68 % errors, 21.67 % OOD rows and a drift of 0.350, each through another face."""
    faces.python.pause_healing(reason="until everything is measured")
    assert faces.command("promote", SECOND, "--reason", "better")["generation"] == 2
    assert faces.python.version(FIRST).stage is Stage.SANDBOX
    faces.python.record_performance_snapshot(faces.measured(2, error_rate=0.0668))
    http = faces.post(f"/models/{MODEL}/snapshots", to_json(faces.measured(2, ood_rate=0.2167, source="probe")))
    assert http.status_code == 200, http.text
    check = faces.command("snapshot", SECOND, "--requests", "1500", "--window", "5m", "--drift", "0.350")
    reasons = ["High error rate: 6.68%", "High OOD rate: 21.67%", "Input distribution drift: 0.350"]
    assert (check["should_roll_back"], check["severity"], check["reasons"]) == (True, "medium", reasons)
    assert list(faces.python.check_rollback_triggers(MODEL).reasons) == reasons
    assert faces.get(f"/models/{MODEL}/rollback-check")["remedy"] == "rollback"


def open_incidents(faces):
    """The hub opens one incident for the fault of the version and one for the change of the data; the pause holds."""
    assert len(faces.events(SECOND, "model.performance_snapshot")) == 3

    def opened():
        found = {one.cause.value: one for one in faces.python.incidents(MODEL)}
        world = found.get("drift")
        return found if "faults" in found and world is not None and len(world.kinds) == 2 else None

    incidents = faces.house.until(opened)
    faults, world = incidents["faults"], incidents["drift"]
    assert (faults.title, faults.severity) == (f"Model performance degradation detected: {MODEL}", Severity.MEDIUM)
    assert set(world.kinds) == {SignalKind.OOD, SignalKind.DRIFT_SCORE}
    assert faults.context.avg_error_rate == pytest.approx(0.0668)
    assert faces.get(f"/incidents/{faults.id}")["resource_id"] == "credit/2"
    assert faces.command("health", MODEL)["health_status"] == "critical"
    assert faces.python.deployment(MODEL).production == 2
    return incidents


def heal(faces, incidents):
    """When the pause ends, one of the incidents rolls the model back at once, and the ledger has the event."""
    faces.house.ok("healing", "resume")
    faces.house.until(lambda: faces.python.deployment(MODEL).production == 1)
    (event,) = faces.events(SECOND, "model.rollback") or faces.events(FIRST, "model.rollback")
    assert event.actor.startswith("healing:INC-")
    (run,) = faces.house.until(lambda: [one for one in faces.python.runs(MODEL) if one.state is RunState.SUCCEEDED])
    assert (run.playbook, run.incident) == ("model_rollback", event.actor.removeprefix("healing:").rpartition("-")[0])
    assert run.incident in {one.id for one in incidents.values()}
    assert faces.python.version(SECOND).stage is Stage.ROLLBACK
    assert [one["version"] for one in faces.get(f"/models/{MODEL}/history")] == [1, 2, 1]


def measure_the_effect(faces, incidents):
    """Nothing was measured after the rollback, so its incident stays open, until the first version is measured."""
    (run,) = [one for one in faces.python.runs(MODEL) if one.state is RunState.SUCCEEDED]
    incident = faces.python.incident(run.incident)
    assert (incident.status, incident.unmeasured_since is not None) == (IncidentStatus.MITIGATING, True)
    faces.python.record_performance_snapshot(faces.measured(1, error_rate=0.001, ood_rate=0.01, input_drift_score=0.02))
    faces.house.until(lambda: not faces.python.incident(run.incident).status.unresolved)
    assert "the signal is gone" in faces.python.incident(run.incident).timeline[-1].text
    assert len(faces.events(SECOND, "incident.resolved")) == len(incidents)
    assert f"{run.incident}  Model" in faces.house.ok("incidents", "show", run.incident)


def tell(faces):
    """Health, fleet and card say the same through every face."""
    report = faces.python.health(MODEL)
    assert (report.health_status, report.version) == (Health.HEALTHY, 1)
    assert faces.get(f"/models/{MODEL}/health")["health_status"] == "healthy"
    fleet = faces.get("/fleet")
    assert (fleet["total_models"], fleet["healthy"], fleet["issues"]) == (1, 1, [])
    assert faces.command("models", "list")[0]["health"]["health_status"] == "healthy"
    card = faces.house.ok("models", "card", SECOND)
    assert card.startswith("---")
    for heading in ("# Model Card: credit", "## Evaluation Metrics", "## Drift and Incidents", "## Governance"):
        assert heading in card
    assert "INC-" in card
