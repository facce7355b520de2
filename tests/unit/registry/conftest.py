"""A registry over memory, with a clock that is turned by hand."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import timedelta

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.memory.registry import STORES
from mendel.durable import Ledger, Outbox
from mendel.registry import Registration, Registry
from mendel.values import EPOCH, ColumnSpec, ColumnType, ModelName, Signature, Stage, VersionRef

SIGNATURE = Signature.of_columns(
    (ColumnSpec(name="age", type=ColumnType.DOUBLE), ColumnSpec(name="income", type=ColumnType.DOUBLE)),
    output=ColumnType.LONG,
)


class HandClock:
    """Stands still until it is moved."""

    def __init__(self):
        self.now = EPOCH + timedelta(days=20_000)

    def __call__(self):
        return self.now

    def forward(self, **span):
        self.now += timedelta(**span)
        return self.now


@dataclass
class House:
    """A registry, what it stands on, and short ways to fill it."""

    unit: MemoryUnitOfWork
    artifacts: MemoryArtifacts
    clock: HandClock
    root: object

    def __post_init__(self):
        self.model = ModelName("credit")
        self._trees = itertools.count(1)
        self._ids = itertools.count(1)
        self.registry = self.over()

    def over(self, *, unit=None, artifacts=None, builds=False):
        """A registry like this one, over another unit of work or artefact store, or whose servers make environments."""
        stores = (unit or self.unit, artifacts or self.artifacts)
        return Registry(*stores, self.clock, lambda: f"id-{next(self._ids)}", builds=builds)

    def tree(self, payload=None, *, mlmodel="flavors:\n  sklearn: {}\n  python_function: {}\n"):
        number = next(self._trees)
        directory = self.root / f"tree-{number}"
        directory.mkdir()
        (directory / "MLmodel").write_text(mlmodel)
        (directory / "model.joblib").write_bytes(payload or f"weights {number}".encode())
        return directory

    def request(self, **changes):
        fields = {"model": self.model, "flavor": "sklearn", "task": "binary", "signature": SIGNATURE}
        return Registration(**{**fields, **changes})

    def register(self, *, approved=True, sandbox=True, carries=None, **changes):
        how = {} if carries is None else {"mlmodel": f"flavors:\n  sklearn: {{}}\n  mendel: {carries}\n"}
        record = self.registry.versions.register(self.request(**changes), self.tree(**how))
        if approved:
            record = self.registry.lifecycle.approve(record.ref, policy=True, bias=True, by="ann")
        if sandbox and record.stage == "development":
            record = self.registry.lifecycle.transition(record.ref, Stage.SANDBOX, by="ann", without_parity="no rows")
        return record

    def promoted(self, count=1, **changes):
        records = [self.register(**changes) for _ in range(count)]
        for record in records:
            self.clock.forward(minutes=1)
            self.registry.lifecycle.promote(record.ref, by="ann")
        return [self.registry.versions.get(record.ref) for record in records]

    def ref(self, number):
        return VersionRef(self.model, number)

    def events(self, *types):
        entries = self.unit.read(lambda tx: tx.store(Ledger).entries(types=types))
        return [entry.event for entry in entries]

    def calls(self):
        return self.unit.read(lambda tx: tx.store(Outbox).pending(1000))


@pytest.fixture
def house(tmp_path):
    artifacts = MemoryArtifacts(tmp_path / "kept")
    return House(unit=MemoryUnitOfWork(STORES), artifacts=artifacts, clock=HandClock(), root=tmp_path)


@pytest.fixture
def registry(house):
    return house.registry
