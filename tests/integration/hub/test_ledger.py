"""Ledger, anchors and keys through the public client; and what happens when somebody alters the files behind it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mendel import connect
from mendel.app.settings import HubSettings, Settings
from mendel.app.wiring import open_rooms
from mendel.durable import FindingKind
from mendel.errors import Forbidden, InvalidValue, Unauthenticated
from mendel.registry import Registration
from mendel.values import Scope, to_json
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


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A directory with 13 entries, of which the first nine are anchored, and a copy of the anchors elsewhere."""
    root = tmp_path_factory.mktemp("ledger")
    settings = Settings(directory=str(root / ".mendel"), hub=HubSettings(anchor_copies=(str(root / "copies"),)))
    with open_rooms(settings) as rooms:
        for place in range(11):
            rooms.registry.keys.add((Scope.READ,), f"key {place}", by="ann")
            if place == 6:  # the installation's own key is the first entry, the ledger's key is the ninth
                assert rooms.notary.checkpoint(datetime.now(UTC)).size == 9
    return root


@pytest.fixture
def lived_in(prepared, tmp_path):
    """A copy of the prepared directory, which nobody has open."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path / ".mendel"


def verified(directory):
    with connect(directory=str(directory)) as client:
        return client.verify_ledger()


def found(directory):
    """What verification finds, each as its kind and the number of the entry."""
    return [(str(finding.kind), finding.sequence) for finding in verified(directory).findings]


def alter(directory, *statements):
    with closing(sqlite3.connect(directory / "mendel.db")) as database:
        for statement in statements:
            assert database.execute(statement).rowcount > 0
        database.commit()


CUT = "DELETE FROM ledger WHERE sequence > {0}"
SET_HEAD = (
    "UPDATE ledger_head SET (sequence, hash) = (SELECT sequence, hash FROM ledger ORDER BY sequence DESC LIMIT 1)"
)
SWAP = (
    "UPDATE ledger SET sequence = 100 WHERE sequence = 5",
    "UPDATE ledger SET sequence = 5 WHERE sequence = 7",
    "UPDATE ledger SET sequence = 7 WHERE sequence = 100",
)
ATTACKS = {
    "changed data": (
        ["UPDATE ledger SET data = replace(data, 'key 3', 'key x') WHERE sequence = 5"],
        [("entry changed", 5)],
    ),
    "changed actor": (["UPDATE ledger SET actor = 'bob' WHERE sequence = 1"], [("entry changed", 1)]),
    "changed time": (["UPDATE ledger SET time = time + 1 WHERE sequence = 13"], [("entry changed", 13)]),
    "changed index": (["UPDATE ledger SET root = 'x' WHERE sequence = 4"], [("entry changed", 4)]),
    "changed hash": (
        ["UPDATE ledger SET hash = replace(hash, substr(hash, 1, 1), 'g') WHERE sequence = 4"],
        [("entry changed", 4)],
    ),
    "deleted": (["DELETE FROM ledger WHERE sequence = 6"], [("entry missing", 6)]),
    "deleted first": (["DELETE FROM ledger WHERE sequence = 1"], [("entry missing", 1)]),
    "swapped": (SWAP, [("entries swapped", 5)]),
    "cut tail": ([CUT.format(7)], [("tail cut", 8)]),
    "cut tail behind the anchor": ([CUT.format(10)], [("tail cut", 11)]),
    "cut tail and head row": ([CUT.format(10), SET_HEAD], [("tail cut", 11), ("head row changed", 10)]),
    "head row": (
        ["UPDATE ledger_head SET hash = prev_hash FROM ledger WHERE ledger.sequence = 3"],
        [("head row changed", 13)],
    ),
    "head row's number": (["UPDATE ledger_head SET sequence = 12"], [("head row changed", 13)]),
    "node of the tree": (["UPDATE ledger_tree SET hash = x'00' WHERE size = 8 AND level = 3"], [("tree changed", 8)]),
    "recorded checkpoint": (
        ["UPDATE ledger_checkpoints SET note = replace(note, 'at 2', 'at 3')"],
        [("anchor changed", 9)],
    ),
    "name": (["UPDATE ledger_head SET origin = 'mendel/x'"], [("anchor of an unknown key", 9)]),
}


class TestTampering:
    def test_what_is_anchored_is_told_from_what_is_consistent(self, lived_in):
        """Untouched, it holds to the end, and is vouched for up to the anchor."""
        proof = verified(lived_in)
        assert (proof.first, proof.last, proof.anchored, proof.anchors, proof.findings) == (1, 13, 9, 1, ())

    @pytest.mark.parametrize("attack", ATTACKS)
    def test_each_attack_is_named(self, lived_in, attack):
        """Whatever is changed behind Mendel's back is found by its name, at that very entry, and nothing else is."""
        statements, wanted = ATTACKS[attack]
        alter(lived_in, *statements)
        assert found(lived_in) == wanted

    def test_a_ledger_written_anew_is_noticed(self, lived_in, tmp_path):
        """Somebody who recomputes chain, tree and head row still cannot sign: the anchor contradicts the entries."""
        other = tmp_path / "other"
        with open_rooms(Settings(directory=str(other))) as rooms:
            for place in range(12):
                rooms.registry.keys.add((Scope.ADMIN,), f"forged {place}", by="ann")
        with closing(sqlite3.connect(lived_in / "mendel.db")) as database:
            database.execute("ATTACH ? AS other", (str(other / "mendel.db"),))
            for table in ("ledger", "ledger_tree"):
                database.execute(f"DELETE FROM {table}")  # noqa: S608 - our own words
                database.execute(f"INSERT INTO {table} SELECT * FROM other.{table}")  # noqa: S608 - our own words
            changes = "(sequence, hash, peaks) = (SELECT sequence, hash, peaks FROM other.ledger_head)"
            database.execute(f"UPDATE ledger_head SET {changes}")  # noqa: S608 - our own words
            database.commit()
        assert found(lived_in) == [("anchor contradicted", 1)]

    def test_a_deleted_anchor_is_noticed(self, lived_in):
        """The database knows which anchors were stored."""
        (path,) = (lived_in / "artifacts" / "anchors").iterdir()
        path.unlink()
        assert found(lived_in) == [("anchor missing", 9)]

    def test_an_altered_anchor_is_noticed(self, lived_in):
        """An anchor that says something else than was signed, or is no anchor at all, is named."""
        (path,) = (lived_in / "artifacts" / "anchors").iterdir()
        honest = path.read_text()
        for old, new in (("\n9\n", "\n8\n"), ("at 2", "at 3"), ("\n\n", "\n")):
            path.write_text(honest.replace(old, new, 1))
            assert found(lived_in) == [("anchor changed", None if "at" not in old else 9)]

    def test_a_strangers_key_vouches_for_nothing(self, lived_in):
        """With another signing key in its place, the anchors of the former one are not trusted."""
        (lived_in / "ledger.key").write_bytes(b"0" * 32)
        assert found(lived_in) == [("anchor of an unknown key", 9), ("signing key changed", 9)]

    def test_anchors_of_a_former_mendel_verify(self, lived_in):
        """An anchor in the former form is trusted if our key signed it, and contradicts an entry with another hash."""
        key = Ed25519PrivateKey.from_private_bytes((lived_in / "ledger.key").read_bytes())
        with connect(directory=str(lived_in)) as client:
            third = client.events(after=2, limit=1).entries[0]
        for name, entry_hash, wanted in (("3", third.hash, []), ("2", third.hash, [("anchor contradicted", 1)])):
            stated = {"at": datetime.now(UTC), "hash": entry_hash, "sequence": int(name)}
            signature = key.sign(to_json(stated)).hex()
            told = {**stated, "signature": signature, "public_key": key.public_key().public_bytes_raw().hex()}
            (lived_in / "artifacts" / "anchors" / f"{int(name):012d}.json").write_bytes(to_json(told))
            assert found(lived_in) == wanted


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


