"""
A worker process of a server, which answers inference requests on the sockets that the supervisor opened.

The supervisor starts it as ``python -m mendel.app.server.worker --channel FD --parent PID`` and sends settings and the
desired state over the channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import structlog

from mendel.adapters.processes.parent_channel import Channel
from mendel.adapters.processes.process_logs import write_log
from mendel.adapters.processes.repository_control import RepositoryCalls
from mendel.adapters.processes.shared_breakers import SharedBreakers
from mendel.adapters.processes.shared_counters import SharedCounters
from mendel.adapters.processes.worker_messages import (
    BeginWorker,
    Desire,
    Loading,
    OpenDoors,
    RepositoryAction,
    RepositoryCommand,
    RepositoryResult,
    Status,
)
from mendel.app.clock import utc_now
from mendel.app.server.backend_table import BackendContext, backend_of, chosen_loads, server_environments
from mendel.app.server.child_process import collect_rarely, micros, run_child
from mendel.errors import ArtifactNotFound, MendelError, NotReady
from mendel.predictions import Spool
from mendel.projects import Classifier, Project, load_project
from mendel.serving import Kernel
from mendel.transports.door import DoorContext, Statistics, is_fast
from mendel.transports.door_table import door_named
from mendel.values import DesiredState, Digest, ModelName, to_builtins

_log = structlog.get_logger("mendel.worker")
_STATUS_EVERY: Final = 0.1
_HEARTBEAT_TURNS: Final = 10
_TICK_EVERY: Final = 0.5
_TRY_AGAIN_S: Final = (2.0, 5.0, 15.0, 60.0)


class Worker:
    """
    Runs a kernel in a worker process.

    The worker applies the desired states that the supervisor sends, opens REST, gRPC and ZMQ when the kernel is ready,
    reports its status, and on SIGTERM finishes the requests in flight.
    """

    def __init__(
        self,
        channel: Channel,
        begin: BeginWorker,
        kernel: Kernel,
        *,
        repository: RepositoryCalls,
        spool: Spool | None,
        project: Project | None,
    ) -> None:
        self._channel = channel
        self._begin = begin
        self._kernel = kernel
        self._spool = spool
        self._project = project
        self._repository = repository
        self._desire: Desire | None = None
        self._converging: asyncio.Task[None] | None = None
        self._carrying_out: set[asyncio.Task[None]] = set()
        self._applied_base = asyncio.Event()
        self._may_open = asyncio.Event()
        self._stop = asyncio.Event()
        self._accepting = False
        self._trying = False
        self._collects_rarely = False
        self._failures: dict[ModelName, tuple[int, int | None, str | None]] = {}

    async def run(self) -> None:
        """Run until SIGTERM or the end of the supervisor."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end)
        async with asyncio.TaskGroup() as tasks:
            jobs = (self._hear(tasks), self._report_status(), self._tick_spool())
            background = [tasks.create_task(job) for job in jobs]
            await self._may_open.wait()
            if not self._stop.is_set():
                async with AsyncExitStack() as doors:
                    for door in self._doors():
                        await doors.enter_async_context(door)
                    self._accepting = True
                    await self._stop.wait()
                    self._accepting = False
                    self._say_status()
            for task in (*background, *self._carrying_out, self._converging):
                if task is not None:
                    task.cancel()

    def _doors(self) -> Iterator[contextlib.AbstractAsyncContextManager[object]]:
        begin = self._begin
        for door in begin.doors:
            context = DoorContext(
                sockets=tuple(socket.socket(fileno=descriptor) for descriptor in door.listeners),
                proxy_address=door.proxy_address,
                scratch=Path(begin.run),
                classifier=None if self._project is None else server_classifier(self._project, begin.classifier),
                statistics=None if begin.hub is None else _statistics(begin.hub),
                log_requests=begin.style.level == "DEBUG",
                fast=is_fast(begin.policy.doors),
            )
            yield door_named(door.name).open(self._kernel, context)

    async def _hear(self, tasks: asyncio.TaskGroup) -> None:
        while (message := await self._channel.hear()) is not None:
            match message:
                case Desire():
                    self._take(message, tasks)
                case OpenDoors():
                    self._may_open.set()
                case RepositoryCommand():
                    task = tasks.create_task(self._carry_out(message))
                    self._carrying_out.add(task)
                    task.add_done_callback(self._carrying_out.discard)
                case RepositoryResult():
                    self._repository.take(message)
        self._end()

    def _end(self) -> None:
        self._stop.set()
        self._may_open.set()

    def _take(self, desire: Desire, tasks: asyncio.TaskGroup) -> None:
        """Replace the desired state at once by a newer state, even if models of the former state are still loading."""
        self._desire = desire
        self._kernel.expect(desire.deployed, unloaded=desire.unloaded, resumed=desire.resumed)
        self._kernel.restrict_loads(trials=desire.trials, refused=desire.refused)
        self._trying = bool(desire.trials)
        if self._converging is not None:
            self._converging.cancel()
        self._converging = tasks.create_task(self._converge(desire))

    async def _converge(self, desire: Desire) -> None:
        """Apply *desire*; if a version cannot be loaded, try again after a pause that grows with each failure."""
        if desire.trials and not self._applied_base.is_set():
            await self._kernel.try_first(desire.state, self._fetch)
        if (first := self._with_base(desire)) is not None:
            await self._kernel.apply(first, self._fetch)
        self._applied_base.set()
        for attempt in count():
            await self._kernel.apply(desire.state, self._fetch)
            if not self._collects_rarely:
                collect_rarely()
                self._collects_rarely = True
            self._trying = False
            broken = [line for line in self._kernel.convergence if line.error is not None]
            if not broken:
                self._failures = {}
                return
            failures = {line.model: (line.generation_desired, line.failed_version, line.error) for line in broken}
            for model, failure in failures.items():
                if self._failures.get(model) != failure:
                    _log.error("not_converged", slot=self._begin.slot, model=model, error=failure[-1])
            self._failures = failures
            await asyncio.sleep(_TRY_AGAIN_S[min(attempt, len(_TRY_AGAIN_S) - 1)])

    def _with_base(self, desire: Desire) -> DesiredState | None:
        """
        Give the state that is applied before the desired one; None if this worker lacks no model of the base.

        A worker that was slower than the others may serve nothing of a model that the others serve already.
        """
        if desire.base is None or not self._applied_base.is_set():
            return desire.base
        serving = {line.model for line in self._kernel.convergence if line.version_serving is not None}
        base = {one.deployment.model: one for one in desire.base.models if one.deployment.model not in serving}
        models = tuple(base.get(one.deployment.model, one) for one in desire.state.models)
        return None if models == desire.state.models else replace(desire.state, models=models)

    async def _carry_out(self, command: RepositoryCommand) -> None:
        await self._applied_base.wait()
        try:
            if command.action is RepositoryAction.UNLOAD:
                result = RepositoryResult(number=command.number, freed_bytes=await self._kernel.unload(command.model))
            else:
                line = await self._kernel.load(command.model)
                error = None if line.error is None else f"Model {line.model!r} could not be loaded: {line.error}"
                result = RepositoryResult(number=command.number, error=error, kind=NotReady.__name__)
        except MendelError as failed:
            result = RepositoryResult(number=command.number, error=failed.message, kind=type(failed).__name__)
        self._channel.say(result)

    def _fetch(self, digest: Digest) -> Path:
        given = None if self._desire is None else self._desire.directories.get(digest)
        tree = (Path(self._begin.artifacts) / digest.hex).resolve() if given is None else Path(given)
        if not tree.is_dir():
            raise ArtifactNotFound(
                f"The artefact {digest} is not on this server yet.",
                remedy="Wait; the server fetches the artefact and tries again.",
            )
        return tree

    async def _report_status(self) -> None:
        said: Status | None = None
        turn = 0
        while True:
            status = self._status()
            if status != said or turn % _HEARTBEAT_TURNS == 0:
                self._channel.say(status)
                said = status
            turn += 1
            await asyncio.sleep(_STATUS_EVERY)

    def _say_status(self) -> None:
        self._channel.say(self._status())

    def _status(self) -> Status:
        readiness = self._kernel.readiness()
        failing = [f"{check.name}: {check.detail}" for check in readiness.checks if not check.passed]
        return Status(
            accepting=self._accepting,
            ready=readiness.ready and (self._accepting or not self._trying),
            detail="; ".join(failing),
            revision=-1 if self._kernel.revision is None else self._kernel.revision,
            convergence=self._kernel.convergence,
            spool={} if self._spool is None else to_builtins(self._spool.condition),
            stuck=self._kernel.stuck,
            external_api=tuple(replace(server, calls=0) for server in self._kernel.external_api),
        )

    async def _tick_spool(self) -> None:
        while self._spool is not None:
            await asyncio.sleep(_TICK_EVERY)
            self._spool.tick(utc_now())


