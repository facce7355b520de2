"""
The supervisor of a server: holds its sockets, keeps its workers, feeds them, and speaks for them to the hub.

It is one event loop in one main thread. All it does is wait, for children, timers and the hub; so nothing needs a lock,
a hanging long poll can be cancelled, and children are started from the thread whose death the kernel tells them of.
Hashing, unpacking and reading of files go to threads.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from mendel.adapters.processes.child_processes import Child, Command
from mendel.adapters.processes.desired_state_feed import Delivery, Feed, StateFiles
from mendel.adapters.processes.hub_client import DesiredSource, Directory, Hub
from mendel.adapters.processes.listening_sockets import Address, Listeners, listeners
from mendel.adapters.processes.segment_upload import Reporting, SegmentUpload
from mendel.adapters.processes.server_directory import hold, run_directory, server_id
from mendel.adapters.processes.server_settings import ServeSettings, share_of, worker_count
from mendel.adapters.processes.server_status import Identity, Standing
from mendel.adapters.processes.shared_breakers import Arbiter, Micros
from mendel.adapters.processes.shared_counters import CounterTotals, bury_gauges
from mendel.adapters.processes.worker_messages import BeginFront, BeginWorker, OpenDoors
from mendel.adapters.processes.worker_pool import WorkerPool
from mendel.durable import Clock, NewId
from mendel.errors import MendelError
from mendel.predictions import seal_orphans, spool_identity

_log = structlog.get_logger("mendel.supervisor")
_LOCK_PATIENCE: Final = timedelta(seconds=5)
_COLD_START: Final = timedelta(seconds=2)
_LOOK_EVERY: Final = timedelta(milliseconds=250)
_LAST_WORDS: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """The children's command lines: of a worker, and of the front that passes ZMQ messages on to the workers."""

    worker: Command
    front: Command


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What ``app`` gives a supervisor: the outside world as arguments. ``cores`` are this machine's."""

    clock: Clock
    micros: Micros
    new_id: NewId
    rng: random.Random
    cores: int


async def supervise(settings: ServeSettings, programs: Programs, given: Given) -> int:
    """
    Run one server until SIGTERM or SIGINT; gives the exit code.

    On the first, workers stop accepting and finish what is in flight, spools are sealed and sent as far as the hub
    answers: 0. On a second, the workers are killed: 1.

    Raises:
        DirectoryInUse: Another server runs on the directory.
        PortInUse: Names the port.
    """
    async with AsyncExitStack() as held:
        lock = await hold(settings.directory, patience=_LOCK_PATIENCE)
        held.callback(os.close, lock)
        sockets = held.enter_context(
            listeners(
                settings.host,
                rest_ports=settings.rest_ports,
                optional_ports=settings.optional_ports,
                grpc_port=settings.grpc_port,
                zmq_port=settings.zmq_port,
            )
        )
        run = held.enter_context(run_directory(settings.directory))
        if settings.logged:
            settings.spools.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(seal_orphans, settings.spools)
        identity = Identity(server=server_id(settings.directory, given.new_id), epoch=given.new_id())
        server = _Server(
            settings,
            given,
            identity,
            Launcher(settings, programs, identity, run=run, sockets=sockets, lock=lock, new_id=given.new_id),
            hub=None if settings.hub is None else await held.enter_async_context(Hub(settings.hub, settings.key)),
            counters=held.enter_context(CounterTotals(run)),
            arbiter=held.enter_context(Arbiter(run, settings.serving.breaker, micros=given.micros)),
        )
        Address(
            server=identity.server,
            epoch=identity.epoch,
            pid=os.getpid(),
            host=settings.host,
            ports=sockets.ports,
            started=given.clock(),
        ).write(settings.directory)
        _log.info("serving", server=identity.server, host=settings.host, **sockets.ports)
        return await server.serve()
    raise AssertionError


class Launcher:
    """Starts children with what they inherit: the sockets, and the lock of the directory."""

    def __init__(
        self,
        settings: ServeSettings,
        programs: Programs,
        identity: Identity,
        *,
        run: Path,
        sockets: Listeners,
        lock: int,
        new_id: NewId,
    ) -> None:
        self.run = run
        self.sockets = sockets
        self._settings = settings
        self._programs = programs
        self._identity = identity
        self._lock = lock
        self._new_id = new_id

    async def worker(self, slot: int, *, workers: int) -> Child:
        """Start a worker on *slot* and tell it what it is."""
        settings, sockets = self._settings, self.sockets
        rest = tuple(listener.fileno() for listener in sockets.rest)
        grpc = None if sockets.grpc is None else sockets.grpc.fileno()
        child = await Child.start(
            self._programs.worker, inherit=(self._lock, *rest, *(() if grpc is None else (grpc,)))
        )
        spool = settings.spools / str(slot) if settings.logged else None
        child.send(
            BeginWorker(
                slot=slot,
                run=str(self.run),
                artifacts=str(settings.trees),
                spool=None if spool is None else str(spool),
                spool_id="" if spool is None else spool_identity(spool, lambda: self._spool_id(slot)),
                rest=rest,
                grpc=grpc,
                zmq=None if sockets.zmq is None else self._backend,
                hub=settings.hub,
                policy=share_of(settings.serving, workers),
                spool_policy=settings.spool,
                project=None if settings.project is None else str(settings.project),
                classifier=settings.classifier,
                identity=settings.identity,
                style=settings.style,
            )
        )
        return child

    async def front(self, listener: socket.socket) -> Child:
        """Start the ZMQ front."""
        child = await Child.start(self._programs.front, inherit=(self._lock, listener.fileno()))
        host, port = listener.getsockname()[:2]
        child.send(
            BeginFront(
                listener=listener.fileno(),
                endpoint=f"tcp://{host}:{port}",
                backend=self._backend,
                max_message_bytes=self._settings.serving.max_body_bytes,
                style=self._settings.style,
            )
        )
        return child

    def _spool_id(self, slot: int) -> str:
        return f"{self._identity.server}.{slot}.{self._new_id()}"

    @property
    def _backend(self) -> str:
        return f"ipc://{self.run / 'zmq'}"


