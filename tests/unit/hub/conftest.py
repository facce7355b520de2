"""The control API over memory, called without a socket."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pytest

from mendel.adapters.memory import MemoryUnitOfWork, all_stores
from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.memory.predictions import MemoryInbox, MemoryLake
from mendel.adapters.memory.runner import MemoryRunner
from mendel.app.wiring import ParquetTables
from mendel.client.asgi_transport import InProcessTransport
from mendel.client.client import Client
from mendel.durable import Notary
from mendel.healing import Canaries, Healing, LookResult, load_playbooks
from mendel.operations import HubHealth, HubParts
from mendel.predictions import PredictionLog
from mendel.registry import Registration, Registry
from mendel.retraining import HoldoutGates, ParityChecks
from mendel.transports.hub import create_app


class Taken:
    """Labels that came to the hub."""

    def __init__(self):
        self.labels = []

    def accept_labels(self, labels):
        self.labels.extend(labels)


@pytest.fixture
def parts(tmp_path):
    unit, inbox = MemoryUnitOfWork(all_stores()), MemoryInbox()
    ids = (f"id-{number}" for number in itertools.count(1))
    new_id = lambda: next(ids)  # noqa: E731 - one line says it
    clock = lambda: datetime.now(UTC)  # noqa: E731 - one line says it
    registry = Registry(unit, MemoryArtifacts(tmp_path / "kept"), clock, new_id)
    return HubParts(
        registry=registry,
        parity=ParityChecks(registry, MemoryRunner({})),
        gates=HoldoutGates(registry, MemoryRunner({}), ParquetTables(), clock),
        healing=Healing(unit, registry, playbooks=load_playbooks(), training=None, new_id=new_id),
        canaries=Canaries(unit, registry),
        log=PredictionLog(inbox, MemoryLake(), unit, lambda *_: []),
        inbox=inbox,
        intake=Taken(),
        unit=unit,
        notary=Notary(unit, MemorySigningKeys(), [MemoryAnchors()], new_id),
        clock=clock,
        scratch=tmp_path,
        observe=lambda model: LookResult(model=model, ref=None, at=clock()),
        health=lambda: HubHealth(status="healthy", version="0", services={}, failing_chores={}),
    )


@pytest.fixture
def registered(parts, tmp_path):
    """Registers a version without probe rows, and gives its reference."""

    def register(model, *, by="test", **changes):
        tree = tmp_path / f"tree-{len(list(tmp_path.iterdir()))}"
        tree.mkdir()
        (tree / "MLmodel").write_text("flavors:\n  sklearn: {}\n")
        wish = Registration(model=model, flavor="sklearn", task="classification", **changes)
        return parts.registry.versions.register(wish, tree, by=by).ref

    return register


@pytest.fixture
def hub(parts):
    """The application with a key per scope: ``hub.http(scope)`` is an httpx client, ``hub.client(scope)`` ours."""
    opened = []

    def http(scope="admin", *, parts=parts, **changes):
        headers = (
            {} if scope is None else {"authorization": f"Bearer {parts.registry.keys.add((scope,), scope).secret}"}
        )
        return of(create_app(replace(parts, **changes)), headers)

    def of(app, headers=None):
        opened.append(httpx.Client(transport=InProcessTransport(app), base_url="http://mendel.local", headers=headers))
        return opened[-1]

    yield SimpleNamespace(
        http=http,
        of=of,
        client=lambda scope="admin", **changes: Client(http(scope, **changes)),
        parts=parts,
        principal=lambda label: next(one for one, name in parts.registry.keys.labels().items() if name == label),
    )
    for one in opened:
        one.close()