def hosted_project(directory: str | None, classifier: str | None) -> Project | None:
    """
    Load the project in *directory*; None gives None.

    Args:
        classifier: The only classifier that the result keeps; None keeps all classifiers.

    Raises:
        ProjectNotFound, InvalidProject: The project cannot be read, or has no such classifier.
    """
    if directory is None:
        return None
    project = load_project(Path(directory))
    if classifier is None:
        return project
    chosen = project.classifier(classifier)
    return replace(project, classifiers=(chosen,), default_classifier=chosen.name)


def server_classifier(project: Project, classifier: str | None = None) -> Classifier:
    """
    Give the classifier whose sections ``server`` and ``observability`` configure the whole server.

    That is *classifier* if given, else the default classifier, else the first classifier of the project.
    """
    name = classifier or project.default_classifier
    return project.classifiers[0] if name is None else project.classifier(name)


async def work(channel: Channel) -> None:
    """Run the worker that the supervisor's first message describes."""
    begin = await channel.hear()
    if not isinstance(begin, BeginWorker):
        return
    write_log(begin.style)
    run, project = Path(begin.run), hosted_project(begin.project, begin.classifier)
    backends = BackendContext(run=run, policy=begin.policy, environments=server_environments(begin.policy))
    with (
        SharedCounters(run, begin.slot) as counters,
        SharedBreakers(run, begin.slot, micros=micros) as breakers,
        nullcontext()
        if begin.spool is None
        else Spool(Path(begin.spool), begin.spool_id, policy=begin.spool_policy) as spool,
    ):
        repository = RepositoryCalls(channel)
        kernel = Kernel(
            begin.policy,
            load_backend=chosen_loads(backends),
            sink=spool,
            counters=counters,
            breakers=breakers,
            clock=utc_now,
            rng=random.Random(os.urandom(16)),  # noqa: S311 - routes and ids, no secrets
            project=project,
            repository=repository,
            announce=lambda loads: channel.say(Loading(loads=tuple(loads))),
            is_shared=lambda directory: backend_of(directory, project, backends) == "process",
            identity=begin.identity,
        )
        async with kernel:
            await Worker(channel, begin, kernel, repository=repository, spool=spool, project=project).run()
            stuck = kernel.stuck
    if stuck:
        os._exit(0)  # Python would wait for the thread whose call hangs


def _statistics(hub: str) -> Statistics:
    from mendel.adapters.processes.hub_client import HubStatistics  # noqa: PLC0415 - httpx is not for every worker

    return HubStatistics(hub)


if __name__ == "__main__":
    sys.exit(run_child(work))
