"""Performance, incidents, runs and the kill switch through the public client, in process and over a socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mendel.errors import (
    AlreadyExists,
    Conflict,
    HealingPaused,
    IncidentNotFound,
    InvalidPolicy,
    InvalidValue,
    ModelNotFound,
    VersionNotFound,
)
from mendel.healing import IncidentStatus, RunState
from mendel.registry import Criterion
from mendel.values import (
    Health,
    Measured,
    ModelConvergence,
    NotMeasured,
    ServerReport,
    Severity,
    VersionCounters,
    VersionRef,
    to_json,
)
from support.principals import ME

SICK = {"num_requests": 400, "error_rate": 0.25, "latency_p95_ms": 150.0, "ood_rate": 0.01}


@pytest.fixture
def incident(hub, client, model):
    """An incident of the second of two versions, opened because it faults; healing only watches."""
    client.set_policy(model, {"healing": {"autonomy": {"rollback": "observe"}}})
    sick = hub.promoted(model, 2)[-1]
    client.record_performance_snapshot(hub.snapshot(sick, **SICK))
    client.observe(model)
    (opened,) = [one for one in client.incidents(model) if one.cause == "faults"]
    return opened


class TestPerformance:
    def test_a_snapshot_is_judged_at_once(self, hub, client, model):
        """Pushing a snapshot answers whether the serving version should go back, with reading and reason."""
        (ref,) = hub.promoted(model)
        check = client.record_performance_snapshot(hub.snapshot(ref, **SICK))
        assert (check.should_roll_back, check.severity) == (True, Severity.HIGH)
        assert check.reasons == ("High error rate: 25.00%",)
        readings = {one.criterion: one.measurement for one in check.evidence}
        assert readings[Criterion.ERROR_RATE] == Measured(value=0.25, samples=400)
        assert isinstance(readings[Criterion.DRIFT], NotMeasured)
        again = client.check_rollback_triggers(model, window="10m")
        assert not client.check_rollback_triggers(model, window=timedelta(milliseconds=1)).should_roll_back
        with pytest.raises(InvalidValue, match="at most 90d"):
            client.check_rollback_triggers(model, window="9999d")
        assert (again.reasons, again.evidence) == (check.reasons, check.evidence)

    def test_checking_changes_nothing(self, hub, client, model):
        """Asking about health and triggers writes no event; what the hub's own checks write, it writes as healing."""
        (ref,) = hub.promoted(model)
        client.record_performance_snapshot(hub.snapshot(ref, **SICK))

        def told():
            entries = client.events(subject=model).entries + client.events(subject=str(ref)).entries
            return [entry for entry in entries if entry.event.actor == ME]

        before = told()
        for _ in range(3):
            client.check_rollback_triggers(model)
            client.health(model)
            client.fleet()
        assert told() == before

    @pytest.mark.parametrize(
        ("figures", "health"),
        [
            ({}, Health.UNKNOWN),
            ({"num_requests": 100, "error_rate": 0.0}, Health.HEALTHY),
            ({"num_requests": 100, "error_rate": 0.02}, Health.DEGRADED),
            ({"num_requests": 100, "error_rate": 0.0, "ood_rate": 0.18}, Health.DEGRADED),
            ({"num_requests": 100, "error_rate": 0.06}, Health.CRITICAL),
        ],
    )
    def test_health_is_one_vocabulary(self, hub, client, model, figures, health):
        """The same word for a model and in the fleet's issues; no data is unknown, never healthy."""
        (ref,) = hub.promoted(model)
        if figures:
            client.record_performance_snapshot(hub.snapshot(ref, **figures))
        report = client.health(model)
        assert (report.health_status, report.version, report.model_id) == (health, 1, f"{model}/1")
        issues = {issue.model_id for issue in client.fleet().issues}
        assert (f"{model}/1" in issues) == (health is not Health.HEALTHY)

    def test_the_fleet_counts_every_model_once(self, client):
        """The words of the fleet add up to its models."""
        fleet = client.fleet()
        assert fleet.total_models == fleet.healthy + fleet.degraded + fleet.critical + fleet.unknown
        assert fleet.total_models == len(client.models())

    def test_a_model_in_one_answer(self, hub, client, model):
        """One question gives a model's versions, deployment, policy and the row of the fleet that is about it."""
        hub.promoted(model, 2)
        page = client.model(model)
        assert page.versions == client.versions(model)[::-1]
        assert (page.deployment, page.policy) == (client.deployment(model), client.policy(model))
        assert page.history == client.history(model)[::-1]
        assert (page.row.model, page.row.production, page.row.versions) == (model, 2, 2)
        assert page.row.health.health_status == client.health(model).health_status
        with pytest.raises(ModelNotFound):
            client.model(hub.new_model())

    def test_a_snapshot_of_nothing_is_refused(self, hub, client, model):
        """Snapshots of unknown versions, and of one model under another's name, are refused."""
        with pytest.raises(VersionNotFound):
            client.record_performance_snapshot(hub.snapshot(VersionRef(model, 9), error_rate=0.1))
        answer = hub.http.post(
            f"/api/v1/models/{model}/snapshots", content=to_json(hub.snapshot(VersionRef(hub.new_model(), 1)))
        )
        assert answer.status_code == 400

    def test_shares_are_fractions(self, hub, model):
        """A snapshot with an error rate of 5 (percent?) is refused where it arrives."""
        told = to_json(hub.snapshot(VersionRef(model, 1), error_rate=0.5)).replace(
            b'"error_rate":0.5', b'"error_rate":5'
        )
        answer = hub.http.post(f"/api/v1/models/{model}/snapshots", content=told)
        assert answer.status_code == 400
        assert "a fraction from 0 to 1" in answer.json()["detail"]


