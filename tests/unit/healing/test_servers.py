"""What reports of servers say, and what their absence does not say: no remedy without positive evidence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest

from mendel.adapters.memory.predictions import MemoryInbox, MemoryLake
from mendel.healing import Cause, IncidentStatus, Monitor, SignalKind, convergence_of, load_playbooks
from mendel.predictions import PredictionLog
from mendel.registry import RegistryStore, availability_of
from mendel.values import ModelConvergence, ModelName, ServerReport, Severity, VersionRef
from mendel.views import Views

MODEL = ModelName("credit")
SECOND = timedelta(seconds=1)
START = datetime(2026, 3, 1, tzinfo=UTC)
LOADING = {"serving": 2, "number": 2}
BROKEN = {"serving": 2, "error": "bad pickle", "at_fault": True, "failed_loads": 2}
ONCE = {**BROKEN, "failed_loads": 1}


@pytest.fixture
def monitor(house, make_watch):
    log = PredictionLog(MemoryInbox(), MemoryLake(), house.unit, lambda *_: ())
    return Monitor(house.registry, log, make_watch(house))


@pytest.fixture
def third(house):
    """The model with version 3 in production since now, generation 3."""
    house.add_version(3)
    house.promote(3)
    return house


def act_on(house, signals):
    incidents = house.healing.notice(signals, house.clock())
    house.play()
    return incidents


class TestSlowLoads:
    def test_the_clock_starts_when_a_running_server_has_the_generation(self, third, monitor):
        """However long ago the promotion was, a server has 30 s from its first report; then the server is told of."""
        third.clock.advance(timedelta(hours=5))
        third.report(**LOADING)
        assert monitor.look(MODEL, third.clock()) == ()
        assert third.pass_time(monitor, 30 * SECOND, LOADING) == ()
        (signal,) = third.pass_time(monitor, 2 * SECOND, LOADING)
        assert (signal.kind, signal.server) == (SignalKind.NOT_CONVERGING, "s1")
        assert signal.reasons == (
            "s1 received generation 3 of credit and does not serve credit@3: it is still loading",
        )
        (incident,) = act_on(third, [signal])
        assert (incident.cause, incident.title) == (Cause.NOT_CONVERGING, "Slow start: s1")
        assert (incident.resource_type, incident.resource_id) == ("server", "s1")
        assert third.registry.lifecycle.deployment(MODEL).production == 3

    def test_a_restarted_server_starts_its_clock_anew(self, third, monitor):
        """A new epoch is a new start: 20 s before and 20 s after a restart are no 40 s."""
        assert third.pass_time(monitor, 20 * SECOND, LOADING) == ()
        assert third.pass_time(monitor, 20 * SECOND, {**LOADING, "epoch": "f"}) == ()

    def test_a_later_generation_starts_the_clock_anew(self, third, monitor):
        """Time spent on an earlier deployment is not held against the newest."""
        assert third.pass_time(monitor, 20 * SECOND, LOADING) == ()
        third.add_version(4)
        third.promote(4)
        assert third.pass_time(monitor, 20 * SECOND, LOADING) == ()

    def test_of_several_servers_the_slow_one_is_named(self, third, monitor):
        """One server serves, another is late: medium, about that server, and it ends when the server has caught up."""
        ready, slow = {"server": "s1", "number": 3}, {"server": "s2", **LOADING}
        signals = third.pass_time(monitor, 36 * SECOND, ready, slow)
        assert [(s.server, s.severity) for s in signals] == [("s2", Severity.MEDIUM)]
        third.healing.respond_to(monitor.check_counters(MODEL, third.clock()), third.clock())
        third.play()
        third.clock.advance(2 * SECOND)
        third.report(server="s2", number=3)
        third.healing.respond_to(monitor.check_counters(MODEL, third.clock()), third.clock())
        (incident,) = third.store(lambda store: store.incidents())
        assert incident.status is IncidentStatus.RESOLVED

    def test_each_slow_server_is_an_incident_of_its_own(self, third, monitor):
        """Two late servers are two incidents; the one that has caught up is done, whatever the other does."""
        slow = [{"server": name, **LOADING} for name in ("s1", "s2")]
        act_on(third, third.pass_time(monitor, 36 * SECOND, *slow))
        incidents = third.store(lambda store: store.open_incidents())
        assert sorted(one.title for one in incidents) == ["Slow start: s1", "Slow start: s2"]
        third.clock.advance(2 * SECOND)
        third.report(server="s1", number=3)
        third.report(**slow[1])
        third.healing.respond_to(monitor.check_counters(MODEL, third.clock()), third.clock())
        assert [one.server for one in third.store(lambda store: store.open_incidents())] == ["s2"]

    def test_an_outage_is_told_beside_the_slow_start_of_the_same_server(self, third, monitor):
        """A late server that then falls silent opens a second, critical incident, which notifies on its own."""
        act_on(third, third.pass_time(monitor, 36 * SECOND, LOADING))
        act_on(third, third.pass_time(monitor, 12 * SECOND))
        slow, silent = third.store(lambda store: store.open_incidents())
        assert (slow.title, silent.title) == ("Slow start: s1", "Silent server: s1")
        assert (silent.cause, silent.severity) == (Cause.SERVERS, Severity.CRITICAL)
        told = [event.data["incident"] for event in third.events("incident.notified")]
        assert told == [slow.id, silent.id]
        third.report(number=3)
        third.healing.respond_to(monitor.check_counters(MODEL, third.clock()), third.clock())
        assert third.store(lambda store: store.open_incidents()) == ()

    def test_a_server_that_the_deployment_does_not_reach(self, third, monitor):
        """A server that reports and never receives the generation is told of, too, counted from its first report."""
        deaf = {**LOADING, "desired": 2}
        assert third.pass_time(monitor, 30 * SECOND, deaf) == ()
        (signal,) = third.pass_time(monitor, 4 * SECOND, deaf)
        assert signal.reasons == ("s1 has not received generation 3 of credit",)

    def test_many_models_on_one_slow_server_are_one_incident(self, make_house, make_watch):
        """A server that loads 22 models for longer than 30 s is one question, which names what it lacks."""
        house, models = make_house(), [ModelName(f"m{number:02}") for number in range(22)]
        for place, model in enumerate(models):
            house.add_version(place + 1, model=model)
            house.registry.lifecycle.promote(VersionRef(model, place + 1), by="ann")
        monitor = Monitor(house.registry, None, make_watch(house))
        loaded = 0

        def report(seq):
            lines = [
                ModelConvergence(
                    model=model,
                    generation_desired=1,
                    generation_serving=int(place < loaded),
                    version_serving=place + 1 if place < loaded else None,
                )
                for place, model in enumerate(models)
            ]
            house.registry.performance.record_server_report(
                ServerReport(
                    server="s1",
                    epoch="e",
                    seq=seq,
                    at=house.clock(),
                    revision=1,
                    ready=False,
                    convergence=tuple(lines),
                    spool={},
                )
            )

        for seq in range(1, 40):
            house.clock.advance(2 * SECOND)
            loaded = max(0, seq - 10)
            report(seq)
            for model in models:
                house.healing.respond_to(monitor.check_counters(model, house.clock()), house.clock())
            house.play()
        (incident,) = house.store(lambda store: store.incidents())
        assert incident.title == "Slow start: s1"
        assert "m21@22" in incident.description
        assert incident.status is IncidentStatus.RESOLVED


class TestLoadFailures:
    def test_a_version_that_fails_on_every_server_is_rolled_back(self, third, monitor):
        """A version that was loaded and failed is at fault: one incident with its error, and the former one returns."""
        assert third.pass_time(monitor, 30 * SECOND, BROKEN) == ()
        (signal,) = third.pass_time(monitor, 4 * SECOND, BROKEN)
        assert (signal.kind, signal.severity) == (SignalKind.LOAD_FAILURE, Severity.HIGH)
        assert signal.reasons == ("The version cannot be loaded by s1: bad pickle",)
        (incident,) = act_on(third, [signal])
        assert (incident.cause, incident.title) == (Cause.LOAD_FAILURE, "Version cannot be loaded: credit@3")
        assert third.registry.lifecycle.deployment(MODEL).production == 2

    def test_a_failure_that_did_not_repeat_is_no_evidence(self, third, monitor):
        """One load that failed opens an incident about the server; the second one is evidence against the version."""
        (signal,) = third.pass_time(monitor, 36 * SECOND, ONCE)
        assert (signal.kind, signal.server) == (SignalKind.NOT_CONVERGING, "s1")
        assert signal.reasons[0].endswith("does not serve credit@3: bad pickle")
        (signal,) = third.pass_time(monitor, 2 * SECOND, BROKEN)
        assert signal.kind is SignalKind.LOAD_FAILURE

    def test_two_servers_that_fail_once_are_evidence(self, third, monitor):
        """The same failure on two servers is a repetition, once both had the time to try again."""
        signals = third.pass_time(monitor, 36 * SECOND, ONCE, {"server": "s2", **ONCE})
        assert {signal.kind for signal in signals} == {SignalKind.LOAD_FAILURE}

    def test_a_model_that_nobody_serves_waits_for_the_third_load(self, third, monitor):
        """Two failed loads within seconds of a version that no server serves are no reason for an urgent rollback."""
        nothing = {"serving": 0, "version_serving": None}
        assert third.pass_time(monitor, 4 * SECOND, {**ONCE, **nothing}) == ()
        assert third.pass_time(monitor, 4 * SECOND, {**BROKEN, **nothing}) == ()
        signals = third.pass_time(monitor, 2 * SECOND, {**BROKEN, **nothing, "failed_loads": 3})
        assert [(one.kind, one.severity) for one in signals] == [(SignalKind.LOAD_FAILURE, Severity.CRITICAL)]

    def test_a_version_that_another_server_serves_is_not_at_fault(self, third, monitor):
        """What one server serves and another cannot load is a question about the other server."""
        third.report(number=3)
        (signal,) = third.pass_time(monitor, 36 * SECOND, {"number": 3}, {"server": "s2", **BROKEN})
        assert (signal.kind, signal.server) == (SignalKind.NOT_CONVERGING, "s2")
        act_on(third, [signal])
        assert third.registry.lifecycle.deployment(MODEL).production == 3

    def test_a_server_that_is_still_loading_is_heard_first(self, third, monitor):
        """While one server still loads what another could not load, nobody is at fault yet."""
        signals = third.pass_time(monitor, 36 * SECOND, BROKEN, {"server": "s2", **LOADING})
        assert {signal.kind for signal in signals} == {SignalKind.NOT_CONVERGING}

    @pytest.mark.parametrize("error", ["The hub does not answer", "No space left on device"])
    def test_a_store_or_disk_that_failed_is_no_evidence(self, third, monitor, error):
        """An artefact that a server could not fetch or keep opens an incident about the server; nothing is undone."""
        (signal,) = third.pass_time(monitor, 36 * SECOND, {"serving": 2, "error": error})
        assert error in signal.reasons[0]
        (incident,) = act_on(third, [signal])
        assert incident.cause is Cause.NOT_CONVERGING
        assert third.registry.lifecycle.deployment(MODEL).production == 3

    def test_a_server_that_lost_its_disk_blames_nobody(self, house, monitor):
        """A server that starts empty and cannot fetch is critical for its model, and nothing is undone."""
        house.report(number=2)
        lost = {"server": "s9", "serving": 0, "version_serving": None, "error": "no route to the hub"}
        signals = house.pass_time(monitor, 36 * SECOND, lost)
        assert [(signal.server, signal.severity) for signal in signals] == [("s9", Severity.CRITICAL)]
        act_on(house, signals)
        assert house.registry.lifecycle.deployment(MODEL).production == 2

    def test_a_version_that_has_served_is_not_rolled_back_for_a_failed_load(self, third, monitor):
        """A new version that answered, and cannot be loaded after a restart, is not what changed."""
        third.report(number=3, requests=10)
        monitor.look(MODEL, third.clock())
        again = {"epoch": "f", "serving": 0, "version_serving": None, "error": "no module numpy", "at_fault": True}
        again["failed_loads"] = 3
        signals = third.pass_time(monitor, 36 * SECOND, again)
        assert {signal.kind for signal in signals} == {SignalKind.LOAD_FAILURE}
        (incident,) = act_on(third, signals)
        assert (incident.cause, incident.severity) == (Cause.SERVERS, Severity.CRITICAL)
        assert third.registry.lifecycle.deployment(MODEL).production == 3

    def test_a_policy_cannot_roll_back_without_evidence(self, third, monitor):
        """A policy that names a rollback as the remedy for slow servers does not get one."""
        third.policy(remedies={"not_converging": "model_rollback"})
        act_on(third, third.pass_time(monitor, 36 * SECOND, LOADING))
        assert third.registry.lifecycle.deployment(MODEL).production == 3
        (incident,) = third.store(lambda store: store.incidents())
        (decision,) = third.store(lambda store: store.decisions(incident.id))
        assert decision.rule == "no_evidence"

    def test_a_candidate_that_loads_slowly_is_not_taken_back(self):
        """A retraining takes its candidate back only if the candidate cannot be loaded, not if it is still loading."""
        steps = {step.name: step for step in load_playbooks()["retrain"].steps}
        assert steps["take_back"].applies({"converged": "failed"})
        assert not steps["take_back"].applies({"converged": "no"})


class TestCanaries:
    @pytest.fixture
    def canary(self, house):
        """Version 3 gets a tenth of the traffic, generation 3."""
        house.add_version(3)
        house.registry.side_routes.canary(MODEL, 3, 0.1, by="ann")
        return house

    FAILED: ClassVar = {"serving": 2, "error": "bad pickle", "failed_version": 3}

    def test_a_canary_that_cannot_be_loaded_is_ended(self, canary, monitor):
        """The incident names the canary and its own error; production stays, and nothing else is blamed."""
        signals = canary.pass_time(monitor, 36 * SECOND, {**self.FAILED, "at_fault": True, "failed_loads": 2})
        assert [(one.kind, one.ref) for one in signals] == [(SignalKind.LOAD_FAILURE, VersionRef(MODEL, 3))]
        (incident,) = act_on(canary, signals)
        assert (incident.cause, incident.title) == (Cause.CANARY_LOAD_FAILURE, "Canary cannot be loaded: credit@3")
        assert "bad pickle" in incident.description
        deployment = canary.registry.lifecycle.deployment(MODEL)
        assert [(route.version, route.share) for route in deployment.routes] == [(2, 1.0)]
        assert canary.registry.versions.get(VersionRef(MODEL, 3)).stage == "sandbox"
        (after,) = canary.store(lambda store: store.incidents())
        assert after.status is IncidentStatus.RESOLVED
        assert [run.playbook for run in canary.store(lambda store: store.runs(MODEL, since=START))] == ["end_canary"]

    @pytest.mark.parametrize("fault", [{}, {"at_fault": True}], ids=["of the machine", "seen once"])
    def test_a_canary_without_evidence_stays(self, canary, monitor, fault):
        """The server is told of, with the canary's error; the canary is not ended."""
        signals = canary.pass_time(monitor, 36 * SECOND, {**self.FAILED, **fault})
        assert [(one.kind, one.server) for one in signals] == [(SignalKind.NOT_CONVERGING, "s1")]
        assert signals[0].reasons[0].endswith("does not serve the canary credit@3: bad pickle")
        act_on(canary, signals)
        assert len(canary.registry.lifecycle.deployment(MODEL).routes) == 2

    def test_a_canary_that_loads_after_all_ends_its_incident(self, canary, monitor):
        """A policy that only observes leaves the canary; once a server has loaded the canary, the incident is over."""
        canary.policy(autonomy={"rollback": "observe"})
        canary.pass_time(monitor, 36 * SECOND, {**self.FAILED, "at_fault": True, "failed_loads": 2})
        canary.healing.respond_to(monitor.check_counters(MODEL, canary.clock()), canary.clock())
        (incident,) = canary.store(lambda store: store.open_incidents())
        assert incident.cause is Cause.CANARY_LOAD_FAILURE
        canary.clock.advance(2 * SECOND)
        canary.report()
        canary.healing.respond_to(monitor.check_counters(MODEL, canary.clock()), canary.clock())
        assert canary.store(lambda store: store.open_incidents()) == ()
        assert len(canary.registry.lifecycle.deployment(MODEL).routes) == 2

    def test_a_canary_that_has_served_is_not_blamed(self, canary, monitor):
        """A canary that answered requests, and cannot be loaded after a restart, is not what changed."""
        canary.report(number=3, requests=10, version_serving=2)
        again = {**self.FAILED, "epoch": "f", "at_fault": True, "failed_loads": 2}
        (incident,) = act_on(canary, canary.pass_time(monitor, 36 * SECOND, again))
        assert incident.cause is Cause.SERVERS
        assert len(canary.registry.lifecycle.deployment(MODEL).routes) == 2


