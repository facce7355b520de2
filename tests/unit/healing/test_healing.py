"""Incidents: opened once, joined, decided about, answered, and what people say to them."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from mendel.adapters.memory import MemoryWorkflows
from mendel.durable import Outbox
from mendel.errors import Conflict, HealingPaused, IncidentNotFound, InvalidValue, NotFound
from mendel.healing import (
    WORKFLOW,
    Cause,
    EffectState,
    Finding,
    Former,
    HealingStore,
    Incident,
    IncidentStatus,
    LookResult,
    Rule,
    RunState,
    SignalKind,
    Verdict,
)
from mendel.values import ModelName, Severity, Stage, VersionRef, from_builtins, to_builtins, to_micros

MODEL = ModelName("credit")
SECOND = timedelta(seconds=1)
ACTS = {"retrain": "act", "promote": "act"}


def incidents(house):
    return house.store(lambda store: store.incidents())


def runs(house):
    return house.store(lambda store: store.runs())


def decisions(house, incident_id="INC-2026-1"):
    return house.store(lambda store: store.decisions(incident_id))


def notice(house, *kinds, **more):
    return house.healing.notice([house.signal(SignalKind(kind), **more) for kind in kinds], house.clock())


def outlook(house, *, number=2, clear=(), signals=()):
    looked = tuple(Finding(kind=kind, text=f"{kind} is fine", measured=True) for kind in clear)
    ref = VersionRef(MODEL, number)
    return LookResult(model=MODEL, ref=ref, at=house.clock(), looked=looked, clear=tuple(clear), signals=tuple(signals))


class TestNoticing:
    def test_a_signal_opens_an_incident_and_starts_its_remedy(self, house):
        """One transaction opens the incident, records the decision, and puts the playbook into the outbox."""
        (incident,) = notice(house, "faults", reasons=("High error rate: 8.00%",))
        assert incident.id == "INC-2026-1"
        assert incident.title == "Model performance degradation detected: credit"
        assert incident.resource_id == "credit/2"
        assert incident.status is IncidentStatus.MITIGATING
        assert incident.context.reasons == ("High error rate: 8.00%",)
        (call,) = house.pending_playbooks()
        assert call.id == "INC-2026-1-1"
        kinds = [e.type for e in house.events() if not e.type.startswith(("model.", "policy."))]
        assert kinds == ["incident.opened", "decision.made"]
        (decision,) = decisions(house)
        assert (decision.verdict, decision.playbook, decision.run) == (Verdict.ACT, "model_rollback", call.id)
        assert decision.evidence == ("sha256:d",)
        assert decision.policy_hash == house.registry.policies.of(MODEL).hash

    def test_repeats_join(self, house):
        """The same signal every second is one incident, one decision and one run, counted."""
        for _ in range(5):
            notice(house, "faults")
            house.clock.advance(SECOND)
        (incident,) = incidents(house)
        assert incident.repeats == 4
        assert incident.last_seen == house.clock() - SECOND
        assert len(decisions(house)) == 1
        assert len(house.pending_playbooks()) == 1
        assert len([entry for entry in incident.timeline if entry.kind == "joined"]) == 0

    def test_what_is_new_is_noted(self, house):
        """Another kind of signal of the same origin joins the incident and stands in its timeline."""
        notice(house, "quality")
        notice(house, "drift", severity=Severity.HIGH)
        (incident,) = incidents(house)
        assert incident.kinds == (SignalKind.QUALITY, SignalKind.DRIFT)
        assert incident.severity is Severity.HIGH
        assert any(entry.kind == "joined" for entry in incident.timeline)
        assert len(house.events("model.drift_detected")) == 1

    def test_drift_is_told_once(self, house):
        """``model.drift_detected`` is written when drift crosses, not with every look at it."""
        for _ in range(3):
            notice(house, "drift")
        assert len(house.events("model.drift_detected")) == 1

    def test_two_monitors_at_once_open_one_incident(self, make_sql_house):
        """Two threads over one database that notice the same at the same instant make one incident and one run."""
        house = make_sql_house().settled()
        barrier = threading.Barrier(4)

        def look():
            barrier.wait()
            notice(house, "faults")

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (incident,) = incidents(house)
        assert incident.repeats == 3
        assert len(runs(house)) == 1

    def test_numbers_are_counted_per_year(self, house):
        """Incidents are numbered without gaps."""
        notice(house, "faults")
        notice(house, "unavailable")
        assert [one.id for one in incidents(house)] == ["INC-2026-2", "INC-2026-1"]

    def test_the_first_version_has_nothing_to_return_to(self, make_house):
        """Without a former version the incident stays open and escalates; nothing is rolled back."""
        house = make_house()
        house.add_version(1)
        house.promote(1)
        notice(house, "faults", number=1)
        (incident,) = incidents(house)
        assert (incident.escalated, incident.status) == (True, IncidentStatus.INVESTIGATING)
        assert decisions(house)[-1].rule is Rule.NOTHING_TO_RETURN_TO
        assert len(house.events("incident.escalated")) == 1
        notice(house, "faults", number=1)
        assert len(house.events("incident.escalated")) == 1
        assert runs(house) == ()


class TestPlaying:
    def test_a_signal_that_stays_escalates(self, house):
        """A rollback after which the signal persists is ineffective, is not run again, and asks for a person."""
        house.eyes.answers = [EffectState.PERSISTS]
        notice(house, "faults")
        house.play()
        (incident,), (run,) = incidents(house), runs(house)
        assert run.state is RunState.INEFFECTIVE
        assert incident.escalated
        assert incident.severity is Severity.CRITICAL
        notice(house, "faults")
        assert len(runs(house)) == 1

    def test_the_watch_sees_only_what_came_after_the_change(self, house):
        """The effect is judged from the change on, and waited for within the policy's bound."""
        house.policy(effect_within="20s")
        house.eyes.answers = [EffectState.NOT_MEASURED, EffectState.PERSISTS, EffectState.GONE]
        notice(house, "faults")
        changed = house.clock()
        house.play()
        assert [since for since, _ in house.eyes.asked] == [changed] * 3
        assert incidents(house)[0].status is IncidentStatus.RESOLVED

    def test_the_effect_is_waited_for_no_longer_than_the_policy_says(self, house):
        """An effect that was not measured within the bound leaves the incident open, until it is measured."""
        house.policy(effect_within="20s")
        house.eyes.answers = [EffectState.NOT_MEASURED]
        notice(house, "faults")
        start = house.clock()
        house.play()
        assert timedelta(seconds=20) <= house.clock() - start < timedelta(seconds=22)
        (incident,), (run,) = incidents(house), runs(house)
        assert (incident.status, run.state) == (IncidentStatus.MITIGATING, RunState.SUCCEEDED)
        assert incident.unmeasured_since == start
        assert "was not measured, so the incident stays open" in incident.timeline[-3].text
        house.healing.respond_to(outlook(house, number=1), house.clock())
        assert incidents(house)[0].status is IncidentStatus.MITIGATING
        house.healing.respond_to(outlook(house, number=1, clear=[SignalKind.FAULTS]), house.clock())
        (resolved,) = house.events("incident.resolved")
        assert resolved.data["how"] == "the signal is gone: faults is fine"

    def test_a_version_that_is_promoted_again_is_another_question(self, house):
        """Signals after a new promotion reopen the incident of the version, and it is rolled back once more."""
        house.policy(effect_within="20s")
        house.eyes.answers = [EffectState.NOT_MEASURED]
        notice(house, "faults")
        house.play()
        house.registry.lifecycle.transition(VersionRef(MODEL, 2), Stage.SANDBOX, by="ann", reason="mended")
        house.clock.advance(SECOND)
        house.promote(2)
        house.clock.advance(SECOND)
        notice(house, "faults")
        assert [one.id for one in runs(house)] == ["INC-2026-1-1", "INC-2026-1-2"]
        assert incidents(house)[0].unmeasured_since is None

    def test_a_rejected_candidate_escalates(self, house):
        """A candidate that fails its gates is deprecated, and the incident asks for a person."""
        house.verdict = "fail"
        notice(house, "drift")
        house.play()
        assert runs(house)[0].state is RunState.REJECTED
        assert house.registry.versions.get(VersionRef(MODEL, 3)).stage == "deprecated"
        assert incidents(house)[0].escalated

    def test_an_undecided_candidate_is_tried_again_after_the_cooldown(self, house):
        """Where evidence was missing, the training is repeated once the cooldown is over."""
        house.verdict = "undecided"
        house.policy(autonomy=ACTS, cooldown="1m")
        notice(house, "drift")
        house.play()
        house.healing.review(MODEL, house.clock())
        assert decisions(house)[-1].rule is Rule.COOLDOWN
        house.verdict = "pass"
        house.healing.review(MODEL, house.clock.advance(timedelta(minutes=2)))
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 4
        assert incidents(house)[0].status is IncidentStatus.RESOLVED

    def test_a_training_that_raises_fails_the_run(self, house):
        """What an action raises, expected or not, ends the run as failed with its reason, and blocks nobody."""

        def broken(run, payload):
            raise RuntimeError("no such column")

        house.playbook._actions._retrain = broken
        notice(house, "drift")
        house.play()
        (run,) = runs(house)
        assert run.state is RunState.FAILED
        assert "no such column" in run.steps[-1].text
        assert incidents(house)[0].escalated

    def test_production_that_moved_meanwhile_is_left_alone(self, house):
        """A rollback whose version a person has replaced changes nothing."""
        notice(house, "faults")
        house.add_version(3)
        house.promote(3)
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 3
        assert runs(house)[0].state is RunState.FAILED

    def test_a_candidate_is_not_promoted_over_somebody_else_s_version(self, house):
        """A candidate that was compared with a version that no longer serves is not promoted."""
        house.policy(autonomy=ACTS)
        notice(house, "drift")
        house.add_version(7)
        house.promote(7)
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 7
        assert "no longer in production" in runs(house)[0].steps[-1].text

    def test_a_bad_promotion_during_the_bake_is_taken_back(self, house):
        """What a retraining promoted and then faults is rolled back at once, in spite of the cooldown."""
        house.policy(autonomy=ACTS)
        notice(house, "drift")
        house.play()
        notice(house, "faults", number=3)
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 2

    def test_a_rollback_does_not_fall_through_all_versions(self, house):
        """When the version that a rollback brought back faults too, healing waits instead of going further back."""
        notice(house, "faults")
        house.play()
        house.clock.advance(timedelta(minutes=1))
        notice(house, "faults", number=1)
        assert decisions(house, "INC-2026-2")[-1].rule is Rule.FLAPPING
        assert incidents(house)[0].escalated
        assert house.registry.lifecycle.deployment(MODEL).production == 1


