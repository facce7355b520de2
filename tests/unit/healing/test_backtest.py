"""Backtests of a recorded life, and explanations of its decisions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.app.hub.model_checks import ModelChecks
from mendel.healing import (
    LOOK_SCHEMA,
    Alternative,
    LookKind,
    Monitor,
    Rule,
    Verdict,
    explain,
    run_backtest,
    shipped_playbooks,
)
from mendel.registry import PolicyDocument
from mendel.values import EPOCH, Measured, ModelName

MODEL = ModelName("credit")
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


class Recording:
    """A minute without faults, then a fifth of the requests fails, and a rollback mends it."""

    def __init__(self, house, watch):
        self.house = house
        self.checks = ModelChecks(house.registry, Monitor(house.registry, None, watch), house.healing, house.clock)
        self.pass_time(MINUTE)
        self.faults_from = house.clock()
        self.pass_time(MINUTE, errors=4)
        house.play()
        self.pass_time(12 * MINUTE)

    def pass_time(self, span, **report):
        for _ in range(int(span / (2 * SECOND))):
            self.house.clock.advance(2 * SECOND)
            production = self.house.registry.lifecycle.deployment(MODEL).production
            self.house.report(number=production, requests=20, **report)
            self.checks.check_counters(MODEL)

    def backtest(self, policy=None, playbooks=None):
        alternative = None
        if policy is not None or playbooks is not None:
            alternative = Alternative(policy=policy, playbooks=playbooks or shipped_playbooks())
        looks = self.house.healing.looks.since(EPOCH)
        return run_backtest(looks, self.policy_of, alternative, since=EPOCH)

    def policy_of(self, model, policy_hash):
        documents = [PolicyDocument(model=model), *self.house.registry.policies.history(model)]
        return next((one for one in documents if one.hash == policy_hash), None)


@pytest.fixture
def recording(house, make_watch):
    return Recording(house, make_watch(house))


def test_the_recorded_decisions_are_reproduced(recording):
    """Every look under its own policy gives the stored result, and what was done is listed with what came of it."""
    found = recording.backtest()
    assert found.looks == found.equal > 3
    assert found.differences == ()
    assert found.simulated is None
    (action,) = found.recorded
    assert (action.verdict, action.playbook, action.rule) == (Verdict.ACT, "model_rollback", Rule.REMEDY)
    assert action.afterwards.version.number == 1
    assert action.afterwards.error_rate == Measured(value=0.0, samples=action.afterwards.error_rate.samples)


def test_a_changed_look_is_named(recording):
    """A stored decision that its inputs do not give is a difference, with both results."""
    looks = list(recording.house.healing.looks.since(EPOCH))
    wrong = PolicyDocument(model=MODEL, body={"healing": {"autonomy": {"rollback": "observe"}}})
    found = run_backtest(looks, lambda *_: wrong, None, since=EPOCH)
    assert found.equal < found.looks
    (decided,) = [one for one in found.differences if one.kind is LookKind.DECISION]
    assert '"verdict":"act"' in decided.stored
    assert '"verdict":"observe"' in decided.again


def test_the_same_policy_would_have_done_the_same(recording):
    """A simulation under the recorded policy acts at the recorded time, and its action is found in the recording."""
    found = recording.backtest(policy={})
    (would,) = found.simulated
    (was,) = found.recorded
    assert (would.at, would.playbook, would.ref) == (was.at, was.playbook, was.ref)
    assert would.otherwise.startswith("recorded at")
    assert was.otherwise.startswith("act model_rollback")


def test_a_replay_that_was_not_recorded_is_unknown(recording):
    """Where the other policy asks the former version and the recording did not, a notification is what follows."""
    asked, told = recording.backtest(policy={"healing": {"bake": "1m", "replay_within": "4s"}}).simulated
    assert (asked.playbook, told.playbook) == ("replay_former", "notify")
    assert timedelta(seconds=4) <= told.at - asked.at < MINUTE
    assert "no replay of the former version was recorded" in told.reasons[0]


def test_wider_bounds_would_have_done_nothing(recording):
    """Under a policy that tolerates the errors, no incident opens, and the recorded rollback says so."""
    found = recording.backtest(policy={"rollback": {"error_rate": 0.5}})
    assert found.simulated == ()
    assert found.recorded[0].otherwise == "nothing: no incident would be open"


def test_another_remedy_is_listed_once(recording):
    """A policy that only proposes, or notifies, is listed once with its time and what was recorded afterwards."""
    (proposed,) = recording.backtest(policy={"healing": {"autonomy": {"rollback": "propose"}}}).simulated
    assert (proposed.verdict, proposed.otherwise) == (Verdict.PROPOSE, "not recorded")
    assert recording.faults_from < proposed.at < recording.faults_from + MINUTE
    (told,) = recording.backtest(policy={"healing": {"remedies": {"faults": "notify"}}}).simulated
    assert told.playbook == "notify"
    assert told.afterwards.error_rate.value == 0.0


def test_a_playbook_that_does_not_exist_is_escalated(recording):
    """Without the remedy among the playbooks, a person would have been asked."""
    (asked,) = recording.backtest(policy={"healing": {"remedies": {"faults": "mine"}}}).simulated
    assert (asked.verdict, asked.playbook, asked.rule) == (Verdict.OBSERVE, None, Rule.NO_REMEDY)


def test_what_cannot_be_applied_is_said(recording):
    """Keys that change what is measured or trained are named, because the recorded measurements are used."""
    found = recording.backtest(policy={"rollback": {"window": "1m"}, "gates": {"mode": "x"}})
    assert found.not_applied == ("gates", "rollback.window")


def test_a_policy_that_is_not_stored_is_counted(recording):
    """Looks whose policy is unknown are not decided again, and are counted."""
    found = run_backtest(recording.house.healing.looks.since(EPOCH), lambda *_: None, None, since=EPOCH)
    assert found.looks == 0
    assert found.unknown_policies > 3


def test_looks_of_another_version_of_mendel_are_counted(recording):
    """Looks in another form are not decided again, and are counted."""
    looks = [replace(one, schema=LOOK_SCHEMA + 1) for one in recording.house.healing.looks.since(EPOCH)]
    found = run_backtest(looks, recording.policy_of, None, since=EPOCH)
    assert (found.looks, found.equal, found.unreadable) == (0, 0, len(looks))


def test_an_explanation_has_the_numbers_and_the_bounds(recording):
    """The explanation of a decision compares what was measured with the policy, and says which guards held."""
    house = recording.house
    (incident,) = house.store(lambda store: store.incidents())
    looks = house.healing.looks
    first = next(looks.since(EPOCH, incident=incident.id))
    told = explain(first, looks.checks_at(MODEL, first.at), recording.policy_of(MODEL, first.policy_hash))
    assert (told.incident, told.verdict, told.rule) == (incident.id, Verdict.ACT, Rule.REMEDY)
    assert told.policy_hash == first.policy_hash
    assert told.playbook_hash == shipped_playbooks()["model_rollback"].hash
    errors = next(one for one in told.readings if one.name.startswith("error_rate"))
    assert (errors.relation, errors.bound, errors.holds) == (">", "0.05", True)
    assert float(errors.value.split()[0]) > 0.05
    latency = next(one for one in told.readings if one.name.startswith("latency"))
    assert latency.holds is None
    assert all(guard.holds for guard in told.guards)
    assert {Rule.PAUSED, Rule.AUTONOMY, Rule.RUNS_PER_DAY} <= {guard.rule for guard in told.guards}


def test_an_explanation_of_a_wait_shows_the_guard_that_failed(house, make_watch):
    """While healing is paused, the guard of the pause does not hold, and it is the deciding rule."""
    house.healing.pause(by="ann", reason="holiday", now=house.clock())
    recording = Recording(house, make_watch(house))
    looks = house.healing.looks
    last = list(looks.since(EPOCH, model=MODEL))
    waited = next(one for one in last if one.kind is LookKind.DECISION)
    told = explain(waited, looks.checks_at(MODEL, waited.at), recording.policy_of(MODEL, waited.policy_hash))
    assert told.rule is Rule.PAUSED
    assert [guard.rule for guard in told.guards if not guard.holds] == [Rule.PAUSED]
