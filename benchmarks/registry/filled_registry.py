"""A registry on SQLite with many models, versions and production periods."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.sql import SqlUnitOfWork, all_stores, open_engine, prepare_schema
from mendel.registry import (
    Approval,
    Governance,
    ProductionPeriod,
    Registry,
    RegistryStore,
    VersionRecord,
)
from mendel.values import (
    ColumnSpec,
    ColumnType,
    Deployment,
    Digest,
    ModelName,
    Route,
    Signature,
    Stage,
    VersionRef,
    VersionUuid,
)

PER_MODEL, PERIODS = 100, 20
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
SIGNATURE = Signature.of_columns(
    tuple(ColumnSpec(name=f"f{place}", type=ColumnType.DOUBLE) for place in range(20)), output=ColumnType.LONG
)
APPROVAL = Approval(by="local:0", at=BEGAN)


class FilledRegistry:
    """
    A registry of *versions* versions, 100 for each model; the last 20 of each model were in production in turn.

    The rows are written without artefacts and without events; what is measured writes its events.
    """

    def __init__(self, directory: Path, *, versions: int) -> None:
        directory.mkdir()
        self._path = directory / "mendel.db"
        self._engine = open_engine(self._path)
        prepare_schema(self._engine)
        self._unit = SqlUnitOfWork(self._engine, all_stores(), rng=random.Random(0))
        self._rng = random.Random(0)
        self.registry = Registry(
            self._unit, MemoryArtifacts(directory / "files"), lambda: datetime.now(UTC), lambda: uuid4().hex
        )
        self.models = [ModelName(f"model-{number}") for number in range(versions // PER_MODEL)]
        self.versions = len(self.models) * PER_MODEL
        for model in self.models:
            self._fill(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._engine.dispose()

    @property
    def bytes(self) -> int:
        """The size of the database with its write-ahead log."""
        return sum(path.stat().st_size for path in self._path.parent.glob("mendel.db*"))

    def timed(self, call: Callable[[ModelName], object], count: int) -> list[float]:
        """Milliseconds of each of *count* calls on random models."""
        times = []
        for model in self._rng.choices(self.models, k=count):
            began = time.perf_counter()
            call(model)
            times.append((time.perf_counter() - began) * 1e3)
        return times

    def by_uuid(self, model: ModelName) -> object:
        """Look a version up by its uuid."""
        return self.registry.versions.by_uuid(_uuid(model, self._rng.randint(1, PER_MODEL)))

    def production(self, model: ModelName) -> object:
        """Find the production version of a model."""
        number = self.registry.lifecycle.deployment(model).production or 0
        return self.registry.versions.get(VersionRef(model, number))

    def history(self, model: ModelName) -> object:
        """List the production periods of a model."""
        return self.registry.lifecycle.history(model)

    def versions_of(self, model: ModelName) -> object:
        """List the versions of a model."""
        return self.registry.versions.of(model)

    def promote(self, model: ModelName) -> object:
        """Promote a version that is ready."""
        return self.registry.lifecycle.promote(self._ready(model), by="local:0")

    def roll_back(self, model: ModelName) -> object:
        """Roll a model back, after the promotion of another version if nothing is left to return to."""
        return self.registry.lifecycle.roll_back(model, by="local:0", reason="measured")

    def _ready(self, model: ModelName) -> VersionRef:
        serving = self.registry.lifecycle.deployment(model).production
        number = self._rng.choice([n for n in range(1, PER_MODEL - PERIODS) if n != serving])
        return VersionRef(model, number)

    def _fill(self, model: ModelName) -> None:
        def work(tx: object) -> None:
            store = tx.store(RegistryStore)  # type: ignore[attr-defined]
            for number in range(1, PER_MODEL + 1):
                stage = Stage.PRODUCTION if number == PER_MODEL else Stage.SANDBOX
                store.add_version(_version(model, number, stage))
            for number in range(PER_MODEL - PERIODS + 1, PER_MODEL + 1):
                start = BEGAN + timedelta(hours=number)
                store.close_tenure(model, end=start, event=f"{model}-{number}")
                store.open_tenure(
                    ProductionPeriod(
                        model=model,
                        version=number,
                        start=start,
                        actor="local:0",
                        reason="promoted",
                        start_event=f"{model}-{number}",
                    )
                )
            store.put_deployment(Deployment(model=model, generation=1, routes=(Route(version=PER_MODEL, share=1.0),)))

        self._unit.write(work)


def _version(model: ModelName, number: int, stage: Stage) -> VersionRecord:
    return VersionRecord(
        ref=VersionRef(model, number),
        uuid=_uuid(model, number),
        run_id=uuid4().hex,
        stage=stage,
        flavor="sklearn",
        flavors=("python_function", "sklearn"),
        task="classification",
        signature=SIGNATURE,
        artifact_digest=Digest(f"sha256:{uuid4().hex * 2}"),
        registered_at=BEGAN + timedelta(hours=number),
        idempotency_key=uuid4().hex,
        libraries={"python": "3.11.7", "scikit-learn": "1.7.2", "cloudpickle": "3.1.1"},
        metrics={"f1": 0.9, "accuracy": 0.91},
        metadata={"model_type": "classification", "is_baseline": True, "dataset_size": 1000},
        governance=Governance(policy_compliant=APPROVAL, bias_check_passed=APPROVAL),
    )


def _uuid(model: ModelName, number: int) -> VersionUuid:
    return VersionUuid(f"m-{int(model.rpartition('-')[2]):016x}{number:016x}")
