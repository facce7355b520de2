"""Who did it: the ledger names the key of a request, and nothing that the request says."""

from __future__ import annotations

import pytest

from mendel.durable import Event, Ledger
from mendel.transports.hub import create_app
from mendel.values import EPOCH, ModelName, Principal, VersionRef

FORGED = {"x-mendel-actor": "healing:INC-2026-1", "x-actor": "ceo", "from": "ceo@example.com"}
CREDIT = ModelName("credit")


def events(hub, *types):
    entries = hub.parts.unit.read(lambda tx: tx.store(Ledger).entries(types=types))
    return [entry.event for entry in entries]


@pytest.fixture
def sandboxed(hub, registered):
    registry = hub.parts.registry
    ref = registered(CREDIT)
    registry.lifecycle.transition(ref, "sandbox", by="test", without_parity="no rows")
    return ref


def test_nobody_approves_in_the_name_of_another(hub, sandboxed):
    """A forged header changes nothing: the approval bears the id of the key that gave it."""
    answer = hub.http("admin").post(
        f"/api/v1/models/{CREDIT}/versions/1/approve", json={"policy": True, "bias": True}, headers=FORGED
    )
    key = hub.principal("admin")
    assert key.startswith("key:")
    assert answer.json()["governance"]["policy_compliant"]["by"] == key
    assert [event.actor for event in events(hub, "model.approved")] == [key]


def test_nobody_promotes_in_the_name_of_healing(hub, sandboxed):
    """A promotion and its override name the key, though the request says that healing promotes."""
    hub.parts.registry.lifecycle.approve(sandboxed, policy=True, bias=True, by="test")
    answer = hub.http("deploy").post(
        f"/api/v1/models/{CREDIT}/versions/1/promote", json={"override": "tonight"}, headers=FORGED
    )
    assert answer.status_code == 200
    (promoted,) = events(hub, "model.promoted")
    assert promoted.actor == promoted.data["override"]["by"] == hub.principal("deploy")
    (period,) = hub.parts.registry.lifecycle.history(CREDIT)
    assert period.actor == hub.principal("deploy")


def test_people_read_the_labels_of_keys(hub, sandboxed):
    """Whoever may read can look up the label of a principal, and the card names it."""
    hub.client("admin").approve(VersionRef(CREDIT, 1), policy=True)
    reader = hub.client("read")
    key = hub.principal("admin")
    assert reader.principals()[key] == "admin"
    card = reader.card("credit@1")
    assert f"given by {key}" in card
    assert f"The label of {key} is admin" in card


def test_old_events_show_no_hash_of_a_key(hub):
    """Events of a former Mendel hold the hash of a key, which only an administrator gets."""
    old = Event(
        id="old", type="key.added", subject="key:ab", time=EPOCH, actor="cli", data={"digest": "ab", "label": "l"}
    )
    hub.parts.unit.write(lambda tx: tx.append(old))
    for scope, shown in (("read", {"label": "l"}), ("admin", dict(old.data))):
        (found,) = hub.client(scope).events(subject="key:ab").entries
        assert found.event.data == shown


def test_the_key_of_the_directory_is_its_user(hub):
    """The key in the data directory is local:<uid>: the owner of the file, or who opened the directory here."""
    secret = hub.parts.registry.keys.add_local(4000).secret
    headers = {"authorization": f"Bearer {secret}"}
    hub.http(None).post("/api/v1/healing/pause", json={}, headers=headers)
    hub.of(create_app(hub.parts, opener=Principal.local(4001))).post("/api/v1/healing/pause", json={}, headers=headers)
    other = hub.parts.registry.keys.add(("admin",), "other").secret
    hub.of(create_app(hub.parts, opener=Principal.local(4001))).post(
        "/api/v1/healing/pause", json={}, headers={"authorization": f"Bearer {other}"}
    )
    assert [event.actor for event in events(hub, "healing.paused")] == [
        "local:4000",
        "local:4001",
        hub.principal("other"),
    ]
