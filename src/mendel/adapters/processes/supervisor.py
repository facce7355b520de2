"""
The supervisor of a server: holds the sockets, runs the workers, feeds them the desired state, and reports to the hub.

The supervisor is one event loop in the main thread, so it needs no locks and can cancel a long poll. Children start
from the main thread, because their parent-death signal is tied to that thread. Hashing, unpacking and reading of files
run in other threads.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from mendel.adapters.processes.child_processes import Child, Command
from mendel.adapters.processes.deadly_calls import DeadlyCalls
from mendel.adapters.processes.deadly_loads import DeadlyLoads
from mendel.adapters.processes.desired_state_feed import Delivery, Feed, StateFiles
from mendel.adapters.processes.hub_client import DesiredSource, Directory, Hub
from mendel.adapters.processes.listening_sockets import BoundDoor, bound_doors
from mendel.adapters.processes.model_processes import ModelProcesses
from mendel.adapters.processes.repository_control import RepositoryRequests
from mendel.adapters.processes.segment_upload import Reporting, SegmentUpload
from mendel.adapters.processes.server_address import ServerAddress, ServingState, health_url
from mendel.adapters.processes.server_directory import lock_directory, run_directory, server_id
from mendel.adapters.processes.server_settings import ServeSettings, share_of, worker_count
from mendel.adapters.processes.server_state import ServerEpoch, ServerState
from mendel.adapters.processes.shared_breakers import Arbiter, Micros
from mendel.adapters.processes.shared_counters import (
    SUPERVISOR_SLOT,
    CounterTotals,
    SharedCounters,
    bury_gauges,
    called_versions,
)
from mendel.adapters.processes.worker_messages import (
    BeginProxy,
    BeginWorker,
    Desire,
    Loading,
    Message,
    OpenDoors,
    RepositoryRequest,
    RepositoryResult,
    WorkerDoor,
)
from mendel.adapters.processes.worker_pool import Worker, WorkerPool, workers_to_open
from mendel.durable import Clock, NewId
from mendel.errors import MendelError
from mendel.predictions import seal_orphans, spool_identity
from mendel.serving import Environments, count_swap

_log = structlog.get_logger("mendel.supervisor")
_LOCK_TIMEOUT: Final = timedelta(seconds=5)
_LOOK_EVERY: Final = timedelta(milliseconds=250)
_LAST_REPORT_TIMEOUT: Final = timedelta(seconds=5)
_STUCK_FOR_S: Final = 5.0
_REPLACE_EVERY_S: Final = 15.0
"""The pause between two replacements of workers with stuck calls: each replacement loads every model again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCommands:
    """The commands that start a worker and a door's proxy, and the environment variables of the processes of models."""

    worker: Command
    proxy: Command
    models: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemContext:
    """The clocks, random numbers, id maker, number of CPU cores and Python environments that a server uses."""

    clock: Clock
    micros: Micros
    new_id: NewId
    rng: random.Random
    cores: int
    environments: Environments


async def supervise(settings: ServeSettings, commands: ChildCommands, system: SystemContext) -> int:
    """
    Run one server until SIGTERM or SIGINT; gives the exit code.

    After the first signal, workers stop accepting and finish their requests, spools are sealed and sent if the hub
    answers, and the code is 0. After a second signal, the workers are killed and the code is 1.

    Raises:
        DirectoryInUse: Another server uses the directory.
        PortInUse: Another program uses a port, which the message names.
    """
    async with AsyncExitStack() as held:
        lock = await lock_directory(settings.directory, within=_LOCK_TIMEOUT)
        held.callback(os.close, lock)
        doors = held.enter_context(bound_doors(settings.host, settings.doors))
        run = held.enter_context(run_directory(settings.directory))
        if settings.logged:
            settings.spools.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(seal_orphans, settings.spools)
        await held.enter_async_context(ModelProcesses(run, environment=commands.models, rng=system.rng))
        epoch = ServerEpoch(server=server_id(settings.directory, system.new_id), epoch=system.new_id())
        server = _Server(
            settings,
            system,
            epoch,
            Launcher(settings, commands, epoch, run=run, doors=doors, lock=lock, new_id=system.new_id),
            hub=None if settings.hub is None else await held.enter_async_context(Hub(settings.hub, settings.key)),
            counters=held.enter_context(CounterTotals(run)),
            own_counters=held.enter_context(SharedCounters(run, SUPERVISOR_SLOT)),
            arbiter=held.enter_context(Arbiter(run, settings.serving.breaker, micros=system.micros)),
        )
        ports = {door.name: () for door in settings.doors} | {door.settings.name: door.ports for door in doors}
        ServerAddress(
            server=epoch.server,
            epoch=epoch.epoch,
            pid=os.getpid(),
            host=settings.host,
            ports=ports,
            health_url=health_url(settings.host, doors),
            started=system.clock(),
        ).write(settings.directory)
        _log.info("serving", server=epoch.server, host=settings.host, **ports)
        return await server.serve()
    raise AssertionError