@pytest.fixture(scope="module")
def registered(trees, tmp_path_factory):
    """A directory with a version in production and a policy, which nobody has open."""
    directory = tmp_path_factory.mktemp("state") / ".mendel"
    with connect(directory=str(directory)) as client:
        client.register(Registration(model="credit", flavor="sklearn", task="classification"), trees / "linear")
        client.approve("credit@1", policy=True, bias=True)
        client.change_stage("credit@1", "sandbox")
        client.promote("credit@1")
        client.set_policy("credit", {"rollback": {"error_rate": 0.1}})
    return directory


@pytest.fixture
def altered(registered, tmp_path):
    shutil.copytree(registered, tmp_path / ".mendel")
    return tmp_path / ".mendel"


class TestState:
    @pytest.mark.parametrize(
        ("statement", "place"),
        [
            ("UPDATE versions SET body = json_set(body, '$.owner', 'x')", "version credit@1"),
            ("UPDATE versions SET stage = 'sandbox', body = json_set(body, '$.stage', 'sandbox')", "version credit@1"),
            ("UPDATE deployments SET body = json_set(body, '$.shadow', 1)", "deployment credit"),
            ("UPDATE policies SET body = json_set(body, '$.by', 'x')", "policy credit 1"),
            ("DELETE FROM policies", "policy credit 1"),
            ("INSERT INTO policies SELECT model, 2, json_set(body, '$.version', 2) FROM policies", "policy credit 2"),
            ("UPDATE tenures SET actor = 'x'", "production period credit 1"),
        ],
    )
    def test_a_row_changed_beside_the_ledger_is_found(self, altered, statement, place):
        """The entries are intact, so that only the comparison with the tables finds the row, and names it."""
        alter(altered, statement)
        with connect(directory=str(altered)) as client:
            assert client.verify_ledger().holds
            (finding,) = client.verify_ledger(tables=True).findings
        assert (finding.kind, finding.place) == (FindingKind.STATE_CHANGED, place)

    def test_untouched_tables_hold(self, registered):
        """Without tampering the tables are what the events say."""
        with connect(directory=str(registered)) as client:
            proof = client.verify_ledger(tables=True)
        assert proof.holds
        assert proof.tables

    def test_an_entry_that_cannot_be_read_is_found(self, altered):
        """Where the rows of an event were destroyed, the verification says so instead of failing."""
        alter(altered, "UPDATE ledger SET data = '{' WHERE type = 'model.registered'")
        with connect(directory=str(altered)) as client:
            kinds = [finding.kind for finding in client.verify_ledger(tables=True).findings]
        assert kinds == [FindingKind.ENTRY_CHANGED, FindingKind.STATE_CHANGED]

    def test_a_directory_of_a_former_mendel_gets_its_state(self, altered):
        """Where no event carries rows, opening writes the whole state once, and the tables then agree with it."""
        alter(altered, "UPDATE ledger SET data = json_remove(data, '$.state')")
        with connect(directory=str(altered)) as client:
            client.set_policy("credit", {"rollback": {"error_rate": 0.2}})
        with connect(directory=str(altered)) as client:
            findings = client.verify_ledger(tables=True).findings
            entries = client.events(subject="registry").entries
        assert {finding.kind for finding in findings} == {FindingKind.ENTRY_CHANGED}
        assert [one.event.type for one in entries] == ["registry.state"]
