"""Where adapters meet ports: the rooms of one data directory."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from mendel.adapters.arrow import read_table, write_table
from mendel.adapters.arrow.delta_lake import DeltaLake
from mendel.adapters.dbos import DbosWorkflows
from mendel.adapters.files import FileInbox
from mendel.adapters.git import GitPrograms
from mendel.adapters.mlflow import MlflowArtifacts
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.adapters.sql import SqlUnitOfWork, all_stores, open_engine, prepare_schema, translated
from mendel.app.directory import DataDirectory
from mendel.app.hub.anchors import FileAnchors
from mendel.app.hub.background_jobs import BackgroundJobs
from mendel.app.hub.health import probe
from mendel.app.hub.summaries import Summaries
from mendel.app.settings import Settings
from mendel.drift import MonitoringPolicy
from mendel.durable import Clock, Lease, UnitOfWork, Workflows
from mendel.healing import (
    WORKFLOW,
    Healing,
    Monitor,
    Outlook,
    PlaybookWorkflow,
    load_playbooks,
)
from mendel.operations import HubParts
from mendel.predictions import HubIntake, LabelRow, PredictionLog, Shipper, Spool, SpoolPolicy, spool_identity
from mendel.registry import MIRROR_ALIAS, Registry, mirror_alias
from mendel.retraining import Retraining
from mendel.values import ModelName, Scope, Table, Window, from_mapping
from mendel.values.atomic_files import write_atomically

WORKFLOW_SCHEMA = "1"
"""Raised by hand when the order or the names of a workflow's steps change."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def new_id() -> str:
    """A fresh id."""
    return uuid.uuid4().hex


@dataclass(slots=True, kw_only=True)
class Rooms:
    """The rooms of a directory, without anything that acts by itself."""

    settings: Settings
    data: DataDirectory
    unit: UnitOfWork
    artifacts: MlflowArtifacts
    registry: Registry
    healing: Healing
    monitor: Monitor
    log: PredictionLog
    inbox: FileInbox
    lake: DeltaLake
    summaries: Summaries
    retraining: Retraining
    anchors: FileAnchors
    intake: LazyIntake
    clock: Clock = utc_now
    workflows: Workflows | None = None
    chores: BackgroundJobs | None = None

    def parts(self, *, stopping: Callable[[], bool] = lambda: False) -> HubParts:
        """What the control API stands on; *stopping* ends long polls."""
        scratch = self.data.root / "uploads"
        scratch.mkdir(exist_ok=True)
        return HubParts(
            registry=self.registry,
            healing=self.healing,
            log=self.log,
            inbox=self.inbox,
            intake=self.intake,
            unit=self.unit,
            anchors=self.anchors,
            clock=self.clock,
            scratch=scratch,
            observe=self.observe,
            health=lambda: probe(self),
            workflows=self.workflows,
            stopping=stopping,
        )

    def look(self, model: ModelName) -> Outlook:
        """Look at the counters, and let healing act on what is found."""
        now = self.clock()
        outlook = self.monitor.glance(model, now)
        self.healing.attend(outlook, now)
        return outlook

    def study(self, model: ModelName) -> Outlook:
        """Look at inputs and labels, and let healing act on what is found."""
        now = self.clock()
        outlook = self.monitor.study(model, now)
        self.healing.attend(outlook, now)
        return outlook

    def observe(self, model: ModelName) -> Outlook:
        """Look and study at once."""
        fast, slow = self.look(model), self.study(model)
        return Outlook(
            model=model,
            ref=slow.ref,
            at=slow.at,
            looked=(*fast.looked, *slow.looked),
            signals=(*fast.signals, *slow.signals),
            clear=(*fast.clear, *slow.clear),
        )


@dataclass(slots=True, kw_only=True)
class LiveRooms(Rooms):
    """Rooms that act: workflows run, and every change is fenced by a lease."""

    unfenced: UnitOfWork
    workflows: Workflows
    shipper: Shipper
    studied: dict[ModelName, datetime] = field(default_factory=dict)

    def study_when_due(self, model: ModelName) -> None:
        """Study *model* once per window of its policy."""
        every = monitoring_policy(self.registry, model).every
        due = Window.containing(self.clock(), every).start
        if self.studied.get(model) != due:
            self.studied[model] = due
            self.study(model)

    def watch(self, chores: BackgroundJobs) -> None:
        """Show the state of *chores* in the health of the hub."""
        self.chores = chores


class LazyIntake:
    """Opens the hub's own spool when the first label comes, so that reading commands do not exclude each other."""

    def __init__(self, directory: Path, inbox: FileInbox) -> None:
        self._directory = directory
        self._inbox = inbox
        self._mutex = threading.Lock()
        self._spool: Spool | None = None
        self._intake: HubIntake | None = None

    def accept_labels(self, labels: Sequence[LabelRow]) -> None:
        """Take labels; when it returns they are durably in the inbox."""
        self._open().accept_labels(labels)

    def close(self) -> None:
        """Close the spool, if it was opened."""
        with self._mutex:
            if self._spool is not None:
                self._spool.close()

    def _open(self) -> HubIntake:
        with self._mutex:
            if self._intake is None:
                identity = spool_identity(self._directory, lambda: f"hub-{new_id()}")
                self._spool = Spool(self._directory, identity, policy=SpoolPolicy(fsync="batch"))
                self._intake = HubIntake(self._spool, self._inbox)
            return self._intake


