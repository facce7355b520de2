"""Ledger, anchors and keys through the public client; and what happens when somebody alters the files behind it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest

from mendel import connect
from mendel.app.settings import Settings
from mendel.app.wiring import open_rooms
from mendel.errors import (
    Corrupt,
    Forbidden,
    InvalidValue,
    LedgerBroken,
    Unauthenticated,
)
from mendel.values import Scope, from_json, to_json
from support.principals import ME


class TestEvents:
    def test_pages_join_without_gap_or_overlap(self, hub, client, model):
        """Read in pages of any size, the entries of a model are those read at once, ascending."""
        for share in range(1, 8):
            client.set_policy(model, {"rollback": {"error_rate": share / 10}})
        whole = client.events(subject=model)
        assert whole.next is None
        assert len(whole.entries) == 7
        paged, after = [], 0
        while after is not None:
            page = client.events(after=after, limit=3, subject=model)
            paged.extend(page.entries)
            after = page.next
        assert tuple(paged) == whole.entries
        assert [e.sequence for e in paged] == sorted({e.sequence for e in paged})

    def test_a_subject_holds_its_versions(self, hub, client, model):
        """The events of a model hold those of its versions; those of a version only its own."""
        hub.promoted(model, 2)
        client.set_policy(model, {})
        subjects = {e.event.subject for e in client.events(subject=model).entries}
        assert subjects == {model, f"{model}@1", f"{model}@2"}
        assert {e.event.subject for e in client.events(subject=f"{model}@2").entries} == {f"{model}@2"}

    def test_types_can_be_chosen(self, hub, client, model):
        """Only the asked types come; a page's bounds are checked."""
        hub.promoted(model)
        answer = hub.http.get("/api/v1/events", params={"subject": model, "type": ["model.promoted", "model.approved"]})
        found = {entry["event"]["type"] for entry in answer.json()["entries"]}
        assert found == {"model.promoted", "model.approved"}
        assert hub.http.get("/api/v1/events", params={"limit": 2001}).status_code == 400


class TestVerifying:
    def test_an_untouched_ledger_holds(self, hub, client, model):
        """From the first entry to the newest one."""
        client.set_policy(model, {})
        newest = client.events(subject=model).entries[-1]
        proof = client.verify_ledger()
        assert proof.first == 1
        assert proof.last >= newest.sequence


@pytest.fixture
def lived_in(tmp_path):
    """A directory with a dozen entries, of which the eighth is anchored; nobody has it open."""
    directory = tmp_path / ".mendel"
    with open_rooms(Settings(directory=str(directory))) as rooms:
        for place in range(12):
            rooms.registry.keys.add((Scope.READ,), f"key {place}", by="ann")
            if place == 6:  # the installation's own key is the first entry
                assert rooms.stores.anchors.sign(rooms.unit, datetime.now(UTC)).sequence == 8
    return directory


def verified(directory):
    with connect(directory=str(directory)) as client:
        return client.verify_ledger()


def alter(directory, statement, *values):
    with closing(sqlite3.connect(directory / "mendel.db")) as database:
        assert database.execute(statement, values).rowcount > 0
        database.commit()


