"""Versions that another program put into the artefact store: shown as foreign, adopted by command."""

from __future__ import annotations

import pytest

from mendel.errors import Forbidden, InvalidInput, StoreUnavailable, VersionNotFound
from mendel.registry import Publication
from mendel.values import Stage

MLMODEL = "flavors:\n  sklearn: {sklearn_version: 1.7.0}\n  python_function: {}\n"


@pytest.fixture
def foreign(house):
    """One version of Mendel, and version 2 that another program made."""
    house.register()
    return publish(house)


def publish(house, mlmodel=MLMODEL):
    made = Publication(key="theirs", model=house.model, stage=Stage.DEVELOPMENT)
    return house.artifacts.publish(made, house.tree(mlmodel=mlmodel))


def test_only_what_others_made_is_foreign(house, foreign, monkeypatch):
    """Registered versions and unfinished registrations are ours; the rest is listed with number and uuid."""
    monkeypatch.setattr(house.registry.versions, "_end", lambda *_: (_ for _ in ()).throw(StoreUnavailable("killed")))
    with pytest.raises(StoreUnavailable):
        house.registry.versions.register(house.request(), house.tree())
    assert [(one.number, one.uuid) for one in house.registry.foreign.of(house.model)] == [(2, foreign.uuid)]


def test_an_adopted_version_lives_like_any_other(house, foreign):
    """It keeps number, uuid and files, stands in development, is told as registered, and can be promoted."""
    record = house.registry.foreign.adopt(house.ref(2), by="ann", task="binary")
    assert (record.number, record.uuid, record.stage, record.flavor) == (2, foreign.uuid, Stage.DEVELOPMENT, "sklearn")
    assert house.registry.versions.tree(record.ref) == house.artifacts.tree(foreign.uuid)
    told = house.events("model.registered")[-1]
    assert (told.subject, told.actor, told.data["uuid"]) == ("credit@2", "ann", foreign.uuid)
    assert house.registry.foreign.of(house.model) == ()
    house.registry.lifecycle.approve(record.ref, policy=True, bias=True, by="bob")
    house.registry.lifecycle.transition(record.ref, Stage.SANDBOX, by="ann", without_parity="made outside")
    assert house.registry.lifecycle.promote(record.ref, by="ann").production == 2
    assert house.register().number == 3


def test_what_is_missing_is_asked_for(house, foreign):
    """A task that the files do not tell, and a choice between flavours, must be given; a number must be foreign."""
    with pytest.raises(InvalidInput, match="what the model predicts"):
        house.registry.foreign.adopt(house.ref(2), by="ann")
    with pytest.raises(VersionNotFound, match="without Mendel"):
        house.registry.foreign.adopt(house.ref(1), by="ann", task="binary")
    house.artifacts.discard("theirs")
    publish(house, "flavors:\n  sklearn: {}\n  xgboost: {}\n")
    with pytest.raises(InvalidInput, match="sklearn, xgboost"):
        house.registry.foreign.adopt(house.ref(3), by="ann", task="binary")


def test_files_only_below_the_roots(house, foreign, tmp_path):
    """With roots, files elsewhere on the disk are not adopted."""
    with pytest.raises(Forbidden):
        house.registry.foreign.adopt(house.ref(2), by="key:1", task="binary", roots=(str(tmp_path / "other"),))
    assert house.registry.foreign.adopt(house.ref(2), by="key:1", task="binary", roots=(str(tmp_path),)).number == 2
