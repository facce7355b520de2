"""The contract of a set of stores: what is written through one opening is found by the next, in every store."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pytest

from mendel.adapters.memory import MemoryUnitOfWork, MemoryWorkflows, all_stores
from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.memory.predictions import MemoryInbox, MemoryLake
from mendel.app.directory import DataDirectory
from mendel.app.stores import STORE_SETS, Stores
from mendel.durable import Event, Ledger, Notary, Outbox, StoredAnchor, WorkflowCall, WorkflowState
from mendel.healing import HealingStore
from mendel.predictions import LabelRow, ProfileStore, Spool, sealed_segments
from mendel.registry import PolicyDocument, Publication, RegistryStore
from mendel.values import Digest, ModelName, Stage, Table, to_micros
from mendel.views import Views

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SOON = timedelta(seconds=20)
CREDIT = ModelName("credit")
TABLE = "predictions/credit"
MENDED = WorkflowCall(name="mend", id="w1", input={"n": 2})


class MemorySet:
    """Stores in memory, which live as long as this object: opening again gives the same."""

    def __init__(self):
        self._stores = None

    @contextmanager
    def __call__(self, data):
        if self._stores is None:
            self._stores = Stores(
                state=MemoryUnitOfWork(all_stores()),
                artifacts=MemoryArtifacts(data.root / "kept"),
                segments=MemoryInbox(),
                lake=MemoryLake(),
                anchors=MemoryAnchors(),
                signing_keys=MemorySigningKeys(),
                workflows=self._workflows,
                warm_up=lambda: None,
            )
        yield self._stores

    def _workflows(self, executor, version, _kept={}):  # noqa: B006 - what was started is kept between openings
        return _kept.setdefault((id(self), executor, version), MemoryWorkflows())


def open_set(name):
    return MemorySet() if name == "memory" else STORE_SETS[name]


@pytest.fixture(scope="module", params=["memory", *STORE_SETS])
def written(request, tmp_path_factory):
    """A directory into which every store wrote, closed and opened again; and what was written."""
    root = tmp_path_factory.mktemp("stores")
    data, opened = DataDirectory(root / ".mendel"), open_set(request.param)
    data.create()
    with opened(data) as stores:
        facts = write_everywhere(stores, root)
    with opened(data) as stores:
        yield SimpleNamespace(stores=stores, **facts)


def write_everywhere(stores, root):
    event = Event(id="e1", type="thing.happened", subject="credit", time=NOW, actor="ann", data={})

    def state(tx):
        tx.store(RegistryStore).add_policy(PolicyDocument(model=CREDIT, version=1, body={"bake": "1h"}, at=NOW))
        assert tx.store(HealingStore).next_number("INC-2026") == 1
        tx.append(event)
        tx.start(MENDED)

    stores.state.write(state)
    tree = root / "tree"
    tree.mkdir()
    (tree / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    published = stores.artifacts.publish(Publication(key="credit/k", model=CREDIT, stage=Stage.DEVELOPMENT), tree)
    with Spool(root / "spool", "s1") as spool:
        spool.append_labels([LabelRow(prediction_id="p", true_label=1, label_source="t", received_at=NOW)])
        spool.seal()
    segment = sealed_segments(root / "spool")[-1].path.read_bytes()
    stores.segments.put("s1", 1, segment, Digest(f"sha256:{hashlib.sha256(segment).hexdigest()}"))
    rows = Table(
        {
            "prediction_id": np.array(["p", "q"], dtype=object),
            "event_time": np.full(2, to_micros(NOW), dtype=np.int64),
        }
    )
    stores.lake.append(TABLE, rows, marks={"s1": 1}, seen={})
    anchor = notary_of(stores).checkpoint(NOW)
    workflows = stores.workflows("hub", "1")
    workflows.register("mend", lambda run, payload: run.step("double", lambda: {"n": payload["n"] * 2}))
    with workflows.open() as running:
        running.start(MENDED)
        assert running.wait("w1", timeout=SOON).state is WorkflowState.DONE
    return {"published": published, "segment": segment, "anchor": anchor}


def notary_of(stores):
    return Notary(stores.state, stores.signing_keys, [stores.anchors], lambda: "e2")


def test_the_state_is_there(written):
    """Rows of every room, the ledger and the outbox are found."""

    def read(tx):
        return (
            [policy.body for policy in tx.store(RegistryStore).policies(CREDIT)],
            [entry.event.id for entry in tx.store(Ledger).entries()],
            tx.store(Outbox).pending(10),
            tx.store(ProfileStore).spools(),
            tx.store(Views).fleet(NOW).total_models,
        )

    assert written.stores.state.read(read) == ([{"bake": "1h"}], ["e1", "e2"], (MENDED,), (), 0)
    assert written.stores.state.write(lambda tx: tx.store(HealingStore).next_number("INC-2026")) == 2


def test_the_artefacts_are_there(written):
    """What was published is found by its key, with its files; a key is published once over all openings."""
    artifacts = written.stores.artifacts
    assert artifacts.find("credit/k") == written.published
    assert (artifacts.tree(written.published.uuid) / "MLmodel").read_text() == "flavors: {sklearn: {}}\n"


def test_the_segments_are_there(written):
    """A sealed segment waits with its bytes."""
    (waiting,) = written.stores.segments.pending()
    assert (waiting.spool_id, waiting.seq) == ("s1", 1)
    assert written.stores.segments.read("s1", 1) == written.segment


def test_the_lake_is_there(written):
    """Rows are found, and the mark that says which segments they came from."""
    assert list(written.stores.lake.tables()) == [TABLE]
    snapshot = written.stores.lake.snapshot(TABLE)
    assert (snapshot.count(), snapshot.shipped("s1")) == (2, 1)


def test_the_anchors_are_there(written):
    """The checkpoint is found, its key is trusted, and it is signed once."""
    kept = StoredAnchor(name=written.anchor.name, content=written.anchor.note.encode())
    assert written.stores.anchors.all() == (kept,)
    assert written.anchor.signature_fault(notary_of(written.stores).trusted()) is None
    assert notary_of(written.stores).checkpoint(NOW + SOON) == written.anchor


def test_the_workflows_are_there(written):
    """A run that is done is known with its result, and its id does not start again."""
    runs = []
    workflows = written.stores.workflows("hub", "1")
    workflows.register("mend", lambda run, payload: runs.append(payload) or {})
    with workflows.open() as running:
        known = running.get("w1")
        assert (known.state, known.result) == (WorkflowState.DONE, {"n": 4})
        running.start(MENDED)
        assert running.wait("w1", timeout=SOON).result == {"n": 4}
    assert runs == []


def test_warming_up_changes_nothing(written):
    """Making the first use quick may be done at any time, and twice."""
    written.stores.warm_up()
    written.stores.warm_up()
    assert written.stores.artifacts.find("credit/k") == written.published