class TestTampering:
    def test_what_is_anchored_is_told_from_what_is_consistent(self, lived_in):
        """Untouched, it holds to the end, and is vouched for up to the anchor."""
        proof = verified(lived_in)
        assert (proof.first, proof.last, proof.anchored, proof.anchors) == (1, 13, 8, 1)

    @pytest.mark.parametrize(
        ("statement", "sequence"),
        [
            ("UPDATE ledger SET data = replace(data, 'key 3', 'key x') WHERE sequence = 5", 5),
            ("UPDATE ledger SET actor = 'bob' WHERE sequence = 1", 1),
            ("UPDATE ledger SET time = time + 1 WHERE sequence = 13", 13),
            ("UPDATE ledger SET hash = replace(hash, substr(hash, 1, 1), 'g') WHERE sequence = 4", 4),
            ("DELETE FROM ledger WHERE sequence = 6", 6),
            ("DELETE FROM ledger WHERE sequence = 1", 1),
        ],
    )
    def test_an_altered_entry_is_found_where_it_is(self, lived_in, statement, sequence):
        """Whatever is changed behind Mendel's back, verifying fails at that very entry."""
        alter(lived_in, statement)
        with pytest.raises(LedgerBroken) as caught:
            verified(lived_in)
        assert caught.value.sequence == sequence

    def test_cutting_off_the_tail_after_an_anchor_is_noticed(self, lived_in):
        """A chain cut before an anchored entry is whole in itself; the anchor says that more was there."""
        alter(lived_in, "DELETE FROM ledger WHERE sequence > 7")
        with pytest.raises(LedgerBroken, match="ends at entry 7, but a signed anchor confirms entry 8") as caught:
            verified(lived_in)
        assert caught.value.sequence == 8

    def test_a_ledger_written_anew_is_noticed(self, lived_in, tmp_path):
        """Somebody who recomputes the whole chain still cannot sign: the anchor contradicts the new entries."""
        other = tmp_path / "other"
        with open_rooms(Settings(directory=str(other))) as rooms:
            for place in range(12):
                rooms.registry.keys.add((Scope.ADMIN,), f"forged {place}", by="ann")
        for name in ("mendel.db", "key"):
            (lived_in / name).write_bytes((other / name).read_bytes())
        with pytest.raises(LedgerBroken, match="anchor of this entry has the hash") as caught:
            verified(lived_in)
        assert caught.value.sequence == 8

    def test_an_altered_anchor_is_noticed(self, lived_in):
        """An anchor that says something else than was signed, or was signed by a stranger, does not hold."""
        (path,) = (lived_in / "artifacts" / "anchors").glob("*.json")
        honest = path.read_bytes()
        for key, value in (("hash", "0" * 64), ("public_key", "0" * 64), ("signature", "00"), ("sequence", 99)):
            path.write_bytes(to_json(from_json(honest, dict) | {key: value}))
            with pytest.raises(LedgerBroken):
                verified(lived_in)
        path.write_bytes(b"{")
        with pytest.raises(Corrupt, match=r"anchor .* cannot be read"):
            verified(lived_in)

    def test_a_strangers_key_vouches_for_nothing(self, lived_in):
        """With another signing key in its place, the anchors of the former one are not trusted."""
        (lived_in / "ledger.key").write_bytes(b"0" * 32)
        with pytest.raises(LedgerBroken, match="untrusted key"):
            verified(lived_in)


class TestKeys:
    @pytest.mark.parametrize("scope", [Scope.READ, Scope.LABEL, Scope.REGISTER])
    def test_a_key_does_only_what_it_was_made_for(self, hub, client, model, scope):
        """A key without ``deploy`` cannot promote, change policy or pause; nothing happened."""
        ref = hub.ready(model)
        with hub.with_key(client.add_key([scope], label="narrow").secret) as narrow:
            for forbidden in (
                lambda: narrow.promote(ref),
                lambda: narrow.set_policy(model, {}),
                lambda: narrow.pause_healing(reason="x"),
                lambda: narrow.add_key(["admin"], label="more"),
            ):
                with pytest.raises(Forbidden, match="lacks the scope"):
                    forbidden()
            if scope is Scope.READ:
                assert narrow.version(ref) == client.version(ref)
            else:
                with pytest.raises(Forbidden, match="lacks the scope 'read'"):
                    narrow.version(ref)
        assert client.deployment(model).generation == 0

    def test_unknown_keys_open_nothing(self, hub):
        """A key nobody made, and none, are Unauthenticated with where to find one."""
        for secret in ("nobody-made-this", None):
            with hub.with_key(secret) as stranger, pytest.raises(Unauthenticated) as caught:
                stranger.models()
            assert ".mendel/key" in caught.value.remedy

    def test_what_is_no_scope_makes_no_key(self, client):
        """Unknown scopes, and none, are refused with those there are."""
        for scopes in (["root"], []):
            with pytest.raises(InvalidValue, match="scopes are predict, read"):
                client.add_key(scopes, label="x")

    def test_a_key_is_kept_as_its_digest(self, hub, client):
        """The secret stands in no file of the directory but the owner's own key file."""
        made = client.add_key(["read"], label="quiet")
        (added,) = hub.events(f"key:{made.id}", "key.added")
        assert (added.actor, added.data["label"]) == (ME, "quiet")
        secret = made.secret
        kept = [path for path in hub.directory.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
        assert kept == []

    def test_the_installations_key_is_its_owners(self, hub):
        """.mendel and the keys in it can be read by their owner alone."""
        assert hub.directory.stat().st_mode & 0o077 == 0
        assert (hub.directory / "key").stat().st_mode & 0o077 == 0
