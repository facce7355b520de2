"""Canaries in steps: each step moves on, waits or demotes, and production is touched only by the promotion."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mendel.errors import Conflict, StoreUnavailable
from mendel.healing import Canaries, StepVerdict
from mendel.values import ModelName, Stage, VersionRef

MODEL = ModelName("credit")
CANARY = VersionRef(MODEL, 3)
BAKE = timedelta(minutes=10)


@pytest.fixture
def canaries(house):
    """Version 3 in the first step beside version 2."""
    house.add_version(3)
    found = Canaries(house.unit, house.registry)
    found.begin(CANARY, by="ann", now=house.clock())
    return found


def pass_step(house, canaries, *, errors=0, requests=2000, span=BAKE):
    """Let both routes answer for a step's time; gives what the step came to."""
    house.report(number=2, requests=0)
    house.report(number=3, requests=0)
    house.clock.advance(span)
    house.report(number=2, requests=requests)
    house.report(number=3, requests=requests, errors=errors)
    return [state.decision.verdict for state in canaries.take_steps(house.clock())]


def share(house):
    return [(route.version, route.share) for route in house.registry.lifecycle.deployment(MODEL).routes]


def test_a_good_canary_grows_and_is_promoted(house, canaries):
    """Through every step of the policy to production; each change names healing, the step and its evidence."""
    seen = []
    for _ in range(3):
        seen.append(share(house)[1])
        (verdict,) = pass_step(house, canaries)
    assert seen == [(3, 0.05), (3, 0.25), (3, 0.5)]
    assert (verdict, share(house)) == (StepVerdict.PROMOTE, [(3, 1.0)])
    assert canaries.states(house.clock()) == ()
    promoted = house.events("model.promoted")[-1]
    assert promoted.actor == "healing"
    assert promoted.data["reason"].startswith("canary step 3 of 3: error rate 0.00%")
    assert promoted.data["evidence"]["requests"] == 2000
    grown = [event.data for event in house.events("deployment.changed")]
    assert [(one["canary_share"], one["step"]) for one in grown] == [(0.05, 0), (0.25, 1), (0.5, 2)]


def test_a_bad_canary_is_demoted_without_touching_production(house, canaries):
    """It goes to sandbox at once, production gets all the traffic, and no incident opens."""
    assert pass_step(house, canaries, errors=100, span=timedelta(minutes=1)) == [StepVerdict.DEMOTE]
    assert share(house) == [(2, 1.0)]
    assert house.registry.versions.get(CANARY).stage is Stage.SANDBOX
    assert house.registry.lifecycle.history(MODEL)[-1].version == 2
    assert house.store(lambda store: store.incidents()) == ()
    assert house.events("deployment.changed")[-1].data["evidence"]["verdict"] == "demote"


def test_a_waiting_canary_says_why(house, canaries):
    """Without traffic nothing changes, and the list tells what is missing."""
    house.clock.advance(BAKE)
    assert canaries.take_steps(house.clock()) == ()
    (state,) = canaries.states(house.clock(), MODEL)
    assert (state.decision.verdict, "each needs 300" in state.decision.why) == (StepVerdict.WAIT, True)
    with pytest.raises(Conflict, match="already is a canary"):
        canaries.begin(CANARY, by="ann", now=house.clock())


def test_a_pause_of_healing_holds_the_canary(house, canaries):
    """While healing is paused no step is taken, not even a demotion."""
    house.healing.pause(by="ann", reason="game day", now=house.clock())
    assert pass_step(house, canaries, errors=100) == []
    (state,) = canaries.states(house.clock())
    assert "game day" in state.decision.why


@pytest.mark.parametrize("end", ["share", "promote", "roll_back", "undeploy", "demote"])
def test_a_person_ends_the_steps(house, canaries, end):
    """A share set by hand, a promotion, a rollback, an undeployment or a move to sandbox ends the steps."""
    lifecycle = house.registry.lifecycle
    {
        "share": lambda: house.registry.side_routes.canary(MODEL, 3, 0.3, by="ann"),
        "promote": lambda: lifecycle.promote(CANARY, by="ann"),
        "roll_back": lambda: lifecycle.roll_back(MODEL, by="ann", reason="r"),
        "undeploy": lambda: lifecycle.undeploy(MODEL, by="ann"),
        "demote": lambda: lifecycle.transition(CANARY, Stage.SANDBOX, by="ann"),
    }[end]()
    assert house.registry.side_routes.canary_runs() == ()
    assert pass_step(house, canaries) == []


def test_a_canary_that_may_not_be_promoted_is_demoted(house, canaries):
    """If the gates or the policy refuse the promotion after the last step, the version serves nobody any longer."""
    for _ in range(2):
        pass_step(house, canaries)
    house.registry.policies.set(MODEL, {"gates": {}})
    assert pass_step(house, canaries) == [StepVerdict.DEMOTE]
    assert share(house) == [(2, 1.0)]


def test_a_step_that_a_person_overtook_is_not_taken(house, canaries, monkeypatch):
    """A step decided on an older generation changes nothing."""
    lifecycle, stale = house.registry.lifecycle, house.registry.lifecycle.deployment(MODEL)
    monkeypatch.setattr(lifecycle, "deployment", lambda _: stale)
    house.registry.side_routes.set_side_version(MODEL, "fallback", 1, by="ann")
    assert pass_step(house, canaries) == []


def test_a_clock_set_back_waits(house, canaries):
    """Before the step's own beginning nothing is measured, so nothing changes."""
    assert canaries.take_steps(house.clock() - timedelta(hours=1)) == ()


def test_a_failing_database_takes_no_half_step(house, canaries, monkeypatch):
    """If the transaction of a step fails, share and run stay as they were, and the next call takes the step once."""
    real = type(house.unit).write

    def fails(self, work):
        real_work = lambda tx: (work(tx), (_ for _ in ()).throw(StoreUnavailable("disk")))  # noqa: E731 - one line
        return real(self, real_work)

    monkeypatch.setattr(type(house.unit), "write", fails)
    house.clock.advance(BAKE)
    with monkeypatch.context() as healthy:
        healthy.setattr(type(house.unit), "write", real)
        house.report(number=2, requests=2000)
        house.report(number=3, requests=2000)
    with pytest.raises(StoreUnavailable):
        canaries.take_steps(house.clock())
    monkeypatch.undo()
    assert share(house)[1] == (3, 0.05)
    assert [state.decision.verdict for state in canaries.take_steps(house.clock())] == [StepVerdict.MOVE_ON]
    assert share(house)[1] == (3, 0.25)
