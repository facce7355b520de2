"""Promotions at a set time: they wait, tell until when and why, and happen once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mendel.errors import Conflict, InvalidInput, PromotionRefused
from mendel.registry import WaitingState

HOUR = timedelta(hours=1)


@pytest.fixture
def two(house):
    """A production version, and a version that could replace it."""
    house.promoted()
    return house.register()


def plan(house, record, hours=1, **how):
    return house.registry.promotions.plan(record.ref, house.clock() + hours * HOUR, by="ann", **how)


def frozen(house, days=10, **more):
    start, end = house.clock(), house.clock() + timedelta(days=days)
    freeze = {"start": start.isoformat(), "end": end.isoformat(), "reason": "audit"}
    house.registry.policies.set(house.model, {"promotion": {"freezes": [freeze], **more}}, by="ann")
    return end


def test_a_promotion_waits_and_happens_once(house, two):
    """Before its time nothing happens; at its time the version is promoted, in the name of who asked, once."""
    waiting = plan(house, two, reason="the quiet hour")
    assert (waiting.state, waiting.until) == (WaitingState.WAITING, waiting.at)
    assert house.registry.promotions.carry_out_due() == ()
    house.clock.forward(hours=1)
    (done,) = house.registry.promotions.carry_out_due()
    assert (done.state, done.why) == (WaitingState.DONE, "promoted in generation 2")
    assert house.registry.promotions.carry_out_due() == ()
    assert house.registry.lifecycle.deployment(house.model).production == two.number
    promoted = house.events("model.promoted")[-1]
    assert (promoted.actor, promoted.data["reason"]) == ("ann", "the quiet hour")
    assert promoted.data["evidence"]["planned"] == waiting.id


def test_a_freeze_prolongs_the_wait_and_says_so(house, two):
    """A policy set after the request counts: the promotion waits until the freeze ends, and the list says why."""
    plan(house, two)
    end = frozen(house)
    house.clock.forward(hours=2)
    assert house.registry.promotions.carry_out_due() == ()
    (listed,) = house.registry.promotions.all(house.model)
    assert listed.until == end
    assert "audit" in listed.why
    house.clock.now = end
    assert [one.state for one in house.registry.promotions.carry_out_due()] == ["done"]


def test_a_frozen_model_can_be_rolled_back_but_not_promoted(house):
    """A freeze refuses promotions and canaries until its end and names the command that waits; rollbacks are exempt."""
    house.promoted(2)
    third, end = house.register(), frozen(house)
    for act in (
        lambda: house.registry.lifecycle.promote(third.ref, by="ann"),
        lambda: house.registry.side_routes.canary(house.model, third.number, 0.1, by="ann"),
    ):
        with pytest.raises(PromotionRefused, match="audit") as refused:
            act()
        assert f"--at {end:%Y-%m-%dT%H:%MZ}" in refused.value.remedy
    assert house.registry.lifecycle.roll_back(house.model, by="ann", reason="r").to_version.number == 1


def test_a_cancelled_promotion_does_not_happen(house, two):
    """After a cancellation the time passes without effect, and another promotion can be planned."""
    plan(house, two)
    with pytest.raises(Conflict, match="already waits"):
        plan(house, two)
    assert house.registry.promotions.cancel(house.model, by="bob", reason="not today").why == "not today"
    with pytest.raises(Conflict, match="No promotion"):
        house.registry.promotions.cancel(house.model, by="bob")
    house.clock.forward(hours=2)
    assert house.registry.promotions.carry_out_due() == ()
    assert house.registry.lifecycle.deployment(house.model).production == 1
    assert plan(house, two).state is WaitingState.WAITING
    assert [event.type for event in house.events("promotion.planned", "promotion.ended")] == [
        *("promotion.planned", "promotion.ended", "promotion.planned")
    ]


def test_errors_are_told_when_the_promotion_is_planned(house, two):
    """What a promotion would refuse now is refused at the request; a time in the past, too."""
    with pytest.raises(PromotionRefused):
        plan(house, house.register(approved=False))
    with pytest.raises(InvalidInput, match="in the past"):
        plan(house, two, hours=-1)
    assert house.registry.promotions.all() == ()


def test_a_promotion_refused_at_its_time_ends(house, two):
    """If another version was promoted meanwhile under the expected generation, the wait ends and says why."""
    plan(house, two, expected_generation=1)
    house.promoted()
    house.clock.forward(hours=2)
    (ended,) = house.registry.promotions.carry_out_due()
    assert ended.state is WaitingState.REFUSED
    assert "GenerationConflict" in ended.why


def test_a_revoked_key_promotes_nothing(house, two):
    """A promotion that a key planned is refused if the key is revoked before the time."""
    made = house.registry.keys.add(["deploy"], "night job")
    by = f"key:{made.id}"
    house.registry.promotions.plan(two.ref, house.clock() + HOUR, by=by)
    house.registry.keys.revoke(made.id, by="ann")
    house.clock.forward(hours=2)
    (ended,) = house.registry.promotions.carry_out_due()
    assert (ended.state, by in ended.why) == (WaitingState.REFUSED, True)


def test_a_crash_between_promotion_and_end_promotes_once(house, two):
    """Killed after the promotion and before its end is recorded, the next call only records the end."""
    plan(house, two)
    house.clock.forward(hours=2)
    promotions = house.registry.promotions
    ended, promotions._ended = promotions._ended, None
    with pytest.raises(TypeError):
        promotions.carry_out_due()
    promotions._ended = ended
    house.clock.forward(minutes=1)
    assert [one.state for one in promotions.carry_out_due()] == ["done"]
    assert house.registry.lifecycle.deployment(house.model).generation == 2
