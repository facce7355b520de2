"""The kernel: holds the loaded model versions of one process and answers inference requests."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mendel.durable import Clock
from mendel.errors import (
    Forbidden,
    NotReady,
    StoreUnavailable,
    Unsupported,
)
from mendel.predictions import LabelRow, id_texts
from mendel.projects import Project
from mendel.serving.answering import Done, InFlight
from mendel.serving.authorization import Keys, authorize
from mendel.serving.correlation import correlation_id
from mendel.serving.entities import (
    Answered,
    Caller,
    InferenceAnswer,
    InferenceCall,
    KernelStatus,
    LoadKey,
    Readiness,
    RefusedLoad,
    ServerIdentity,
)
from mendel.serving.external_predictions import external_prediction_block
from mendel.serving.loaded_deployments import LoadedDeployment, LoadedDeployments
from mendel.serving.loaded_version import KernelContext, LoadedVersion
from mendel.serving.meters import DoorMeter
from mendel.serving.metrics import MEMORY
from mendel.serving.model_lookup import ModelLookup
from mendel.serving.model_statistics import ModelStatistics, statistics_of
from mendel.serving.payload_log import log_answered, log_asked
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import BreakerView, CounterSlots, LoadBackend, PredictionSink, RepositoryControl
from mendel.serving.request_admission import Admission
from mendel.serving.shadow import send_to_shadow
from mendel.serving.status_report import external_servers, metrics_text, readiness_of, status_of
from mendel.serving.unregistered_version import is_registered
from mendel.values import DesiredState, Digest, ExternalServer, ModelConvergence, ModelName, Scope

_KEEPS_NO_LOG = "This server keeps no prediction log, because the project that it serves has no registered version."
_SOON = timedelta(seconds=1)
_HOW_TO_LOG = "Register the version, promote it, and serve it with a hub."


class Kernel:
    """
    Answers inference requests in one process: choose a version, check rows, batch, predict, log, answer.

    Call its methods on one event loop only; several kernels may exist in one process. REST, gRPC and ZMQ call
    :meth:`authorize` before they read the body of a request, and then :meth:`infer` or :meth:`submit_many`.

    Args:
        policy: Limits and timeouts; limits for the whole server are already divided among its processes.
        load_backend: Loads a model version and gives the backend in which it runs.
        sink: The prediction log; None logs nothing, and answers contain ``logged: false``.
        counters: The metrics, shared by the processes of the server; ``LocalCounters()`` for a single process.
        breakers: The circuit breakers, shared by the processes of the server; ``LocalBreakers(policy.breaker, clock)``
            for a single process.
        clock: The wall clock.
        rng: For the choice of canary versions and for ids; processes must not share a seed.
        project: The project whose code versions of flavour ``mendel`` need; None when no project is hosted.
        repository: Loads and unloads models at a caller's request; None refuses such requests.
        announce: Called with the loads that run, before a load begins and after a load has ended.
        is_shared: Tells for an artefact's directory whether all workers of the server share one process for its model,
            so that each worker counts only its part of the model's size.
        identity: The project, code and image of this server, for the metadata of answers; None when unknown.
        steady: A monotonic clock in seconds, for latencies and deadlines.
    """

    def __init__(
        self,
        policy: ServingPolicy,
        *,
        load_backend: LoadBackend,
        sink: PredictionSink | None,
        counters: CounterSlots,
        breakers: BreakerView,
        clock: Clock,
        rng: random.Random,
        project: Project | None = None,
        repository: RepositoryControl | None = None,
        announce: Callable[[frozenset[LoadKey]], None] = lambda _: None,
        is_shared: Callable[[Path], bool] = lambda _: False,
        identity: ServerIdentity | None = None,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy, self.sink, self.counters, self.clock = policy, sink, counters, clock
        self.steady = steady
        self.repository = repository
        self._breakers, self._rng = breakers, rng
        self.version = (identity.tool_version if identity else None) or "0"
        self._in_flight = InFlight()
        context = KernelContext(
            policy=policy,
            load_backend=load_backend,
            announce=announce,
            is_shared=is_shared,
            sink=sink,
            counters=counters,
            breakers=breakers,
            clock=clock,
            steady=steady,
            rng=rng,
            project=project,
            identity=identity or ServerIdentity(),
            in_flight=self._in_flight,
        )
        self._deployments = LoadedDeployments(context)
        default = None if project is None else project.default_classifier
        self._lookup = ModelLookup(self._deployments, default=default, state=lambda: self._state)
        self._doors = DoorMeter(counters)
        self._keys: Keys | None = None
        self._key_expiries: Mapping[str, datetime] = {}
        self._state = "created"
        self._admission = Admission(
            policy=policy,
            deployments=self._deployments,
            lookup=self._lookup,
            breakers=breakers,
            rng=rng,
            state=lambda: self._state,
            steady=steady,
        )

    async def __aenter__(self) -> Self:
        """Start the kernel; it answers no request before the first :meth:`apply`."""
        self._loop = asyncio.get_running_loop()
        self._state = "serving"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the requests in flight, then unload all versions."""
        await self.drain()
        await self._deployments.close()
        self._state = "stopped"

    async def apply(self, state: DesiredState, fetch: Callable[[Digest], Path]) -> tuple[ModelConvergence, ...]:
        """
        Load the versions that *state* names, route new requests to them, and unload the versions that it omits.

        Requests are answered without interruption meanwhile. A newer state replaces one that is still being applied, at
        once. When a version cannot be loaded, the old versions keep serving and the result reports the error; call
        :meth:`apply` again with the same state to retry.

        Args:
            fetch: Gives the directory of the artefact with a digest; called in a thread; may raise any MendelError.

        Returns:
            The state of each model on this server: versions desired, versions served, and load errors.
        """
        self._keys, self._key_expiries = dict(state.key_hashes), dict(state.key_expiries)
        return await self._deployments.apply(state, fetch)

    def expect(
        self, models: Mapping[ModelName, str | None], *, unloaded: Iterable[ModelName] = (), resumed: bool = False
    ) -> None:
        """
        Declare that *models* are deployed, before :meth:`apply` has loaded them.

        Until they are loaded, requests for *models* fail with NotReady instead of ModelNotFound.

        Args:
            models: Every deployed model, with the error of the last attempt to fetch its artefact, else None.
            unloaded: The models that callers unloaded.
            resumed: Answer for each model as soon as it is loaded, because the server has served before.
        """
        self._deployments.expect(models, unloaded=unloaded, resumed=resumed)

    def restrict_loads(self, *, trials: Collection[LoadKey], refused: Collection[RefusedLoad]) -> None:
        """
        Run *trials* while no other load runs, and fail *refused* loads without trying them.

        Holds for loads that begin after this call; each call replaces the call before.
        """
        self._deployments.restrict_loads(trials=trials, refused=refused)

    async def try_first(self, state: DesiredState, fetch: Callable[[Digest], Path]) -> None:
        """
        Run the trials among the loads of *state*, and wait for each at most 30 s; call it before :meth:`apply`.

        If a trial ends the process, no other load and no request can have done so.
        """
        self._keys, self._key_expiries = dict(state.key_hashes), dict(state.key_expiries)
        await self._deployments.try_first(state, fetch)

    @property
    def convergence(self) -> tuple[ModelConvergence, ...]:
        """Give the current state of each deployed model: versions desired, versions served, and load errors."""
        return tuple(self._deployments.convergence.values())

    @property
    def stuck(self) -> bool:
        """True while a call that was given up still runs in a thread; only the end of the process ends the call."""
        return any(v.lane.stuck for hosted in self._deployments.table.values() for v in hosted.versions.values())

    @property
    def revision(self) -> int | None:
        """The revision of the desired state that was last applied to every model; None before the first."""
        return self._deployments.revision

    async def load(self, model: ModelName) -> ModelConvergence:
        """
        Load the deployed versions of *model* in this process again; the result reports a version that failed.

        Raises:
            ModelNotFound: No such model is deployed.
        """
        return await self._deployments.load(model)

    async def unload(self, model: ModelName) -> int | None:
        """
        Unload *model* in this process when its requests in flight have ended; :meth:`load` loads the model again.

        Returns:
            The decrease of the process's resident memory in bytes; None if the system does not report it.

        Raises:
            ModelNotFound: No such model is deployed.
        """
        return await self._deployments.unload(model)

    def correlation_id(self, request_id: str | None, traceparent: str | None) -> str:
        """Give the correlation id of a request; empty when ``policy.correlation_ids`` is False."""
        if not self.policy.correlation_ids:
            return ""
        return correlation_id(request_id, traceparent, self._rng)

    def answered(self, method: str, endpoint: str, status: str, model: str | None, seconds: float) -> None:
        """Count an answered request in the metrics; the label ``model`` is empty when *model* is not served here."""
        self.answered_many(method, endpoint, status, model, (seconds,))

    def answered_many(
        self, method: str, endpoint: str, status: str, model: str | None, seconds: Sequence[float]
    ) -> None:
        """Count requests of one route that ended with the same status; *seconds* is the time that each took."""
        known = model if model in self._deployments.table else None
        self._doors.answered(method, endpoint, status, known or "", seconds)

    def authorize(self, credential: str | None, scope: Scope | None, *, remedy: str) -> None:
        """
        Raise Unauthenticated or Forbidden unless the API key *credential* may call a route that needs *scope*.

        Args:
            scope: None when the route needs no key.
            remedy: The advice for a caller without a key: how to send a key over this protocol.
        """
        if credential is not None and scope is not None and self._keys is None:
            raise NotReady("The server is starting and does not know the API keys yet.", retry_after=_SOON)
        authorize(self._keys or {}, credential, scope, remedy=remedy, expiries=self._key_expiries, clock=self.clock)

    async def infer(self, call: InferenceCall) -> InferenceAnswer:
        """
        Predict the rows of *call*.

        Raises:
            ModelNotFound, VersionNotFound: The model or the version is not deployed.
            NotReady: The model is not loaded yet, the kernel has no desired state yet, or the kernel is draining.
            InvalidRequest: The rows do not fit the signature; the message names the first invalid feature.
            TooLarge: The request has more than ``policy.max_rows`` rows.
            Overloaded: Too many requests wait for the model.
            BreakerOpen: The circuit breaker of the version is open, and no fallback version answers.
            DeadlineExceeded: The timeout passed before the model answered.
            Unsupported: The request asks for probabilities, which the model does not have.
            ModelFailed: The model raised an exception, or its output is invalid.
            StoreUnavailable: ``policy.logging_required`` is True, and the prediction log accepts no rows.
        """
        if self._state == "created":
            raise NotReady("The server is created.", retry_after=_SOON)
        future: asyncio.Future[InferenceAnswer] = self._loop.create_future()
        waiting = _Waiting(future)
        self._submit((call,), waiting.take, waiting)
        try:
            return await future
        finally:
            waiting.leave()
            del future

    def submit_many(self, calls: Sequence[InferenceCall], done: Done) -> None:
        """
        Predict *calls*, which arrived together.

        Raises nothing and does not block.

        Args:
            done: Called on the event loop after this method has returned: once for the calls that are refused, and once
                per batch with the calls of that batch in their order. Each call is given back exactly once, with its
                answer, or with the error that :meth:`infer` would raise for it.
        """
        self._submit(calls, done, None)

    def _submit(self, calls: Sequence[InferenceCall], done: Done, caller: Caller | None) -> None:
        if self.policy.log_payloads:
            for call in calls:
                log_asked(call)
            done = _logging(done)
        turn = self._admission.turn(done, caller)
        refused: list[Answered] = []
        for call in calls:
            try:
                turn.add(call)
            except Exception as error:  # noqa: BLE001 - the door answers it; a defect fails one request and not the rest
                refused.append((call, error))
        for group in turn.admitted():
            version, tickets = group.version, group.tickets
            version.used_at = tickets[0].arrived
            version.meter.entered(len(tickets))
            self._in_flight.enter(len(tickets))
            if group.hosted.deployment.shadow is not None:
                send_to_shadow(group.hosted, version, tickets, self._loop)
            version.lane.submit(tickets)
        if refused:
            self._loop.call_soon(done, refused)
        del calls, done, turn, refused  # the frames of a refusal refer to this frame, and would keep it in a cycle

    def readiness(self) -> Readiness:
        """Give the readiness of this kernel and the result of each check."""
        return readiness_of(self._state, self._deployments, self.sink)

    def status(self) -> KernelStatus:
        """Give the loaded versions with their queued and running requests."""
        return status_of(self.readiness(), self._deployments, self._breakers, self.sink, self._in_flight.count)

    @property
    def external_api(self) -> tuple[ExternalServer, ...]:
        """The servers of the loaded remote models."""
        return tuple(external_servers(self._deployments))

    def metrics(self) -> str:
        """Render the metrics of all processes of this server in Prometheus' text format."""
        return metrics_text(self.counters, self._deployments, self._breakers, self.sink)

    def statistics(self, model: str | None = None, version: int | None = None) -> tuple[ModelStatistics, ...]:
        """
        Give the statistics of loaded versions since the server started, summed over its processes.

        Args:
            model: The name of a model; None gives all versions of all models.
            version: The number of a version; None gives all versions of *model*.

        Raises:
            ModelNotFound, VersionNotFound: The model or the version is not deployed.
        """
        if model is not None and version is not None:
            loaded = [self.served(model, version)]
        else:
            hosted = self.models() if model is None else (self.deployed(model),)
            loaded = [one for deployment in hosted for _, one in sorted(deployment.versions.items())]
        return statistics_of(self.counters.totals(), [one.ref for one in loaded])

    def log_external_predictions(self, model: str | None, version: int | None, document: Any) -> list[str]:
        """
        Log predictions that a program outside Mendel made, and give their ids.

        Args:
            document: The decoded JSON body of the request; see ``external_prediction_block``.

        Raises:
            StoreUnavailable: The log accepts no rows; no prediction of the request was logged.
            Unsupported: The version is not registered.
        """
        served = self.served(model, version)
        served.used_at = self.steady()
        if not is_registered(served.served):
            raise Unsupported(_KEEPS_NO_LOG, remedy=_HOW_TO_LOG)
        block = external_prediction_block(document, served, now=self.clock(), rng=self._rng)
        if self.sink is None or not self.sink.append(block):
            raise StoreUnavailable("The prediction log accepts no rows.", retry_after=_SOON)
        return id_texts(block.prediction_ids)

    def log_labels(self, labels: tuple[LabelRow, ...]) -> None:
        """
        Write labels (true outcomes of predictions) to the prediction log.

        Raises:
            StoreUnavailable: The log accepts no rows; no label was written.
            Unsupported: This server keeps no prediction log.
        """
        if self.sink is None:
            raise Unsupported(_KEEPS_NO_LOG, remedy=_HOW_TO_LOG)
        if not self.sink.append_labels(labels):
            raise StoreUnavailable("The prediction log accepts no rows.", retry_after=_SOON)

    def models(self) -> tuple[LoadedDeployment, ...]:
        """Give the deployments of this process, sorted by model name."""
        return tuple(hosted for _, hosted in sorted(self._deployments.table.items()))

    def deployed(self, model: str) -> LoadedDeployment:
        """Give the deployment of *model*; raises ModelNotFound or NotReady if *model* is not served."""
        return self._lookup.deployment(model)

    def repository_control(self) -> RepositoryControl:
        """
        Give the object that loads and unloads models at a caller's request.

        Raises:
            Forbidden: ``serving.repository_control`` is ``off``.
            Unsupported: This kernel does not belong to a server, so it cannot load or unload models.
        """
        if self.policy.repository_control == "off":
            raise Forbidden(
                "This server refuses to load or unload models on request: serving.repository_control is 'off'.",
                remedy="Set this key to explicit, or deploy the model with 'mendel promote'.",
            )
        if self.repository is None:
            raise Unsupported("This server cannot load or unload models on request.")
        return self.repository

    def memory_bytes(self, model: str, version: int | None = None) -> int:
        """
        Give the growth of resident memory while the versions of *model*, or only *version*, were loaded.

        The result is the sum over all processes that share the counters; 0 if the system does not report memory.
        """
        wanted = {"model": str(model)} if version is None else {"model": str(model), "version": str(version)}
        totals = self.counters.totals().items()
        return sum(
            sum(cells) for line, cells in totals if line.name == MEMORY.name and wanted.items() <= set(line.labels)
        )

    def served(self, model: str | None, version: int | None = None) -> LoadedVersion:
        """
        Give the loaded version of *model* with the number *version*; None means the production version.

        A model that was unloaded to make room raises NotReady, and its load starts, as with :meth:`infer`.
        """
        hosted = self._lookup.deployment(model)
        if not hosted.versions and self._state == "serving":
            self._deployments.use(hosted)
        return self._lookup.version(hosted, version or hosted.deployment.production)

    async def drain(self) -> None:
        """Refuse new requests and wait for the requests in flight, at most ``policy.drain_timeout``."""
        if self._state == "stopped":
            return
        self._state = "draining"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._in_flight.none(), self.policy.drain_timeout.total_seconds())


class _Waiting:
    """The caller of :meth:`Kernel.infer`, who is gone when the coroutine was cancelled."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[InferenceAnswer]) -> None:
        self._future: asyncio.Future[InferenceAnswer] | None = future

    @property
    def gone(self) -> bool:
        return self._future is None or self._future.done()

    def leave(self) -> None:
        """Wait no longer; the frames of an error refer to this object, and with a future it would be a cycle."""
        self._future = None

    def take(self, answered: Sequence[Answered]) -> None:
        """Pass on the only answer."""
        ((_, result),) = answered
        if self._future is None or self._future.done():
            return
        if isinstance(result, Exception):
            self._future.set_exception(result)
        else:
            self._future.set_result(result)


def _logging(done: Done) -> Done:
    """Give a callback that logs the answers before it passes them to *done*."""

    def logged(answered: Sequence[Answered]) -> None:
        for _, result in answered:
            if isinstance(result, InferenceAnswer):
                log_answered(result)
        done(answered)

    return logged
