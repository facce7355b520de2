"""
The sets of stores that an installation can use: state, workflows, artefacts, segments, lake and anchors.

To add a set, write a function that opens the set, and add the function to :data:`STORE_SETS`; the set must pass
``tests/contracts/test_stores.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from mendel.adapters.arrow.delta_lake import DeltaLake
from mendel.adapters.files import FileAnchors, FileInbox, FileSigningKeys
from mendel.adapters.mlflow import MlflowArtifacts
from mendel.adapters.sql import SqlUnitOfWork, all_stores, open_engine, prepare_schema, translated
from mendel.app.clock import utc_now
from mendel.app.directory import DataDirectory
from mendel.app.environment import cache_directory, system_environment
from mendel.durable import Anchors, SigningKeys, UnitOfWork, Workflows
from mendel.predictions import Lake, SegmentInbox
from mendel.registry import ArtifactStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """
    An open set of stores; if the set is opened again with the same directory, it contains the same data.

    Attributes:
        state: The database of registry, deployments, incidents, ledger, outbox and keys, which change in one
            transaction.
        artifacts: The artefacts of versions.
        segments: The received segments of the prediction log that are not in the lake yet.
        lake: The tables of predictions and labels.
        anchors: The signed anchors of the ledger.
        signing_keys: The private keys that sign the anchors.
        workflows: Makes the durable workflows, not yet open, from an executor id and a version of the workflows' code.
        warm_up: Initialises slow stores now, so that their first use is fast; cheap when they are initialised.
    """

    state: UnitOfWork
    artifacts: ArtifactStore
    segments: SegmentInbox
    lake: Lake
    anchors: Anchors
    signing_keys: SigningKeys
    workflows: Callable[[str, str], Workflows]
    warm_up: Callable[[], None]


OpenStores = Callable[[DataDirectory], AbstractContextManager[Stores]]


@contextmanager
def open_embedded(data: DataDirectory) -> Iterator[Stores]:
    """
    Open the stores of a single machine: SQLite, MLflow on SQLite, Delta tables and files in the data directory.

    Raises:
        SchemaTooNew: The directory was written by a newer Mendel.
    """
    engine = open_engine(data.database)
    try:
        prepare_schema(engine)
        artifacts = MlflowArtifacts(f"sqlite:///{data.tracking}", data.artifacts, cache_directory(system_environment()))
        yield Stores(
            state=SqlUnitOfWork(engine, all_stores(), rng=random.Random()),  # noqa: S311 - jitter, no secret
            artifacts=artifacts,
            segments=FileInbox(data.segments),
            lake=DeltaLake(data.lake),
            anchors=FileAnchors(data.artifacts / "anchors"),
            signing_keys=FileSigningKeys(data.signing_key),
            workflows=partial(_dbos_workflows, data),
            warm_up=artifacts.open,
        )
    finally:
        engine.dispose()


def _dbos_workflows(data: DataDirectory, executor: str, version: str) -> Workflows:
    from mendel.adapters.dbos import DbosWorkflows  # noqa: PLC0415 - a third of a command's start; only hubs need it

    return DbosWorkflows(
        data.workflows,
        executor_id=executor,
        application_version=version,
        clock=utc_now,
        database_errors=translated,
    )


STORE_SETS: Mapping[str, OpenStores] = {"embedded": open_embedded}
