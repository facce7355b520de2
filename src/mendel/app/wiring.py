"""Build the objects of a hub or a command, such as registry, healing and prediction log, over one set of stores."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mendel.adapters.arrow import read_table, write_table
from mendel.app.anchor_copies import anchor_store
from mendel.app.clock import steady_time, utc_now
from mendel.app.directory import DataDirectory
from mendel.app.hub.background_jobs import BackgroundJobs
from mendel.app.hub.health import probe
from mendel.app.hub.model_checks import ModelChecks
from mendel.app.hub.summaries import Summaries
from mendel.app.project.job_runner import subprocess_runner
from mendel.app.settings import Settings
from mendel.app.stores import STORE_SETS, Stores
from mendel.durable import Anchors, Lease, Notary, UnitOfWork, Workflows
from mendel.healing import (
    WORKFLOW,
    Canaries,
    FormerReplay,
    Healing,
    Monitor,
    PlaybookWorkflow,
    ServerWatch,
    load_playbooks,
)
from mendel.operations import HubParts
from mendel.predictions import (
    HubIntake,
    LabelRow,
    PredictionLog,
    SegmentInbox,
    Shipper,
    Spool,
    SpoolPolicy,
    spool_identity,
)
from mendel.registry import MIRROR_ALIAS, Registry, mirror_alias
from mendel.retraining import HoldoutGates, ParityChecks, Retraining
from mendel.values import Table
from mendel.values.atomic_files import write_atomically

WORKFLOW_SCHEMA = "1"
"""The version of the workflows; increase it when the order or the names of a workflow's steps change."""
_STORES = "embedded"
_LONGEST_GAP = timedelta(seconds=5)


