"""Shadow and fallback, by command and by policy."""

from __future__ import annotations

import pytest

from mendel.errors import Conflict, GenerationConflict, PromotionRefused
from mendel.registry import SideRole
from mendel.values import ColumnSpec, ColumnType, Signature

NARROW = Signature.of_columns((ColumnSpec(name="age", type=ColumnType.DOUBLE),), output=ColumnType.LONG)


def put(house, role, number, **how):
    return house.registry.side_routes.set_side_version(house.model, role, number, by="ann", **how)


def test_a_shadow_is_set_and_ended(house):
    """Each change is one generation with one event that says what changed; a repeated request changes nothing."""
    house.promoted()
    number = house.register(approved=False).number
    assert put(house, SideRole.SHADOW, number).shadow == number
    assert put(house, SideRole.SHADOW, number).generation == 2
    ended = put(house, SideRole.SHADOW, None, expected_generation=2)
    assert (ended.shadow, ended.generation) == (None, 3)
    told = [event.data for event in house.events("deployment.changed")]
    assert [(one["role"], one["from_version"], one["to_version"], one["generation"]) for one in told] == [
        ("shadow", None, number, 2),
        ("shadow", number, None, 3),
    ]


def test_a_fallback_answers_users_and_is_checked(house):
    """A version that was never in production needs its approvals to become the fallback; a former one does not."""
    house.promoted(2)
    with pytest.raises(PromotionRefused, match="not approved"):
        put(house, SideRole.FALLBACK, house.register(approved=False).number)
    assert put(house, SideRole.FALLBACK, 1).fallback == 1
    assert 1 in house.registry.lifecycle.deployment(house.model).versions


def test_what_cannot_stand_beside(house):
    """Nothing stands beside nothing; not the production version, an unproven one, or one that rejects the requests."""
    loose = house.register()
    with pytest.raises(Conflict, match="needs a production version"):
        put(house, SideRole.SHADOW, loose.number)
    house.promoted(2)
    with pytest.raises(Conflict, match="is in production"):
        put(house, SideRole.SHADOW, 3)
    with pytest.raises(Conflict, match="is in development"):
        put(house, SideRole.SHADOW, house.register(sandbox=False).number)
    with pytest.raises(PromotionRefused, match="signature"):
        put(house, SideRole.SHADOW, house.register(signature=NARROW).number)
    with pytest.raises(GenerationConflict):
        put(house, SideRole.SHADOW, loose.number, expected_generation=1)
    house.registry.lifecycle.roll_back(house.model, by="ann", reason="r")
    with pytest.raises(Conflict, match="is in rollback"):
        put(house, SideRole.FALLBACK, 3)


def test_the_policy_keeps_the_former_version_beside(house):
    """With ``former`` for both roles, a promotion makes the former production version shadow and fallback."""
    house.registry.policies.set(house.model, {"promotion": {"shadow": "former", "fallback": "former"}}, by="ann")
    house.promoted(2)
    deployment = house.registry.lifecycle.deployment(house.model)
    assert (deployment.production, deployment.shadow, deployment.fallback) == (2, 1, 1)
    back = house.registry.lifecycle.roll_back(house.model, by="ann", reason="r").deployment
    assert (back.production, back.shadow, back.fallback) == (1, None, None)


def test_the_policy_makes_the_newest_version_the_shadow(house):
    """With ``newest``, a version that leaves development becomes the shadow, in the same transaction."""
    house.registry.policies.set(house.model, {"promotion": {"shadow": "newest"}}, by="ann")
    house.promoted()
    record = house.register()
    assert house.registry.lifecycle.deployment(house.model).shadow == record.number


def test_a_shadow_that_becomes_canary_leaves_the_shadow(house):
    """A version does not get copies of the requests that it answers itself."""
    house.promoted()
    number = house.register().number
    put(house, SideRole.SHADOW, number)
    assert house.registry.side_routes.canary(house.model, number, 0.1, by="ann").shadow is None
