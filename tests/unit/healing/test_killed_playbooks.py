"""A playbook that is killed at any step and resumed ends as if nothing had happened."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mendel.healing import IncidentStatus, RunState, SignalKind
from mendel.values import ModelName

MODEL = ModelName("credit")


def play_rollback(house, kill=None):
    house.settled()
    house.healing.notice([house.signal(SignalKind.FAULTS)], house.clock())
    return house.play(kill)


def play_retrain(house, kill=None):
    house.settled()
    house.policy(autonomy={"retrain": "act", "promote": "act"})
    house.healing.notice([house.signal(SignalKind.DRIFT)], house.clock())
    return house.play(kill)


def play_rejection(house, kill=None):
    house.settled()
    house.verdict = "fail"
    house.healing.notice([house.signal(SignalKind.DRIFT)], house.clock())
    return house.play(kill)


def end_of(house):
    """Everything that a run leaves behind, without ids that count how often somebody tried."""
    incidents = house.store(lambda store: store.incidents())
    runs = house.store(lambda store: store.runs())
    return {
        "deployment": house.registry.lifecycle.deployment(MODEL),
        "stages": [(record.ref.number, record.stage) for record in house.registry.versions.of(MODEL)],
        "tenures": [
            (tenure.version, tenure.actor, tenure.reason) for tenure in house.registry.lifecycle.history(MODEL)
        ],
        "incidents": [
            (one.id, one.status, one.severity, one.escalated, [entry.text for entry in one.timeline])
            for one in incidents
        ],
        "runs": [
            (run.id, run.state, [(step.name, step.state, step.text) for step in run.steps], run.part) for run in runs
        ],
        "events": [(event.type, event.subject, event.actor) for event in house.events()],
        "trained": house.trained,
    }


PLAYS = {"rollback": play_rollback, "retrain": play_retrain, "rejection": play_rejection}


@pytest.mark.parametrize("where", ["before", "inside", "after"])
@pytest.mark.parametrize("name", PLAYS)
def test_a_kill_at_every_step_changes_nothing_of_the_end(make_house, make_kill, name, where):
    """Killed before, inside or after each durable step in turn, every run ends like the uninterrupted one."""
    play = PLAYS[name]
    whole = make_house()
    kill = play(whole)
    assert kill.steps > 8, "the playbook has this few steps"
    for at in range(kill.steps):
        house = make_house()
        struck = play(house, make_kill(at=at, where=where))
        assert struck.struck, f"no step {at}"
        assert end_of(house) == end_of(whole), f"killed {where} step {at}"


@pytest.mark.parametrize("name", ["rollback", "retrain"])
def test_a_kill_inside_every_step_over_sqlite(make_sql_house, make_kill, name):
    """Over SQLite too, a step whose change was committed and whose result was lost is not done twice."""
    play = PLAYS[name]
    whole = make_sql_house()
    kill = play(whole)
    for at in range(kill.steps):
        house = make_sql_house()
        assert play(house, make_kill(at=at, where="inside")).struck
        assert end_of(house) == end_of(whole), f"killed inside step {at}"


def test_the_uninterrupted_rollback(make_house):
    """A rollback takes the version back once, and resolves its incident."""
    house = make_house()
    play_rollback(house)
    assert house.registry.lifecycle.deployment(MODEL).production == 1
    (incident,) = house.store(lambda store: store.incidents())
    (run,) = house.store(lambda store: store.runs())
    assert (incident.status, run.state) == (IncidentStatus.RESOLVED, RunState.SUCCEEDED)
    assert len(house.events("model.rollback")) == 1
    assert [event.data["state"] for event in house.events("playbook.finished")] == ["succeeded"]


def test_the_uninterrupted_retraining(make_house):
    """A retraining promotes the candidate that passed, once."""
    house = make_house()
    play_retrain(house)
    assert house.registry.lifecycle.deployment(MODEL).production == 3
    assert house.trained == ["credit@3"]
    (incident,) = house.store(lambda store: store.incidents())
    assert incident.status is IncidentStatus.RESOLVED
    assert house.registry.lifecycle.history(MODEL)[-1].actor == "healing:INC-2026-1-1"


def test_a_preempted_run_changes_nothing_more(make_house):
    """A retraining that gave way to a rollback ends at its next step and promotes nothing."""
    house = make_house().settled()
    house.policy(autonomy={"retrain": "act", "promote": "act"})
    house.healing.notice([house.signal(SignalKind.DRIFT)], house.clock())
    (training,) = house.pending_playbooks()
    house.healing.notice([house.signal(SignalKind.FAULTS)], house.clock.advance(timedelta(seconds=1)))
    house.play()
    assert house.registry.lifecycle.deployment(MODEL).production == 1
    assert house.store(lambda store: store.run(training.id)).state is RunState.CANCELLED