def new_id() -> str:
    """Give a new random id of 32 hex digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """
    The objects that work on the data of one data directory, without background jobs and workflows.

    Attributes:
        unit: The state database; in a hub, writes fail with Fenced after another hub took the lease. ``stores.state``
            has no such check.
    """

    data: DataDirectory
    stores: Stores
    unit: UnitOfWork
    notary: Notary
    registry: Registry
    parity: ParityChecks
    gates: HoldoutGates
    healing: Healing
    canaries: Canaries
    watch: ServerWatch
    monitor: Monitor
    former: FormerReplay
    checks: ModelChecks
    log: PredictionLog
    summaries: Summaries
    retraining: Retraining
    intake: LazyIntake
    project_roots: tuple[str, ...]

    def parts(
        self,
        *,
        workflows: Workflows | None = None,
        jobs: BackgroundJobs | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> HubParts:
        """
        Collect the objects that the operations of the control API use.

        Args:
            workflows: The running workflows; None in a command without a hub.
            jobs: The background jobs whose failures ``GET /health`` shows; None without background jobs.
            stopping: Gives True when the hub is stopping, which ends long polls.
        """
        scratch = self.data.root / "uploads"
        scratch.mkdir(exist_ok=True)
        return HubParts(
            registry=self.registry,
            parity=self.parity,
            gates=self.gates,
            healing=self.healing,
            canaries=self.canaries,
            log=self.log,
            inbox=self.stores.segments,
            intake=self.intake,
            unit=self.unit,
            notary=self.notary,
            clock=utc_now,
            scratch=scratch,
            observe=self.checks.check_all,
            health=lambda: probe(
                self.stores,
                workflows=workflows,
                jobs=jobs.states if jobs else {},
                now=utc_now(),
                mirror=self.registry.mirror_repair.reading,
            ),
            project_roots=self.project_roots,
            workflows=workflows,
            stopping=stopping,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRooms:
    """The objects of a running hub, with its workflows and the shipper that writes segments to the lake."""

    rooms: Rooms
    workflows: Workflows
    shipper: Shipper


class LazyIntake:
    """
    Stores labels that are posted to the hub.

    The spool, which only one process can open, is opened at the first label, so that reading commands can run at once.
    """

    def __init__(self, directory: Path, inbox: SegmentInbox) -> None:
        self._directory = directory
        self._inbox = inbox
        self._mutex = threading.Lock()
        self._spool: Spool | None = None
        self._intake: HubIntake | None = None

    def accept_labels(self, labels: Sequence[LabelRow]) -> None:
        """Store *labels* durably in the inbox for segments."""
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


@contextmanager
def open_rooms(settings: Settings) -> Iterator[Rooms]:
    """
    Open the data directory for one command without a hub; workflows that the command starts wait for the next hub.

    Raises:
        SchemaTooNew: The directory was written by a newer Mendel.
    """
    with _opened(settings) as (data, stores, closing):
        yield _rooms(data, stores, stores.state, settings, closing)


@contextmanager
def open_live_rooms(
    settings: Settings, *, executor: str, acquire: Callable[[UnitOfWork], Lease]
) -> Iterator[LiveRooms]:
    """
    Open the data directory as a hub: interrupted workflows resume, and writes fail after another hub took the lease.

    Args:
        executor: The id under which interrupted workflows are resumed.
        acquire: Takes the lease of the database.

    Raises:
        SchemaTooNew: The directory was written by a newer Mendel.
        Fenced: Another hub uses the same database.
    """
    with _opened(settings) as (data, stores, closing):
        rooms = _rooms(data, stores, stores.state.fenced(acquire(stores.state)), settings, closing)
        workflows = stores.workflows(executor, WORKFLOW_SCHEMA)
        workflows.register(MIRROR_ALIAS, mirror_alias(rooms.registry.artifact_mirror))
        workflows.register(
            WORKFLOW,
            PlaybookWorkflow(
                rooms.unit,
                rooms.registry,
                watcher=rooms.monitor,
                former=rooms.former,
                retrain=rooms.retraining.run,
                clock=utc_now,
                new_id=new_id,
            ),
        )
        yield LiveRooms(
            rooms=rooms,
            workflows=closing.enter_context(workflows.open()),
            shipper=Shipper(stores.segments, stores.lake, rooms.unit, rooms.summaries),
        )


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[DataDirectory, Stores, ExitStack]]:
    data = DataDirectory(settings.root)
    data.create()
    with STORE_SETS[_STORES](data) as stores, ExitStack() as closing:
        yield data, stores, closing


def _rooms(data: DataDirectory, stores: Stores, unit: UnitOfWork, settings: Settings, closing: ExitStack) -> Rooms:
    watch = ServerWatch(steady_time, longest_gap=max(_LONGEST_GAP, 3 * settings.hub.look_every))
    builds = settings.serving_policy().makes_environments
    registry = Registry(unit, stores.artifacts, utc_now, new_id, watch.presence, builds=builds)
    summaries = Summaries(registry)
    runner = subprocess_runner(settings)
    log = PredictionLog(stores.segments, stores.lake, unit, summaries)
    retraining = Retraining(
        unit=unit,
        registry=registry,
        log=log,
        runner=runner,
        tables=ParquetTables(),
        directory=data.root,
        clock=utc_now,
    )
    playbooks = load_playbooks(data.root / "playbooks")
    healing = Healing(unit, registry, playbooks=playbooks, training=retraining, new_id=new_id)
    monitor = Monitor(registry, log, watch)
    intake = LazyIntake(data.root / "intake", stores.segments)
    closing.callback(intake.close)
    _ensure_key(data, registry)
    registry.timeline.record_whole_state()
    return Rooms(
        data=data,
        stores=stores,
        unit=unit,
        notary=Notary(unit, stores.signing_keys, _anchor_stores(stores, settings), new_id),
        registry=registry,
        parity=ParityChecks(registry, runner),
        gates=HoldoutGates(registry, runner, ParquetTables(), utc_now),
        healing=healing,
        canaries=Canaries(unit, registry),
        watch=watch,
        monitor=monitor,
        former=FormerReplay(registry, log, runner=runner, tables=ParquetTables()),
        checks=ModelChecks(registry, monitor, healing, utc_now),
        log=log,
        summaries=summaries,
        retraining=retraining,
        intake=intake,
        project_roots=settings.hub.project_roots,
    )


def _anchor_stores(stores: Stores, settings: Settings) -> tuple[Anchors, ...]:
    """Give the installation's own store of anchors, and the places elsewhere that get copies."""
    return (stores.anchors, *map(anchor_store, settings.hub.anchor_copies))


def _ensure_key(data: DataDirectory, registry: Registry) -> None:
    """
    Create the installation's API key if its file holds no valid one; a former key of the installation is then revoked.

    One process at a time: else the file of one could hold the key that another revoked. After a crash between
    registering the key and writing the file, the next call registers another key.
    """
    with data.key_lock():
        secret = data.secret()
        if secret is None or not registry.keys.accepts(secret):
            write_atomically(data.key, registry.keys.add_local(os.getuid()).secret.encode(), mode=0o600)
        else:
            registry.keys.mark_local(secret, data.key.stat().st_uid)


class ParquetTables:
    """Reads and writes tables as Parquet files, for retraining."""

    def read(self, path: Path) -> Table:
        """Read all rows of the file *path*."""
        return read_table(path)

    def write(self, table: Table, path: Path) -> None:
        """Write *table* to the file *path*; create its directory if absent."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, path)