class TestServers:
    def test_reports_count_once(self, hub, client, model):
        """A report sent twice counts once, and shows which generation the server has."""
        (ref,) = hub.promoted(model)
        report = ServerReport(
            server=f"s-{model}",
            epoch="e",
            seq=1,
            at=datetime.now(UTC),
            revision=1,
            ready=True,
            convergence=(ModelConvergence(model=model, generation_desired=1, generation_serving=1, version_serving=1),),
            counters=(VersionCounters(model=model, version=1, requests=100, model_errors=3, rows=100),),
            spool={},
        )
        for _ in range(2):
            answer = hub.http.post(f"/api/v1/servers/{report.server}/reports", content=to_json(report))
            assert answer.status_code == 204
        (seen,) = [one for one in client.servers() if one.name == report.server]
        assert seen.report == report
        readings = {one.criterion: one.measurement for one in client.check_rollback_triggers(model).evidence}
        assert readings[Criterion.ERROR_RATE] == Measured(value=0.03, samples=100)
        assert ref.number == 1

    def test_a_server_reports_for_itself(self, hub):
        """A report under another server's name is refused."""
        report = ServerReport(server="a", epoch="e", seq=1, at=datetime.now(UTC), revision=1, ready=True, spool={})
        assert hub.http.post("/api/v1/servers/b/reports", content=to_json(report)).status_code == 400


class TestIncidents:
    def test_a_signal_opens_one_incident(self, hub, client, model, incident):
        """However often one looks, one cause of one version is one incident, with evidence and a decision."""
        client.observe(model)
        client.observe(model)
        assert [one.id for one in client.incidents(model) if one.cause == "faults"] == [incident.id]
        assert (incident.ref, incident.status) == (VersionRef(model, 2), IncidentStatus.OPEN)
        assert "High error rate: 25.00%" in incident.description
        assert incident.id in {one.id for one in client.incidents()}
        (first, *_) = client.decisions(incident.id)
        assert first.reasons
        details = client.incident_details(incident.id)
        assert (details.incident.id, details.decisions) == (incident.id, client.decisions(incident.id))

    def test_its_decisions_are_explained_and_taken_again(self, hub, client, model, incident):
        """An explanation compares the measured errors with the bound; a backtest reproduces what is stored."""
        (told,) = client.explain_incident(incident.id)
        (errors,) = [one for one in told.readings if one.name.startswith("error_rate")]
        assert (errors.value, errors.bound, errors.holds) == ("0.25 (n=400)", "0.05", True)
        assert [guard.name for guard in told.guards if not guard.holds] == ["autonomy.rollback"]
        assert sum(day.looks for day in client.looks(model)) > 1
        found = client.backtest(model)
        assert found.looks == found.equal > 1
        (would,) = client.backtest(model, policy={}, playbooks={}).simulated
        assert (would.playbook, would.otherwise) == ("model_rollback", "not recorded")
        with pytest.raises(InvalidPolicy, match="unknown"):
            client.backtest(model, policy={"rollbacks": {}})
        with pytest.raises(InvalidPolicy, match=r"mine\.yaml:1"):
            client.backtest(model, playbooks={"mine.yaml": "stepz: []"})
        with pytest.raises(IncidentNotFound):
            client.explain_incident("INC-1999-1")

    def test_an_outlook_says_what_was_looked_at(self, hub, client, model):
        """With nothing to do, it says so and why."""
        hub.promoted(model)
        outlook = client.observe(model)
        assert (outlook.ref, outlook.signals) == (VersionRef(model, 1), ())
        assert outlook.nothing_to_do.startswith(f"{model}@1: nothing to do, because")
        assert client.incidents(model) == ()

    def test_undeploying_the_model_ends_it(self, client, model, incident):
        """What serves nothing has no open question; what waited for approval to change it is cancelled."""
        client.undeploy(model, reason="it faults")
        ended = client.incident(incident.id)
        assert (ended.status, ended.timeline[-1].text) == (IncidentStatus.RESOLVED, "no version is in production")
        assert all(run.state.over for run in client.runs(model))

    def test_people_take_it_over_and_end_it(self, hub, client, model, incident):
        """Acknowledged, then resolved, each with who; resolved is resolved."""
        assert client.acknowledge(incident.id).status is IncidentStatus.INVESTIGATING
        done = client.resolve(incident.id, reason="cable was out")
        assert done.status is IncidentStatus.RESOLVED
        assert any("cable was out" in entry.text and entry.actor == ME for entry in done.timeline)
        assert client.incident(incident.id) == done
        for again in (lambda: client.resolve(incident.id, reason="x"), lambda: client.acknowledge(incident.id)):
            with pytest.raises(Conflict, match="already"):
                again()
        assert [event.actor for event in hub.events(f"{model}@2", "incident.resolved")] == [ME]


