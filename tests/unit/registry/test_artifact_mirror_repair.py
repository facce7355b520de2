"""Alias and tags in the artefact store are compared with the stages, and repaired."""

from __future__ import annotations

import pytest

from mendel.errors import StoreUnavailable
from mendel.registry import Mirror
from mendel.registry.artifact_mirror_repair import MirrorRepair
from mendel.values import ModelName, Stage


class Locked:
    """An artefact store whose writes fail while it is locked."""

    def __init__(self, artifacts):
        self.artifacts = artifacts
        self.locked = False

    def __getattr__(self, name):
        return getattr(self.artifacts, name)

    def mirror(self, model, state):
        if self.locked:
            raise StoreUnavailable("database is locked")
        return self.artifacts.mirror(model, state)


@pytest.fixture
def locked(house):
    store = Locked(house.artifacts)
    house.registry = house.over(artifacts=store)
    house.promoted(2)
    house.registry.mirror_repair.compare(house.clock())
    return store


def compare(house):
    return house.registry.mirror_repair.compare(house.clock.forward(minutes=1))


def shown(house):
    return house.artifacts.mirrored(house.model, known=frozenset({1, 2}))


def test_a_failed_write_is_seen_and_repaired(house, locked):
    """While the store is locked the reading tells model, time and reason; afterwards the alias is right again."""
    locked.locked = True
    house.registry.lifecycle.roll_back(house.model, by="ann", reason="r")
    first, second = compare(house), compare(house)
    (lagging,) = second.lagging
    assert (lagging.model, lagging.since, lagging.why) == (house.model, first.at, "database is locked")
    assert shown(house).production == 2
    locked.locked = False
    assert compare(house).lagging == ()
    assert (shown(house).production, shown(house).generation) == (1, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        Mirror(production=1, generation=2, stages={}),
        Mirror(production=2, generation=7, stages={}),
        Mirror(production=2, generation=2, stages={1: Stage.PRODUCTION}),
    ],
)
def test_what_another_program_wrote_is_written_again(house, locked, wrong):
    """A foreign alias, generation or stage tag is found by the next comparison, and written again."""
    before = house.registry.mirror_repair.reading.repaired
    house.artifacts.mirror(house.model, wrong)
    reading = compare(house)
    assert (reading.repaired - before, reading.models, reading.lagging) == (1, 1, ())
    assert shown(house) == Mirror(production=2, generation=2, stages={1: Stage.SANDBOX, 2: Stage.PRODUCTION})
    assert compare(house).repaired == reading.repaired


def test_many_models_get_their_tags_in_turn(house, monkeypatch):
    """Every model's alias is compared in each call, and its tags in one call of a round."""
    monkeypatch.setattr("mendel.registry.artifact_mirror_repair._TAGGED_AT_ONCE", 1)
    for name in ("a", "b"):
        house.registry.versions.register(house.request(model=ModelName(name)), house.tree())
    asked = []
    monkeypatch.setattr(MirrorRepair, "_differs", lambda _, model: asked.append(model))
    for _ in range(4):
        compare(house)
    assert asked == ["a", "b", "a", "b"]
