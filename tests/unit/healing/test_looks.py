"""Looks: what is stored of an evaluation, when, and that each one is decided again with the same result."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.app.hub.model_checks import ModelChecks
from mendel.healing import LookKind, Monitor, Verdict, difference, pack_look, unpack_look
from mendel.values import EPOCH, ModelName

MODEL = ModelName("credit")
SECOND = timedelta(seconds=1)


@pytest.fixture(params=["memory", "sqlite"])
def life(request, make_house, make_sql_house, make_watch):
    """A model with version 2 in production, the checks of a hub, and a server that reports every 2 s."""
    house = (make_house if request.param == "memory" else make_sql_house)().settled()
    return Life(house, make_watch(house))


class Life:
    """A house whose hub checks the counters whenever a server has reported."""

    def __init__(self, house, watch):
        self.house = house
        self.checks = ModelChecks(house.registry, Monitor(house.registry, None, watch), house.healing, house.clock)

    def pass_time(self, span, **report):
        """Let *span* pass, with a report and a check every 2 s."""
        for _ in range(int(span / (2 * SECOND))):
            self.house.clock.advance(2 * SECOND)
            self.house.report(number=self.house.registry.lifecycle.deployment(MODEL).production, **report)
            self.checks.check_counters(MODEL)

    def looks(self, kind=None):
        return [one for one in self.house.healing.looks.since(EPOCH) if kind in {None, one.kind}]

    def differences(self):
        """Every look that is decided differently under the policy with its hash."""
        known = {one.hash: one for one in self.house.registry.policies.history(MODEL)}
        default = replace(self.house.registry.policies.of(ModelName("none")), model=MODEL)
        return [found for one in self.looks() if (found := difference(one, known.get(one.policy_hash, default)))]


def test_nothing_done_is_one_look_that_is_extended(life):
    """While a server reports and nothing happens, one look is stored, and it holds until the last minute."""
    life.pass_time(timedelta(minutes=5))
    (look,) = life.looks()
    assert look.kind is LookKind.COUNTERS
    assert look.found.signals == ()
    assert life.house.clock() - look.until < timedelta(minutes=1)


def test_steady_traffic_is_one_look(life):
    """Counts that grow with the time, at equal rates, change no fact once the window is full."""
    life.pass_time(timedelta(minutes=12), requests=20)
    before = len(life.looks())
    life.pass_time(timedelta(minutes=10), requests=20)
    assert len(life.looks()) <= before + 1


def test_a_rollback_is_recorded_with_its_inputs_and_decided_again(life):
    """A life with faults, a rollback, a pause and another policy is decided again, look by look, with equal results."""
    life.pass_time(timedelta(minutes=1), requests=20)
    life.pass_time(timedelta(seconds=30), requests=20, errors=15)
    life.house.play()
    assert life.house.registry.lifecycle.deployment(MODEL).production == 1
    life.house.policy(cooldown="1m", max_runs_per_day=1)
    life.pass_time(timedelta(minutes=1), requests=20)
    life.house.healing.pause(by="ann", reason="holiday", now=life.house.clock())
    life.pass_time(timedelta(minutes=1), requests=20, errors=15)
    life.house.healing.resume(by="ann", now=life.house.clock())
    life.pass_time(timedelta(minutes=1), requests=20, errors=15)
    verdicts = {one.decided.record.verdict for one in life.looks(LookKind.DECISION)}
    assert {Verdict.ACT, Verdict.WAIT} <= verdicts
    assert len({one.policy_hash for one in life.looks()}) == 2
    assert life.differences() == []


def test_a_look_is_written_with_the_decision(life):
    """The look of a decision has the decision's own record, the playbook's hash, and the incident without its story."""
    life.pass_time(timedelta(seconds=30), requests=20, errors=15)
    (incident,) = life.house.store(lambda store: store.incidents())
    records = life.house.store(lambda store: store.decisions(incident.id))
    looks = list(life.house.healing.looks.since(EPOCH, incident=incident.id))
    assert [look.decided.record for look in looks][: len(records)] == list(records)
    assert all(look.decided.record.playbook_hash == look.decided.facts.playbook.hash for look in looks)
    assert all(look.decided.incident.timeline == () for look in looks)


def test_a_repeated_decision_is_one_look(life):
    """While the same decision is taken every 2 s, its look is extended."""
    life.house.healing.pause(by="ann", reason="holiday", now=life.house.clock())
    life.pass_time(timedelta(minutes=3), requests=20, errors=20)
    before = life.looks(LookKind.DECISION)
    life.pass_time(timedelta(minutes=3), requests=20, errors=20)
    after = life.looks(LookKind.DECISION)
    assert len(after) == len(before)
    assert after[-1].until > before[-1].until


def test_a_look_survives_its_encoding(life):
    """What is packed is unpacked equal."""
    life.pass_time(timedelta(seconds=30), requests=20, errors=15)
    assert [unpack_look(pack_look(one)) for one in life.looks()] == life.looks()


def test_old_looks_are_deleted(life):
    """Looks that ended before a time are deleted, later ones are kept."""
    life.pass_time(timedelta(seconds=10))
    life.house.clock.advance(timedelta(days=2))
    life.pass_time(timedelta(seconds=10))
    kept = life.looks()[-1]
    assert life.house.healing.looks.prune(life.house.clock() - timedelta(days=1)) == 1
    assert life.looks() == [kept]