class TestUnloadedModels:
    def test_an_unloaded_model_is_neither_converged_nor_an_incident(self, house, monitor):
        """A model that a caller unloaded is told as unloaded, for as long as the caller wants."""
        unloaded = {"serving": 0, "version_serving": None, "unloaded": True}
        assert house.pass_time(monitor, 120 * SECOND, unloaded) == ()
        seen = monitor.check_counters(MODEL, house.clock())
        assert "s1: unloaded by request" in seen.looked[0].text
        available = availability_of(MODEL, house.registry.performance.servers(), 10 * SECOND, house.clock())
        found = convergence_of(house.registry.lifecycle.deployment(MODEL), available)
        assert (found.state, found.converged, found.servers) == ("unloaded", False, 0)
        health = house.registry.performance.health(MODEL)
        assert (health.health_status, health.reasons) == ("unknown", ("No server has the model loaded",))

    def test_other_servers_are_judged_without_it(self, house, monitor):
        """A server without the model delays and proves nothing for the servers that have it."""
        unloaded = {"serving": 0, "version_serving": None, "unloaded": True}
        assert house.pass_time(monitor, 36 * SECOND, unloaded, {"server": "s2"}) == ()
        assert monitor.check_counters(MODEL, house.clock()).looked[0].text == (
            "1 of 1 servers serve generation 2; s1: unloaded by request"
        )