class TestAskingTheFormerVersion:
    def test_a_former_version_that_does_better_comes_back(self, house):
        """Drift asks the former version first; where it does better, the same incident rolls the model back."""
        house.policy(remedies={})
        house.former.does = Former.BETTER
        notice(house, "drift")
        assert incidents(house)[0].status is IncidentStatus.OPEN
        house.play()
        ((asked, within),) = house.former.asked
        assert (asked, within) == ("INC-2026-1", timedelta(seconds=60))
        assert house.registry.lifecycle.deployment(MODEL).production == 2
        house.healing.review(MODEL, house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 1
        assert [one.playbook for one in runs(house)] == ["replay_former", "model_rollback"]
        assert "the former version does better: f1 of both versions" in decisions(house)[-1].reasons

    def test_a_former_version_that_is_as_bad_starts_a_training(self, house):
        """Where both versions are as bad, the world has changed: the model learns it."""
        house.policy(remedies={})
        notice(house, "drift")
        house.play()
        house.healing.review(MODEL, house.clock())
        house.play()
        assert house.trained == ["credit@3"]
        assert len(house.former.asked) == 1

    def test_no_answer_in_time_is_unknown(self, house):
        """A replay that comes to its turn too late asks nobody; a notification is written, and nothing else."""
        house.policy(remedies={}, replay_within="1s")
        notice(house, "drift")
        (call,) = house.pending_playbooks()
        house.memories[call.id] = {"1-replay_former until": {"done": {"at": to_micros(house.clock() - SECOND)}}}
        house.play()
        assert house.former.asked == []
        house.healing.review(MODEL, house.clock())
        house.play()
        assert [one.playbook for one in runs(house)] == ["replay_former", "notify"]
        assert "no result within 1s" in decisions(house)[-1].reasons[0]

    def test_a_replay_that_fails_is_unknown_too(self, house):
        """A replay that raises escalates nothing: its result is unknown, and a notification is written."""
        house.policy(remedies={})
        house.former.compare = None
        notice(house, "drift")
        house.play()
        assert (runs(house)[0].state, incidents(house)[0].escalated) == (RunState.FAILED, False)
        house.healing.review(MODEL, house.clock())
        assert runs(house)[-1].playbook == "notify"

    def test_a_version_of_200_days_is_not_rolled_back_for_an_upstream_fault(self, house):
        """Where both versions fail on the rows of the incident, a person is told, and the version stays."""
        house.clock.advance(timedelta(days=200))
        notice(house, "faults")
        house.play()
        house.healing.review(MODEL, house.clock())
        house.play()
        assert [one.playbook for one in runs(house)] == ["replay_former", "notify"]
        assert house.registry.lifecycle.deployment(MODEL).production == 2
        assert len(house.events("incident.notified")) == 1


class TestProposing:
    def test_a_candidate_waits_for_approval_and_goes_on(self, house):
        """By default the promotion of a candidate is proposed; approved, the same run goes on and promotes it once."""
        notice(house, "drift")
        house.play()
        (run,) = runs(house)
        assert (run.state, run.held_for) == (RunState.HELD, "approval")
        assert house.registry.lifecycle.deployment(MODEL).production == 2
        house.healing.approve(run.id, by="ann", now=house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 3
        (run,) = runs(house)
        assert (run.state, run.part, run.approved_by) == (RunState.SUCCEEDED, 2, "ann")
        assert len(house.events("model.promoted")) == 3
        assert len(house.trained) == 1

    def test_a_proposed_playbook_starts_when_approved(self, house):
        """Under ``rollback: propose`` nothing happens until a person approves."""
        house.policy(autonomy={"rollback": "propose"})
        notice(house, "faults")
        assert house.pending_playbooks() == []
        (run,) = runs(house)
        assert run.state is RunState.PROPOSED
        house.healing.approve(run.id, by="ann", now=house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 1

    def test_a_declined_proposal_stays_declined(self, house):
        """A person's no ends the run, and the same is not proposed again for this incident."""
        house.policy(autonomy={"rollback": "propose"})
        notice(house, "faults")
        (run,) = runs(house)
        house.healing.decline(run.id, by="ann", reason="known", now=house.clock())
        notice(house, "faults")
        assert [one.state for one in runs(house)] == [RunState.DECLINED]
        with pytest.raises(Conflict, match="does not wait for approval"):
            house.healing.approve(run.id, by="ann", now=house.clock())

    def test_an_approved_promotion_still_asks_the_registry(self, house):
        """A promotion that the registry refuses holds the run with the reasons, and can be approved again."""
        house.policy(autonomy=ACTS)
        house.candidates_signed = False
        notice(house, "drift")
        house.play()
        (run,) = runs(house)
        assert (run.state, run.held_for) == (RunState.HELD, "approval")
        assert "approved" in run.steps[-1].text
        house.registry.lifecycle.approve(VersionRef(MODEL, 3), policy=True, bias=True, by="ann")
        house.healing.approve(run.id, by="ann", now=house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 3


class TestWaiting:
    def test_a_training_starts_by_itself_when_there_are_labels(self, house):
        """A run that cannot start says what is missing, once, and starts when it can."""
        house.ground.have = 143
        notice(house, "drift")
        notice(house, "drift")
        assert [d.reasons for d in decisions(house)] == [("waiting for labels: 143 of 200",)]
        house.ground.have = 200
        house.healing.review(MODEL, house.clock.advance(2 * SECOND))
        assert decisions(house)[-1].verdict is Verdict.ACT
        assert len(house.pending_playbooks()) == 1

    def test_the_kill_switch_stops_what_would_start(self, house):
        """While paused nothing starts; resumed, the next review acts."""
        house.healing.pause(by="ann", reason="night", now=house.clock())
        notice(house, "faults")
        assert house.pending_playbooks() == []
        with pytest.raises(HealingPaused, match="ann"):
            house.healing.start(MODEL, "retrain", by="ann", reason="", now=house.clock())
        house.healing.resume(by="ann", now=house.clock())
        house.healing.review(MODEL, house.clock())
        assert len(house.pending_playbooks()) == 1

    def test_the_kill_switch_holds_a_run_before_its_next_change(self, house):
        """A run under way is held before it changes what is live, and goes on when healing is resumed."""
        house.policy(autonomy=ACTS)
        notice(house, "drift")
        house.healing.pause(by="ann", reason="night", now=house.clock(), model=MODEL)
        house.play()
        (run,) = runs(house)
        assert (run.state, run.held_for) == (RunState.HELD, "resume")
        assert house.registry.lifecycle.deployment(MODEL).production == 2
        assert [one.id for one in house.healing.resume(by="ann", now=house.clock(), model=MODEL)] == [run.id]
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 3
        assert len(house.trained) == 1

    def test_resuming_does_not_approve(self, house):
        """A promotion that asks for approval is not waved through by a pause that ends."""
        notice(house, "drift")
        house.healing.pause(by="ann", reason="night", now=house.clock())
        house.play()
        house.healing.resume(by="ann", now=house.clock())
        house.play()
        (run,) = runs(house)
        assert (run.state, run.held_for) == (RunState.HELD, "approval")


class TestReopening:
    def escalated(self, house):
        """An incident of faults that was escalated after its rollback did not help, while its version serves."""
        house.policy(autonomy={"rollback": "act"})
        notice(house, "faults", severity=Severity.MEDIUM)
        house.healing.cancel("INC-2026-1-1", by="ann", reason="a false alarm", now=house.clock())
        house.clock.advance(SECOND)

    def test_a_new_kind_of_signal_reopens(self, house):
        """An alarm that a person declined does not swallow another kind of fault of the same version."""
        self.escalated(house)
        notice(house, "faults", severity=Severity.MEDIUM)
        assert decisions(house)[-1].rule is Rule.DECLINED
        notice(house, "latency", severity=Severity.MEDIUM)
        assert decisions(house)[-1].verdict is Verdict.ACT
        assert incidents(house)[0].reopened_at == house.clock()

    def test_a_worse_signal_reopens(self, house):
        """After an escalation, which raises the severity, a real collapse is still worse than the false alarm."""
        house.eyes.answers = [EffectState.PERSISTS]
        house.policy(remedies={"faults": "hollow"})
        notice(house, "faults", severity=Severity.MEDIUM)
        assert (incidents(house)[0].escalated, incidents(house)[0].severity) == (True, Severity.HIGH)
        house.policy()
        house.clock.advance(SECOND)
        notice(house, "faults", severity=Severity.MEDIUM)
        assert incidents(house)[0].escalated
        notice(house, "faults", severity=Severity.HIGH)
        assert not incidents(house)[0].escalated
        assert decisions(house)[-1].verdict is Verdict.ACT

    def test_the_gravest_cause_names_the_incident(self, house):
        """Errors that join an incident of latency are its cause, so that their remedy applies."""
        house.policy(remedies={"latency": "notify"})
        notice(house, "latency")
        house.clock.advance(SECOND)
        notice(house, "faults")
        assert incidents(house)[0].cause is Cause.FAULTS
        assert decisions(house)[-1].playbook == "model_rollback"


def test_an_incident_of_an_older_mendel_goes_on(house):
    """An open incident without the states of its signals keeps its question, joins signals, and resolves."""
    house.ground.have = 0
    notice(house, "drift", "ood")
    old = to_builtins(incidents(house)[0])
    for name in ("states", "reopened_at", "unmeasured_since", "resource_id"):
        del old[name]
    house.unit.write(lambda tx: tx.store(HealingStore).put_incident(from_builtins(old, Incident)))
    house.clock.advance(SECOND)
    notice(house, "drift")
    assert len(incidents(house)) == 1
    house.healing.clear(outlook(house, clear=["ood"]), house.clock.advance(SECOND))
    house.healing.clear(outlook(house, clear=["drift"]), house.clock.advance(SECOND))
    (incident,) = incidents(house)
    assert (incident.status, incident.resource_id) == (IncidentStatus.RESOLVED, "credit/2")


class TestClearing:
    def test_each_kind_keeps_the_time_when_it_was_clear(self, house):
        """Causes from counters and from the study clear at their own times; the incident ends with the last."""
        house.ground.have = 0
        notice(house, "ood", "drift", "drift_score")
        first = house.clock.advance(SECOND)
        house.healing.clear(outlook(house, clear=[SignalKind.OOD, SignalKind.DRIFT_SCORE]), first)
        house.healing.clear(outlook(house, clear=[SignalKind.OOD]), house.clock.advance(SECOND))
        (incident,) = incidents(house)
        states = {state.kind: state.cleared_at for state in incident.states}
        assert states == {SignalKind.OOD: first, SignalKind.DRIFT: None, SignalKind.DRIFT_SCORE: first}
        house.healing.clear(outlook(house, clear=[SignalKind.DRIFT]), house.clock.advance(SECOND))
        (incident,) = incidents(house)
        assert incident.status is IncidentStatus.RESOLVED
        assert f"ood within its bound since {first.isoformat()}" in incident.timeline[-1].text

    def test_a_signal_that_returns_is_not_clear(self, house):
        """A kind that was clear and crossed its bound again keeps the incident open."""
        house.ground.have = 0
        notice(house, "ood", "drift")
        house.healing.clear(outlook(house, clear=[SignalKind.OOD]), house.clock.advance(SECOND))
        house.clock.advance(SECOND)
        notice(house, "ood")
        house.healing.clear(outlook(house, clear=[SignalKind.DRIFT]), house.clock.advance(SECOND))
        assert incidents(house)[0].status is IncidentStatus.OPEN

    def test_an_incident_resolves_when_its_signal_is_gone(self, house):
        """Every kind measured within bounds answers the incident, with the readings."""
        house.ground.have = 0
        notice(house, "drift", "quality")
        house.healing.clear(outlook(house, clear=[SignalKind.DRIFT]), house.clock())
        assert incidents(house)[0].status is IncidentStatus.OPEN
        house.healing.clear(outlook(house, clear=[SignalKind.DRIFT, SignalKind.QUALITY]), house.clock())
        (incident,) = incidents(house)
        assert incident.status is IncidentStatus.RESOLVED
        assert "drift is fine" in incident.timeline[-1].text
        assert len(house.events("incident.resolved")) == 1

    def test_a_version_that_no_longer_serves_has_no_open_question(self, house):
        """When another version is in production, the incidents of the former are answered."""
        house.ground.have = 0
        notice(house, "drift")
        house.add_version(3)
        house.promote(3)
        house.healing.respond_to(outlook(house, number=3), house.clock())
        assert incidents(house)[0].status is IncidentStatus.RESOLVED

    def test_a_run_at_work_resolves_its_own_incident(self, house):
        """While a run is at work, a passing calm does not answer its incident."""
        notice(house, "faults")
        house.healing.clear(outlook(house, clear=[SignalKind.FAULTS]), house.clock())
        assert incidents(house)[0].status is IncidentStatus.MITIGATING

    def test_a_signal_that_returns_opens_another(self, house):
        """After an incident is resolved, the same signal opens a new one."""
        house.ground.have = 0
        notice(house, "drift")
        house.healing.clear(outlook(house, clear=[SignalKind.DRIFT]), house.clock())
        notice(house, "drift")
        assert [one.status for one in incidents(house)] == [IncidentStatus.OPEN, IncidentStatus.RESOLVED]

    def test_calm_writes_nothing(self, house):
        """A look that finds nothing and has nothing to answer leaves the ledger as it was."""
        before = len(house.events())
        house.healing.respond_to(outlook(house, clear=list(SignalKind)), house.clock())
        assert len(house.events()) == before


class TestPeople:
    def test_acknowledge_resolve_close(self, house):
        """A person may look into an incident, answer it and put it away, each once and in that order."""
        house.policy(remedies={"faults": "none"})
        (incident,) = notice(house, "faults")
        assert incident.status is IncidentStatus.OPEN
        with pytest.raises(Conflict, match="Resolve the incident first"):
            house.healing.close(incident.id, by="ann", now=house.clock())
        assert house.healing.acknowledge(incident.id, by="ann", now=house.clock()).status == "investigating"
        house.healing.resolve(incident.id, by="ann", how="restarted", now=house.clock())
        with pytest.raises(Conflict, match="already"):
            house.healing.resolve(incident.id, by="ann", how="again", now=house.clock())
        assert house.healing.close(incident.id, by="ann", now=house.clock()).status is IncidentStatus.CLOSED
        kinds = [e.type for e in house.events() if e.type.startswith("incident.")]
        assert kinds == ["incident.opened", "incident.acknowledged", "incident.resolved", "incident.closed"]

    def test_unknown_incidents_and_runs(self, house):
        """What does not exist is named as such."""
        with pytest.raises(IncidentNotFound, match="INC-9"):
            house.healing.acknowledge("INC-9", by="ann", now=house.clock())
        with pytest.raises(NotFound, match="RUN-9"):
            house.healing.approve("RUN-9", by="ann", now=house.clock())
        with pytest.raises(InvalidValue, match="retrain"):
            house.healing.start(MODEL, "retrian", by="ann", reason="", now=house.clock())

    def test_a_person_starts_a_playbook(self, house):
        """A run without an incident does the same steps, and has a number of its own."""
        house.policy(autonomy=ACTS)
        run = house.healing.start(MODEL, "retrain", by="ann", reason="new data", now=house.clock())
        assert run.id == "RUN-2026-1"
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 3
        assert runs(house)[0].state is RunState.SUCCEEDED
        with pytest.raises(Conflict):
            house.healing.approve(run.id, by="ann", now=house.clock())

    def test_a_retraining_without_labels_is_refused_before_it_starts(self, house):
        """A person who asks for a retraining hears at once how many labels are missing, and no run is made."""
        house.policy(autonomy=ACTS)
        house.ground.have = 143
        with pytest.raises(Conflict, match="waiting for labels: 143 of 200"):
            house.healing.start(MODEL, "retrain", by="ann", reason="new data", now=house.clock())
        assert runs(house) == ()
        assert house.pending_playbooks() == []
        house.ground.have = 200
        assert house.healing.start(MODEL, "retrain", by="ann", reason="new data", now=house.clock()).id == "RUN-2026-1"

    def test_the_outbox_and_the_incident_are_one_transaction(self, house):
        """When the write fails, neither incident nor run nor call is there."""
        journal = house.healing._journal

        class Broken:
            def __getattr__(self, name):
                return getattr(journal, name)

            def launch(self, *_):
                raise RuntimeError("power")

        house.healing._journal = Broken()
        with pytest.raises(RuntimeError):
            notice(house, "faults")
        assert incidents(house) == ()
        assert house.unit.read(lambda tx: tx.store(Outbox).pending(10)) == house.pending()
        assert house.pending_playbooks() == []
        assert house.events("incident.opened") == []

    def test_a_cancelled_run_changes_nothing_more(self, house):
        """A run that a person cancels ends before its next change, and is not started again on its incident."""
        notice(house, "faults")
        house.healing.cancel("INC-2026-1-1", by="ann", reason="wait", now=house.clock())
        house.play()
        assert house.registry.lifecycle.deployment(MODEL).production == 2
        assert incidents(house)[0].status is IncidentStatus.OPEN
        with pytest.raises(Conflict, match="already"):
            house.healing.cancel("INC-2026-1-1", by="ann", reason="wait", now=house.clock())
        house.healing.review(MODEL, house.clock())
        assert len(runs(house)) == 1

    def test_a_run_whose_workflow_was_lost_is_failed(self, house):
        """A workflow that ended without a word fails its run, so that the model is free again, and escalates."""
        workflows = MemoryWorkflows()

        def broken(run, payload):
            raise RuntimeError("lost")

        workflows.register(WORKFLOW, broken)
        notice(house, "faults")
        (call,) = house.pending_playbooks()
        with workflows.open():
            assert house.healing.settle(workflows, house.clock()) == ()
            workflows.start(call)
            workflows.wait(call.id, timeout=5 * SECOND)
            (run,) = house.healing.settle(workflows, house.clock())
            assert house.healing.settle(workflows, house.clock()) == ()
        assert run.state is RunState.FAILED
        assert incidents(house)[0].escalated

    def test_notify_tells(self, house):
        """Where no version is to blame, the servers' trouble is told once as an event."""
        (incident,) = notice(house, "unavailable", severity=Severity.CRITICAL)
        house.play()
        assert incident.cause is Cause.SERVERS
        assert len(house.events("incident.notified")) == 1


def test_a_preempted_training_is_started_again(house):
    """A run that gave way is tried again on its incident once the model is free, if the question still stands."""
    house.policy(autonomy=ACTS, remedies={"faults": "model_rollback"})
    notice(house, "drift")
    house.healing.notice([house.signal(SignalKind.FAULTS)], house.clock())
    first, back = runs(house)
    assert (first.state, back.state) == (RunState.CANCELLED, RunState.RUNNING)
    house.healing.cancel(back.id, by="ann", reason="no", now=house.clock())
    house.healing.review(MODEL, house.clock.advance(timedelta(hours=1)))
    assert runs(house)[-1].id == "INC-2026-1-2"
    assert runs(house)[-1].state is RunState.RUNNING