def monitoring_policy(registry: Registry, model: ModelName) -> MonitoringPolicy:
    """The section ``monitoring`` of the model's policy."""
    return from_mapping(MonitoringPolicy, registry.policies.of(model).section("monitoring"), at="monitoring")


@contextmanager
def open_rooms(settings: Settings) -> Iterator[Rooms]:
    """
    Open the directory for one command: what it starts waits in the outbox for the next hub.

    Raises:
        SchemaTooNew: The directory was written by a newer Mendel.
    """
    with _ground(settings) as (data, unit, closing):
        rooms = _rooms(settings, data, unit)
        closing.callback(rooms.intake.close)
        _ensure_key(data, rooms.registry)
        yield rooms


@contextmanager
def open_live_rooms(
    settings: Settings, *, executor: str, acquire: Callable[[UnitOfWork], Lease]
) -> Iterator[LiveRooms]:
    """
    Open the directory as its hub: workflows resume, and every change is fenced by the lease.

    Raises:
        SchemaTooNew: The directory was written by a newer Mendel.
        Fenced: Another hub acts on the same database.
    """
    with _ground(settings) as (data, unfenced, closing):
        rooms = _rooms(settings, data, unfenced.fenced(acquire(unfenced)))
        closing.callback(rooms.intake.close)
        _ensure_key(data, rooms.registry)
        workflows = DbosWorkflows(
            data.workflows,
            executor_id=executor,
            application_version=WORKFLOW_SCHEMA,
            clock=utc_now,
            database_errors=translated,
        )
        workflows.register(MIRROR_ALIAS, mirror_alias(rooms.registry.artifact_mirror))
        workflows.register(
            WORKFLOW,
            PlaybookWorkflow(
                rooms.unit,
                rooms.registry,
                watcher=rooms.monitor,
                retrain=rooms.retraining.run,
                clock=utc_now,
                new_id=new_id,
            ),
        )
        shared = {one.name: getattr(rooms, one.name) for one in fields(Rooms) if one.name != "workflows"}
        yield LiveRooms(
            **shared,
            workflows=closing.enter_context(workflows.open()),
            unfenced=unfenced,
            shipper=Shipper(rooms.inbox, rooms.lake, rooms.unit, rooms.summaries),
        )


@contextmanager
def _ground(settings: Settings) -> Iterator[tuple[DataDirectory, UnitOfWork, ExitStack]]:
    data = DataDirectory(settings.root)
    data.create()
    with ExitStack() as closing:
        engine = open_engine(data.database)
        closing.callback(engine.dispose)
        prepare_schema(engine)
        unit = SqlUnitOfWork(engine, all_stores(), rng=random.Random())  # noqa: S311 - jitter, no secret
        yield data, unit, closing


def _rooms(settings: Settings, data: DataDirectory, unit: UnitOfWork) -> Rooms:
    artifacts = MlflowArtifacts(f"sqlite:///{data.tracking}", data.artifacts)
    registry = Registry(unit, artifacts, utc_now, new_id)
    inbox, lake, summaries = FileInbox(data.segments), DeltaLake(data.lake), Summaries(registry)
    log = PredictionLog(inbox, lake, unit, summaries)
    retraining = Retraining(
        unit=unit,
        registry=registry,
        log=log,
        runner=SubprocessRunner(GitPrograms(), data.root / "releases"),
        tables=ParquetTables(),
        directory=data.root,
        clock=utc_now,
    )
    playbooks = load_playbooks(data.root / "playbooks")
    return Rooms(
        settings=settings,
        data=data,
        unit=unit,
        artifacts=artifacts,
        registry=registry,
        healing=Healing(unit, registry, playbooks=playbooks, training=retraining, new_id=new_id),
        monitor=Monitor(registry, log),
        log=log,
        inbox=inbox,
        lake=lake,
        summaries=summaries,
        retraining=retraining,
        anchors=FileAnchors(data.artifacts / "anchors", data.signing_key),
        intake=LazyIntake(data.root / "intake", inbox),
    )


def _ensure_key(data: DataDirectory, registry: Registry) -> None:
    """Give the installation its own key; a crash in between leaves a key that nobody knows, and makes another."""
    if not data.key.exists():
        write_atomically(data.key, registry.keys.add((Scope.ADMIN,), "this installation").encode(), mode=0o600)


class ParquetTables:
    """Implements :class:`mendel.retraining.Tables`."""

    def read(self, path: Path) -> Table:
        """Every row of the file."""
        return read_table(path)

    def write(self, table: Table, path: Path) -> None:
        """Write the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, path)