class TestRuns:
    def test_a_run_is_started_by_hand(self, hub, client, model):
        """A person may start a playbook; its run tells who, why and how far it is."""
        hub.promoted(model, 2)
        run = client.start_playbook(model, "notify", reason="drill")
        assert (run.playbook, run.ref, run.reason) == ("notify", VersionRef(model, 2), "drill")
        assert run.approved_by == ME
        known = client.run(run.id)
        assert (known.id, known.created_at, known.document) == (run.id, run.created_at, run.document)
        assert run.id in {one.id for one in client.runs(model)}
        assert {one.ref.model for one in client.runs(model)} == {model}

    def test_what_cannot_run_is_refused(self, hub, client, model):
        """An unknown model, an unknown playbook, or nothing in production."""
        with pytest.raises(ModelNotFound):
            client.start_playbook(hub.new_model(), "notify", reason="x")
        hub.ready(model)
        with pytest.raises(InvalidValue, match="no version in production"):
            client.start_playbook(model, "notify", reason="x")
        with pytest.raises(InvalidValue, match=r"Choose one of .*retrain"):
            client.start_playbook(model, "notfy", reason="x")

    def test_a_run_that_waits_for_nobody_cannot_be_approved(self, in_process):
        """Approving or declining what is under way is refused, and one model has one run."""
        client, model = in_process.client, in_process.new_model()
        in_process.promoted(model, 2)
        run = client.start_playbook(model, "notify", reason="drill")  # in process it waits for the next hub
        for answer in (lambda: client.approve_run(run.id), lambda: client.decline_run(run.id, reason="no")):
            with pytest.raises(Conflict, match="does not wait for approval"):
                answer()
        with pytest.raises(AlreadyExists):
            client.start_playbook(model, "notify", reason="again")

    def test_a_proposed_run_waits_for_a_word(self, hub, client, model):
        """Where policy only proposes, the run stands there until a person approves or declines it."""
        client.set_policy(model, {"healing": {"autonomy": {"rollback": "propose"}}})
        sick = hub.promoted(model, 2)[-1]
        client.record_performance_snapshot(hub.snapshot(sick, **SICK))
        client.observe(model)
        (proposed,) = [run for run in client.runs(model) if run.state is RunState.PROPOSED]
        assert client.runs(model, waiting=True) == (proposed,)
        declined = client.decline_run(proposed.id, reason="wait for noon")
        assert declined.state is RunState.DECLINED
        assert client.runs(model, waiting=True) == ()
        assert client.deployment(model).production == 2


class TestKillSwitch:
    def test_a_paused_model_starts_nothing(self, hub, client, model):
        """Paused for one model, it starts nothing for that one; resumed, it does."""
        hub.promoted(model, 2)
        client.pause_healing(model, reason="maintenance")
        with pytest.raises(HealingPaused, match=r"paused by local:\d+ .*: maintenance"):
            client.start_playbook(model, "notify", reason="x")
        client.resume_healing(model)
        assert client.start_playbook(model, "notify", reason="x").ref == VersionRef(model, 2)
        assert [event.type for event in hub.events(model, "healing.paused", "healing.resumed")] == [
            "healing.paused",
            "healing.resumed",
        ]

    def test_all_can_be_paused(self, hub, client, model):
        """Paused for all, nothing starts for anyone."""
        hub.promoted(model, 2)
        client.pause_healing(reason="freeze")
        try:
            with pytest.raises(HealingPaused, match="freeze"):
                client.start_playbook(model, "notify", reason="x")
        finally:
            client.resume_healing()
        assert client.start_playbook(model, "notify", reason="x")