class Launcher:
    """Starts children, which inherit the listening sockets and the lock of the server's directory."""

    def __init__(
        self,
        settings: ServeSettings,
        commands: ChildCommands,
        epoch: ServerEpoch,
        *,
        run: Path,
        doors: tuple[BoundDoor, ...],
        lock: int,
        new_id: NewId,
    ) -> None:
        self.run = run
        self.doors = doors
        self._settings = settings
        self._commands = commands
        self._epoch = epoch
        self._lock = lock
        self._new_id = new_id

    async def worker(self, slot: int, *, workers: int) -> Child:
        """Start a worker on *slot* and send it its :class:`BeginWorker` message."""
        settings = self._settings
        doors = tuple(self._worker_door(door) for door in self.doors)
        inherited = (descriptor for door in doors for descriptor in door.listeners)
        child = await Child.start(self._commands.worker, inherit=(self._lock, *inherited))
        spool = settings.spools / str(slot) if settings.logged else None
        child.send(
            BeginWorker(
                slot=slot,
                run=str(self.run),
                artifacts=str(settings.trees),
                spool=None if spool is None else str(spool),
                spool_id="" if spool is None else spool_identity(spool, lambda: self._spool_id(slot)),
                doors=doors,
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

    async def proxy(self, door: BoundDoor) -> Child:
        """Start the proxy process of *door*."""
        (listener,) = door.descriptors
        child = await Child.start(self._commands.proxy, inherit=(self._lock, listener))
        child.send(
            BeginProxy(
                door=door.settings.name,
                listener=listener,
                worker_address=self._worker_address(door),
                max_message_bytes=self._settings.serving.max_body_bytes,
                max_connections=self._settings.serving.max_connections,
                key=self._settings.serving.zmq_key,
                clients=self._settings.serving.zmq_clients,
                style=self._settings.style,
            )
        )
        return child

    def _worker_door(self, door: BoundDoor) -> WorkerDoor:
        name = door.settings.name
        if door.settings.has_proxy:
            return WorkerDoor(name=name, proxy_address=self._worker_address(door))
        return WorkerDoor(name=name, listeners=door.descriptors)

    def _worker_address(self, door: BoundDoor) -> str:
        return f"ipc://{self.run / door.settings.name}"

    def _spool_id(self, slot: int) -> str:
        return f"{self._epoch.server}.{slot}.{self._new_id()}"


class _Server:
    def __init__(
        self,
        settings: ServeSettings,
        system: SystemContext,
        epoch: ServerEpoch,
        launcher: Launcher,
        *,
        hub: Hub | None,
        counters: CounterTotals,
        own_counters: SharedCounters,
        arbiter: Arbiter,
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._arbiter = arbiter
        self._hub = hub
        self._files = StateFiles(settings.directory, local=settings.artifacts)
        self._worker_count = worker_count(settings.serving, system.cores)
        drain = settings.serving.drain_timeout
        self._workers = WorkerPool(
            "worker",
            self._worker_count,
            launch=self._launch,
            heard=self._on_status,
            asked=self._on_message,
            lost=self._on_worker_lost,
            drain_timeout=drain,
            rng=system.rng,
        )
        self._proxies = [
            WorkerPool(
                f"{door.settings.name}_proxy",
                1,
                launch=partial(self._launch_proxy, door),
                heard=lambda: None,
                lost=lambda _worker, _code: None,
                drain_timeout=drain,
                rng=system.rng,
            )
            for door in launcher.doors
            if door.settings.has_proxy
        ]
        self._deadly_calls = DeadlyCalls(steady=lambda: system.micros() / 1e6)
        self._state = ServerState(
            epoch,
            self._files,
            counters,
            statuses=lambda: [worker.status for worker in self._workers.workers],
            spool_notes=self._spool_notes,
            swapped=partial(count_swap, own_counters),
            told=self._tell_serving,
            mark=self._deadly_calls.mark,
            clock=system.clock,
        )
        self._repository = RepositoryRequests(
            self._state,
            [Path(root) for root in settings.serving.model_roots],
            workers=lambda: self._workers.workers,
            tell=self._tell_desire,
            clock=system.clock,
        )
        self._deadly_loads = DeadlyLoads(steady=lambda: system.micros() / 1e6)
        self._has_served = False
        self._replaced_at = -_REPLACE_EVERY_S
        self._requests: set[asyncio.Task[None]] = set()
        source: DesiredSource = hub or Directory(settings.desired_file or Path(), settings.trees)
        self._feed = Feed(source, self._files, environments=system.environments, deliver=self._deliver, rng=system.rng)
        self._upload = (
            None if hub is None else SegmentUpload(hub, settings.spools, rng=system.rng, every=settings.upload_every)
        )
        self._reporting = None if hub is None else Reporting(hub, self._state.report, every=settings.report_every)
        self._stop = asyncio.Event()
        self._killed = False

    async def serve(self) -> int:
        """Run every part until a stop signal, then stop the parts in order of dependency."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        async with asyncio.TaskGroup() as tasks:
            feed = tasks.create_task(self._feed.run())  # first, so that workers start with the stored state
            pools = [tasks.create_task(pool.run()) for pool in (self._workers, *self._proxies)]
            periodic = [tasks.create_task(self._fold_breakers()), tasks.create_task(self._keep_a_door_open())]
            sending: list[asyncio.Task[Any]] = [
                tasks.create_task(part.run()) for part in (self._upload, self._reporting) if part is not None
            ]
            await self._stop.wait()
            self._state.stop()
            feed.cancel()
            if self._reporting is not None:
                sending.append(tasks.create_task(self._reporting.send()))
            await self._drain()
            await asyncio.gather(*pools)
            for task in (*periodic, *sending):
                task.cancel()
        if self._killed:
            return 1
        await self._send_last_report()
        _log.info("stopped")
        return 0

    async def _drain(self) -> None:
        """Stop the workers, then the proxies, which must still deliver the workers' responses."""
        for pool in (self._workers, *self._proxies):
            pool.keep_no_longer()  # a signal to the whole process group ends them too
        for door in self._launcher.doors:
            for listener in door.sockets:
                listener.close()
        await self._workers.drain()
        for proxy in self._proxies:
            await proxy.drain()

    async def _send_last_report(self) -> None:
        with suppress(MendelError, TimeoutError, OSError):
            async with asyncio.timeout(_LAST_REPORT_TIMEOUT.total_seconds()):
                if self._reporting is not None:
                    await self._reporting.send()
                if self._upload is not None:
                    await self._upload.send_all()
        if self._upload is not None and self._upload.waiting:
            _log.warning(
                "segments_kept",
                waiting=self._upload.waiting,
                remedy="These segments of the prediction log will be sent after the next start.",
            )

    def _on_stop_signal(self) -> None:
        if self._stop.is_set():
            self._killed = True
            self._workers.kill()
            for proxy in self._proxies:
                proxy.kill()
        self._stop.set()

    async def _fold_breakers(self) -> None:
        while True:
            self._arbiter.fold()
            await asyncio.sleep(self._settings.fold_every.total_seconds())

    async def _keep_a_door_open(self) -> None:
        """Tell ready workers to open their doors; if none is ready, tell one, so that health checks get an answer."""
        loop = asyncio.get_running_loop()
        closed_since = held_since = None
        while True:
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
            statuses, now = [worker.status for worker in self._workers.workers], loop.time()
            closed_since = None if any(status.accepting for status in statuses) else closed_since or now
            waiting = any(status.ready and not status.accepting for status in statuses)
            held_since = (held_since or now) if waiting else None
            closed, held = (timedelta(seconds=now - (since or now)) for since in (closed_since, held_since))
            self._open_doors(closed=closed, held=held)
            if self._deadly_loads.end_pauses():
                self._tell_desire()

    def _open_doors(self, *, closed: timedelta = timedelta(0), held: timedelta = timedelta(0)) -> None:
        for worker in workers_to_open(self._workers.workers, closed=closed, held=held):
            worker.child.send(OpenDoors())

    async def _launch(self, slot: int) -> Child:
        self._arbiter.welcome(slot)
        child = await self._launcher.worker(slot, workers=self._worker_count)
        if (desire := self._desire_of(slot)) is not None:
            child.send(desire)
        return child

    async def _launch_proxy(self, door: BoundDoor, _: int) -> Child:
        return await self._launcher.proxy(door)

    def _deliver(self, delivery: Delivery) -> None:
        self._state.take(delivery)
        self._tell_desire()
        self._workers.renew(self._state.vintage)
        self._on_status()

    def _tell_desire(self) -> None:
        for worker in self._workers.workers:
            if (desire := self._desire_of(worker.slot)) is not None:
                worker.child.send(desire)

    def _desire_of(self, slot: int) -> Desire | None:
        if (desire := self._state.desire()) is None:
            return None
        self._deadly_loads.take(desire.state)
        self._deadly_calls.take(desire.state)
        orders = self._deadly_loads.orders(slot)
        alone = not any(worker.status.accepting for worker in self._workers.workers if worker.slot != slot)
        return replace(
            desire,
            trials=orders.trials,
            refused=(*orders.refused, *self._deadly_calls.refused),
            resumed=self._has_served and alone,
        )

    def _on_message(self, worker: Worker, message: Message) -> None:
        if isinstance(message, RepositoryResult):
            self._repository.take(worker.slot, message)
        elif isinstance(message, Loading):
            if self._deadly_loads.note_loading(worker.slot, frozenset(message.loads)):
                self._tell_desire()
        elif isinstance(message, RepositoryRequest):
            task = asyncio.get_running_loop().create_task(self._carry_out(worker, message))
            self._requests.add(task)
            task.add_done_callback(self._requests.discard)

    async def _carry_out(self, worker: Worker, request: RepositoryRequest) -> None:
        worker.child.send(await self._repository.carry_out(request))

    def _on_status(self) -> None:
        self._has_served = self._has_served or any(
            worker.status.ready and worker.status.accepting for worker in self._workers.workers
        )
        self._replace_stuck(asyncio.get_running_loop().time())
        self._open_doors()
        self._state.review()

    def _replace_stuck(self, now: float) -> None:
        """Replace a worker in which a call has been stuck for 5 s after it was given up; one worker every 15 s."""
        for worker in self._workers.workers:
            if not worker.status.stuck:
                worker.stuck_since = None
                continue
            worker.stuck_since = now if worker.stuck_since is None else worker.stuck_since
            long_enough = now - worker.stuck_since >= _STUCK_FOR_S and now - self._replaced_at >= _REPLACE_EVERY_S
            if long_enough and not worker.outdated:
                _log.error("worker_stuck", slot=worker.slot, pid=worker.child.pid, reason="a call of a model hangs")
                self._workers.replace(worker)
                self._replaced_at = now

    def _tell_serving(self, state: ServingState) -> None:
        """Tell programs on this machine, and the hub, that the server serves other versions than before."""
        state.write(self._settings.directory)
        if self._reporting is not None:
            self._reporting.hasten()

    def _on_worker_lost(self, worker: Worker, exit_code: int | None) -> None:
        self._repository.lose(worker.slot)
        calls = called_versions(self._launcher.run, worker.slot)
        bury_gauges(self._launcher.run, worker.slot)
        self._arbiter.bury(worker.slot)
        if exit_code is not None and calls:
            _log.error("worker_ended_in_calls", slot=worker.slot, versions=sorted(map(str, calls)))
        loading = self._deadly_loads.loading(worker.slot)
        blamed = self._deadly_calls.lose(exit_code, calls, hung=worker.hung, loading=loading)
        served = any(line.version_serving is not None for line in worker.status.convergence)
        unexplained = None if blamed else exit_code  # loads beside a version whose calls end workers are no suspects
        if self._deadly_loads.lose(worker.slot, unexplained, answering=worker.status.accepting and served) or blamed:
            self._tell_desire()

    def _spool_notes(self) -> dict[str, Any]:
        if self._upload is None:
            return {}
        return {"waiting_segments": self._upload.waiting, "refused": self._upload.refused}