class _Server:
    """The running parts of one server."""

    def __init__(
        self,
        settings: ServeSettings,
        given: Given,
        identity: Identity,
        launcher: Launcher,
        *,
        hub: Hub | None,
        counters: CounterTotals,
        arbiter: Arbiter,
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._arbiter = arbiter
        self._hub = hub
        self._files = StateFiles(settings.directory, local=settings.artifacts)
        self._workers = worker_count(settings.serving, given.cores)
        drain = settings.serving.drain_timeout
        self._crew = WorkerPool(
            "worker",
            self._workers,
            launch=self._launch,
            heard=self._heard,
            lost=self._lost,
            drain_timeout=drain,
            rng=given.rng,
        )
        self._front = WorkerPool(
            "front",
            0 if launcher.sockets.zmq is None else 1,
            launch=self._launch_front,
            heard=lambda: None,
            lost=lambda _: None,
            drain_timeout=drain,
            rng=given.rng,
        )
        self._standing = Standing(
            identity,
            self._files,
            counters,
            statuses=lambda: [worker.status for worker in self._crew.workers],
            spool_notes=self._spool_notes,
            clock=given.clock,
        )
        source: DesiredSource = hub or Directory(settings.desired_file or Path(), settings.trees)
        self._feed = Feed(source, self._files, deliver=self._deliver, rng=given.rng)
        self._upload = (
            None if hub is None else SegmentUpload(hub, settings.spools, rng=given.rng, every=settings.upload_every)
        )
        self._reporting = None if hub is None else Reporting(hub, self._standing.report, every=settings.report_every)
        self._stop = asyncio.Event()
        self._killed = False

    async def serve(self) -> int:
        """Run every part until told to stop, then end them in the order in which they need each other."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told_to_stop)
        async with asyncio.TaskGroup() as tasks:
            feed = tasks.create_task(self._feed.run())  # first, so that workers are born to what the disk remembers
            crews = [tasks.create_task(crew.run()) for crew in (self._crew, self._front)]
            chores = [tasks.create_task(self._fold()), tasks.create_task(self._keep_a_door_open())]
            sending = [tasks.create_task(part.run()) for part in (self._upload, self._reporting) if part is not None]
            await self._stop.wait()
            feed.cancel()
            await self._drain()
            await asyncio.gather(*crews)
            for task in (*chores, *sending):
                task.cancel()
        if self._killed:
            return 1
        await self._say_last_words()
        _log.info("stopped")
        return 0

    async def _drain(self) -> None:
        """The front last: what the workers still answer goes out through it."""
        self._launcher.sockets.close()
        await self._crew.drain()
        await self._front.drain()

    async def _say_last_words(self) -> None:
        with suppress(MendelError, TimeoutError, OSError):
            async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                if self._reporting is not None:
                    await self._reporting.send()
                if self._upload is not None:
                    await self._upload.send_all()
        if self._upload is not None and self._upload.waiting:
            _log.warning("segments_kept", waiting=self._upload.waiting, remedy="They are sent after the next start.")

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._killed = True
            self._crew.kill()
            self._front.kill()
        self._stop.set()

    async def _fold(self) -> None:
        while True:
            self._arbiter.fold()
            await asyncio.sleep(self._settings.fold_every.total_seconds())

    async def _keep_a_door_open(self) -> None:
        """While nobody is ready, one worker answers all the same, so that health can be asked."""
        alone_since: float | None = None
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
            workers = self._crew.workers
            if any(worker.status.accepting for worker in workers):
                alone_since = None
                continue
            alone_since = alone_since or loop.time()
            if workers and loop.time() - alone_since >= _COLD_START.total_seconds():
                workers[0].child.send(OpenDoors())

    async def _launch(self, slot: int) -> Child:
        self._arbiter.welcome(slot)
        child = await self._launcher.worker(slot, workers=self._workers)
        if (desire := self._standing.desire()) is not None:
            child.send(desire)
        return child

    async def _launch_front(self, _: int) -> Child:
        listener = self._launcher.sockets.zmq
        if listener is None:
            raise AssertionError
        return await self._launcher.front(listener)

    def _deliver(self, delivery: Delivery) -> None:
        self._standing.take(delivery)
        if (desire := self._standing.desire()) is not None:
            self._crew.tell(desire)
        self._crew.renew(self._standing.vintage)
        self._heard()

    def _heard(self) -> None:
        self._standing.review()

    def _lost(self, slot: int) -> None:
        bury_gauges(self._launcher.run, slot)
        self._arbiter.bury(slot)

    def _spool_notes(self) -> dict[str, Any]:
        if self._upload is None:
            return {}
        return {"waiting_segments": self._upload.waiting, "refused": self._upload.refused}