class TestAbsence:
    def test_silent_servers(self, house, monitor):
        """A server that reported and fell silent without a goodbye is an incident after the policy's 10 s."""
        house.report()
        assert house.pass_time(monitor, 10 * SECOND) == ()
        (signal,) = house.pass_time(monitor, 4 * SECOND)
        assert (signal.kind, signal.severity) == (SignalKind.UNAVAILABLE, Severity.CRITICAL)
        (incident,) = act_on(house, [signal])
        assert (incident.cause, incident.title) == (Cause.SERVERS, "Silent server: s1")

    def test_a_server_that_says_goodbye(self, house, monitor):
        """A server that was stopped is stopped, not silent, and what was open about it is over."""
        house.pass_time(monitor, 36 * SECOND, {"serving": 1})
        house.healing.respond_to(monitor.check_counters(MODEL, house.clock()), house.clock())
        house.play()
        house.report(serving=1, leaving=True)
        assert house.pass_time(monitor, 60 * SECOND) == ()
        seen = monitor.check_counters(MODEL, house.clock())
        assert "s1: stopped" in seen.looked[0].text
        house.healing.respond_to(seen, house.clock())
        assert house.store(lambda store: store.open_incidents()) == ()
        assert house.registry.performance.health(MODEL).health_status == "unknown"

    def test_a_hub_that_wakes_knows_nothing_yet(self, house, monitor):
        """After a pause of the hub the first look is unknown; a server that reports again was never silent."""
        house.report()
        monitor.look(MODEL, house.clock())
        house.clock.advance(timedelta(hours=8))
        seen = monitor.check_counters(MODEL, house.clock())
        assert (seen.signals, SignalKind.NOT_CONVERGING in seen.clear) == ((), False)
        assert "s1: not heard of yet" in seen.looked[0].text
        assert house.pass_time(monitor, 8 * SECOND) == ()
        assert house.pass_time(monitor, 30 * SECOND, {}) == ()

    def test_a_server_that_is_gone_when_the_hub_wakes(self, house, monitor):
        """After a pause a server that does not report again is silent once the hub has listened for 10 s."""
        house.report()
        monitor.look(MODEL, house.clock())
        house.clock.advance(timedelta(hours=8))
        monitor.look(MODEL, house.clock())
        (signal,) = house.pass_time(monitor, 14 * SECOND)
        assert signal.kind is SignalKind.UNAVAILABLE

    def test_a_new_hub_does_not_take_old_reports_for_silence(self, house, make_watch):
        """A hub that starts finds a report of yesterday: unknown, until the server reports or 10 s have passed."""
        house.report()
        house.clock.advance(timedelta(days=1))
        monitor = Monitor(house.registry, None, make_watch(house))
        assert "not heard of yet" in monitor.check_counters(MODEL, house.clock()).looked[0].text
        assert house.pass_time(monitor, 20 * SECOND, {}) == ()

    def test_slow_checks_see_what_quick_ones_see(self, house, make_watch):
        """A hub whose checks take 12 s while its clock job ticks every second finds a late and a silent server."""
        watch = make_watch(house)
        monitor = Monitor(house.registry, None, watch)

        def pass_seconds(seconds, **report):
            for _ in range(seconds // 12):
                for _ in range(12):
                    house.clock.advance(SECOND)
                    watch.tick()
                if report:
                    house.report(**report)
                signals = monitor.look(MODEL, house.clock())
            return signals

        assert pass_seconds(24, serving=1) == ()
        assert [one.kind for one in pass_seconds(36, serving=1)] == [SignalKind.NOT_CONVERGING]
        assert [one.kind for one in pass_seconds(24)] == [SignalKind.UNAVAILABLE]

    def test_ticks_before_the_first_check_make_no_old_report_new(self, house, make_watch):
        """A hub that starts ticks before it checks; a server that was dead yesterday stays unknown."""
        house.report()
        house.clock.advance(timedelta(days=1))
        watch = make_watch(house)
        for _ in range(3):
            watch.tick()
            house.clock.advance(SECOND)
        found = Monitor(house.registry, None, watch).check_counters(MODEL, house.clock())
        assert "not heard of yet" in found.looked[0].text

    @pytest.mark.parametrize("jump", [timedelta(hours=1), -timedelta(hours=1)], ids=["forward", "back"])
    def test_views_see_no_dead_servers_when_the_clock_is_set(self, house, make_watch, jump):
        """The fleet view of a running hub goes by the monotonic clock; a process without checks by the hub's clock."""
        watch = make_watch(house)
        house.report()
        Monitor(house.registry, None, watch).look(MODEL, house.clock())
        house.clock.set(jump)

        def convergence(**how):
            view = house.unit.read(lambda tx: tx.store(Views).fleet(house.clock(), **how))
            return view.models[0].convergence.state

        assert convergence(presence=watch.presence) == "yes"
        assert convergence() == "unobserved"
        for _ in range(12):
            house.clock.advance(SECOND)
            watch.tick()
        assert convergence(presence=watch.presence) == "unobserved"

    @pytest.mark.parametrize("jump", [timedelta(hours=1), -timedelta(hours=1)], ids=["forward", "back"])
    def test_a_clock_that_is_set_says_nothing(self, third, monitor, jump):
        """Whoever sets the hub's clock makes no server late or silent: 30 s are 30 s of the monotonic clock."""
        assert third.pass_time(monitor, 10 * SECOND, LOADING) == ()
        third.clock.set(jump)
        assert third.pass_time(monitor, 20 * SECOND, LOADING) == ()
        (signal,) = third.pass_time(monitor, 4 * SECOND, LOADING)
        assert signal.kind is SignalKind.NOT_CONVERGING

    def test_a_server_that_restarts_with_its_clock_set_back_is_heard(self, house, monitor):
        """The reports of a new epoch count even if the server's clock says that they are older."""
        for _ in range(3):
            house.report()
        late = house.unit.read(lambda tx: tx.store(RegistryStore).servers())[0].report
        house.clock.advance(2 * SECOND)
        again = ServerReport(
            server="s1",
            epoch="f",
            seq=1,
            at=late.at - timedelta(hours=1),
            revision=1,
            ready=True,
            convergence=late.convergence,
            spool={},
        )
        house.registry.performance.record_server_report(again)
        (server,) = house.registry.performance.servers()
        assert (server.report.epoch, server.received_at) == ("f", house.clock())
