"""The life of API keys: made, rotated, expired, revoked."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mendel.errors import Conflict, InvalidValue, KeyNotFound, Unauthenticated
from mendel.values import Principal, Scope


@pytest.fixture
def keys(registry):
    return registry.keys


def hashes(registry):
    return registry.lifecycle.desired_state().key_hashes


def test_a_secret_is_shown_once(house, registry, keys):
    """A key proves its principal until it is revoked; only its hash is kept, and travels with the desired state."""
    made = keys.add(["read", "predict"], "server", by="ann")
    assert keys.principal(made.secret) == Principal(id=f"key:{made.id}", scopes=("predict", "read"))
    assert list(hashes(registry).values()) == [("predict", "read")]
    (shown,) = keys.all()
    assert (shown.id, shown.label, shown.state) == (made.id, "server", "active")
    (added,) = house.events("key.added")
    assert (added.subject, added.actor) == (f"key:{made.id}", "ann")
    told = repr(keys.all()) + repr(house.events())
    assert made.secret not in told
    assert not any(digest in told for digest in hashes(registry))


def test_what_is_revoked_is_refused_by_name(registry, keys):
    """A revoked key is refused with its id and label, leaves the desired state, and is not revoked twice."""
    made, revision = keys.add(["read"], "night job"), registry.lifecycle.revision()
    assert keys.revoke(made.id).state == "revoked"
    with pytest.raises(Unauthenticated, match=rf"{made.id} \(night job\) was revoked"):
        keys.principal(made.secret)
    assert hashes(registry) == {}
    assert registry.lifecycle.revision() == revision + 1
    with pytest.raises(Conflict, match="revoked already"):
        keys.revoke(made.id)
    with pytest.raises(KeyNotFound, match="keys list"):
        keys.revoke("nobody")


def test_revoking_the_last_predict_key_opens_nothing(registry, keys):
    """Prediction routes that were closed by a key stay closed when no such key is left."""
    keys.revoke(keys.add(["predict"], "app").id)
    assert list(hashes(registry).values()) == [("predict",)]


def test_an_expired_key_is_refused_by_name(house, registry, keys):
    """From its end on a key is refused, and servers know the end beforehand."""
    end = house.clock.now + timedelta(hours=1)
    made = keys.add(["read"], "night job", expires_at=end)
    assert list(registry.lifecycle.desired_state().key_expiries.values()) == [end]
    house.clock.forward(hours=1)
    with pytest.raises(Unauthenticated, match=rf"{made.id} \(night job\) expired at"):
        keys.principal(made.secret)
    assert hashes(registry) == {}
    assert keys.all()[0].state == "expired"


def test_rotation_keeps_the_id(house, keys):
    """After a rotation the new secret proves the same principal; the former one does so until the overlap ends."""
    made = keys.add(["read"], "job")
    renewed = keys.rotate(made.id, overlap=timedelta(minutes=5))
    assert renewed.id == made.id
    assert keys.principal(renewed.secret) == keys.principal(made.secret)
    assert keys.all()[0].former_until == house.clock.now + timedelta(minutes=5)
    house.clock.forward(minutes=5)
    with pytest.raises(Unauthenticated, match="former secret"):
        keys.principal(made.secret)
    again = keys.rotate(made.id)
    with pytest.raises(Unauthenticated):
        keys.principal(renewed.secret)
    keys.revoke(made.id)
    with pytest.raises(Unauthenticated):
        keys.principal(again.secret)
    assert [one.id for one in keys.all()] == [made.id]


def test_no_former_secret_outlives_a_later_rotation_or_the_end_of_the_key(house, keys):
    """The overlap of the last rotation holds for every former secret, and ends with the key."""
    made = keys.add(["read"], "job")
    renewed = keys.rotate(made.id, overlap=timedelta(days=30))
    keys.rotate(made.id)
    for former in (made, renewed):
        with pytest.raises(Unauthenticated):
            keys.principal(former.secret)
    another = keys.add(["read"], "job")
    keys.rotate(another.id, overlap=timedelta(days=300), expires_at=house.clock.now + timedelta(hours=1))
    house.clock.forward(hours=1)
    with pytest.raises(Unauthenticated):
        keys.principal(another.secret)


def test_an_expired_key_is_renewed_with_a_new_end(house, keys):
    """Rotating a key that ended needs a new end."""
    made = keys.add(["read"], "job", expires_at=house.clock.now + timedelta(hours=1))
    house.clock.forward(hours=2)
    with pytest.raises(Conflict, match="--expires"):
        keys.rotate(made.id)
    renewed = keys.rotate(made.id, expires_at=house.clock.now + timedelta(hours=1))
    assert keys.principal(renewed.secret).id == f"key:{made.id}"


def test_the_last_admin_key_stays(house, keys):
    """The last admin key without an end can neither be revoked nor get an end; it can be rotated."""
    last = keys.add(["admin"], "owner")
    keys.add(["admin"], "guest", expires_at=house.clock.now + timedelta(days=1))
    with pytest.raises(Conflict, match="last API key with the scope 'admin'"):
        keys.revoke(last.id)
    with pytest.raises(Conflict, match="last API key with the scope 'admin'"):
        keys.rotate(last.id, expires_at=house.clock.now + timedelta(days=1))
    assert keys.principal(last.secret).may(Scope.DEPLOY)
    last = keys.rotate(last.id)
    keys.add(["admin"], "second")
    keys.revoke(last.id)


def test_the_key_of_the_directory_names_its_user(keys):
    """The key in the file of the data directory is the user of that file, and a new one replaces the former."""
    first = keys.add_local(1000)
    assert keys.principal(first.secret) == Principal.local(1000)
    for change in (keys.revoke, keys.rotate):
        with pytest.raises(Conflict, match="delete the file 'key'"):
            change(first.id)
    second = keys.add_local(1000)
    with pytest.raises(Unauthenticated, match="was revoked"):
        keys.principal(first.secret)
    assert keys.principal(second.secret) == Principal.local(1000)


def test_a_key_of_a_former_mendel_becomes_the_users(keys):
    """A key file that was there before is recognised by its secret, whatever labels other keys have."""
    made, other = keys.add(["admin"], "this installation"), keys.add(["admin"], "this installation")
    keys.mark_local(made.secret, 1000)
    assert keys.principal(made.secret) == Principal.local(1000)
    assert keys.principal(other.secret).id == f"key:{other.id}"


def test_secrets_have_256_bits(keys):
    """Two secrets differ and are long enough."""
    first, second = (keys.add(["read"], "l").secret for _ in range(2))
    assert first != second
    assert len(first.removeprefix("mendel_")) == 43


@pytest.mark.parametrize("scopes", [[], ["everything"]])
def test_unknown_scopes_are_refused(registry, keys, scopes):
    """A key without scopes, or with an unknown one, is not made."""
    with pytest.raises(InvalidValue):
        keys.add(scopes, "l")
    assert registry.lifecycle.revision() == 0


def test_what_makes_no_sense_is_refused(house, keys):
    """A key without a printable label, an end in the past, and an overlap without end are refused."""
    for label in ("", " ", "a\nb", "x" * 201):
        with pytest.raises(InvalidValue, match="label"):
            keys.add(["read"], label)
    with pytest.raises(InvalidValue, match="is past"):
        keys.add(["read"], "l", expires_at=house.clock.now)
    made = keys.add(["read"], "l")
    for overlap in (timedelta(seconds=-1), timedelta(days=367)):
        with pytest.raises(InvalidValue, match="overlap"):
            keys.rotate(made.id, overlap=overlap)
