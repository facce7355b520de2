"""The kernel: holds the loaded model versions of one process and answers inference requests."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mendel.durable import Clock
from mendel.errors import (
    BreakerOpen,
    DeadlineExceeded,
    Forbidden,
    ModelError,
    ModelFailed,
    NotReady,
    Overloaded,
    StoreUnavailable,
    Unsupported,
)
from mendel.predictions import LabelRow, id_texts
from mendel.projects import Project
from mendel.resilience import CallRefused
from mendel.serving.authorization import Keys, authorize
from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.correlation import correlation_id
from mendel.serving.entities import (
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
from mendel.serving.metrics import BREAKER_OPEN, MEMORY, REJECTED, TIMEOUT
from mendel.serving.model_lookup import ModelLookup
from mendel.serving.payload_log import log_answered, log_asked
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import BreakerView, CounterSlots, LoadBackend, PredictionSink, RepositoryControl
from mendel.serving.routing import choose_version
from mendel.serving.row_batches import Rows
from mendel.serving.shadow import send_to_shadow
from mendel.serving.status_report import external_servers, metrics_text, readiness_of, status_of
from mendel.serving.unregistered_version import is_registered
from mendel.values import DesiredState, Digest, ExternalServer, ModelConvergence, ModelName, Scope, to_micros

_KEEPS_NO_LOG = "This server keeps no prediction log, because the project that it serves has no registered version."
_SOON = timedelta(seconds=1)
_HOW_TO_LOG = "Register the version, promote it, and serve it with a hub."


class Kernel:
    """
    Answers inference requests in one process: choose a version, check rows, batch, predict, log, answer.

    Call its methods on one event loop only; several kernels may exist in one process. REST, gRPC and ZMQ call
    :meth:`authorize` before they read the body of a request, and then :meth:`infer`.

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
        )
        self._deployments = LoadedDeployments(context)
        default = None if project is None else project.default_classifier
        self._lookup = ModelLookup(self._deployments, default=default, state=lambda: self._state)
        self._doors = DoorMeter(counters)
        self._keys: Keys | None = None
        self._key_expiries: Mapping[str, datetime] = {}
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._state = "created"

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
        began = self.steady()
        if self.policy.log_payloads:
            log_asked(call)
        patience = min(call.timeout or self.policy.request_timeout, self.policy.request_timeout)
        if patience <= timedelta(0):
            raise DeadlineExceeded("The deadline of the request passed before the server received it.")
        hosted, version = self._resolve(call)
        rows = version.artifact.codec.decode(call.input)
        version, epoch, fallback = self._admit(hosted, version)
        if fallback:
            rows = version.artifact.codec.decode(call.input)
        ticket = self._ticket(call, rows, began, began + patience.total_seconds(), epoch)
        self._enter_lane(hosted, version, ticket)
        if hosted.deployment.shadow is not None:
            send_to_shadow(hosted, version, call, ticket, self._loop)
        with self._in_flight(version):
            outcome = await self._outcome(version, ticket)
        answer = self._answer(call, version, outcome, began, fallback=fallback)
        if self.policy.log_payloads:
            log_answered(answer)
        return answer

    def readiness(self) -> Readiness:
        """Give the readiness of this kernel and the result of each check."""
        return readiness_of(self._state, self._deployments, self.sink)

    def status(self) -> KernelStatus:
        """Give the loaded versions with their queued and running requests."""
        return status_of(self.readiness(), self._deployments, self._breakers, self.sink, self._active)

    @property
    def external_api(self) -> tuple[ExternalServer, ...]:
        """The servers of the loaded remote models."""
        return tuple(external_servers(self._deployments))

    def metrics(self) -> str:
        """Render the metrics of all processes of this server in Prometheus' text format."""
        return metrics_text(self.counters, self._deployments, self._breakers, self.sink)

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
            await asyncio.wait_for(self._quiet.wait(), self.policy.drain_timeout.total_seconds())

    def _resolve(self, call: InferenceCall) -> tuple[LoadedDeployment, LoadedVersion]:
        if self._state != "serving":
            raise NotReady(f"The server is {self._state}.", retry_after=_SOON)
        hosted = self._lookup.deployment(call.model)
        if not hosted.versions:
            self._deployments.use(hosted)
        if call.version is None and hosted.deployment.routes:
            chosen = choose_version(hosted.deployment, call.key, self._rng)
            version = self._lookup.version(hosted, hosted.answering(chosen))
        else:
            version = self._lookup.version(hosted, call.version)
        _check_supported(version, call)
        if version.lane.blocked:
            raise NotReady(f"{version.ref}: {version.died}", retry_after=_SOON)
        return hosted, version

    def _admit(self, hosted: LoadedDeployment, version: LoadedVersion) -> tuple[LoadedVersion, int, bool]:
        """
        Give *version* if its circuit breaker admits the call, else the fallback version.

        The other two values are the breaker's epoch, and True when the fallback version was taken.
        """
        admission = self._breakers.admit(version.ref)
        if not isinstance(admission, CallRefused):
            return version, admission.epoch, False
        version.meter.outcome(BREAKER_OPEN)
        fallback = hosted.versions.get(hosted.deployment.fallback or 0)
        if fallback is not None and fallback is not version:
            second = self._breakers.admit(fallback.ref)
            if not isinstance(second, CallRefused):
                return fallback, second.epoch, True
        raise BreakerOpen(
            f"Model version {version.ref} failed too often; its circuit breaker is open.",
            retry_after=admission.retry_after,
            remedy="Try again later, or roll the model back.",
        )

    def _enter_lane(self, hosted: LoadedDeployment, version: LoadedVersion, ticket: PendingRequest[Outcome]) -> None:
        waiting = sum(other.lane.queued for other in hosted.versions.values())
        refusal = self.policy.bulkhead.refusal(
            waiting=waiting,
            expected_wait=version.lane.wait_ahead(),
            remaining_seconds=ticket.deadline - ticket.arrived,
        )
        if refusal is not None:
            self._breakers.record(version.ref, epoch=ticket.epoch, unused=1)
            version.meter.outcome(REJECTED)
            raise Overloaded(
                f"Model {version.ref.model!r} is overloaded: {refusal.reason}.",
                retry_after=max(refusal.retry_after, timedelta(milliseconds=100)),
                remedy="Try again after the time in Retry-After.",
            )
        version.used_at = ticket.arrived
        version.lane.submit(ticket)

    def _ticket(
        self, call: InferenceCall, rows: Rows, began: float, deadline: float, epoch: int
    ) -> PendingRequest[Outcome]:
        return PendingRequest(
            rows=rows,
            door=call.door,
            correlation_id=call.correlation_id,
            event_micros=None if call.event_time is None else to_micros(call.event_time),
            arrived=began,
            deadline=deadline,
            future=self._loop.create_future(),
            epoch=epoch,
        )

    @contextlib.contextmanager
    def _in_flight(self, version: LoadedVersion) -> Iterator[None]:
        self._active += 1
        self._quiet.clear()
        version.meter.entered()
        try:
            yield
        finally:
            version.meter.left()
            self._active -= 1
            if not self._active:
                self._quiet.set()

    async def _outcome(self, version: LoadedVersion, ticket: PendingRequest[Outcome]) -> Outcome:
        try:
            outcome = await ticket.future
        except DeadlineExceeded:
            version.meter.outcome(TIMEOUT)
            raise
        except ModelError as error:
            raise _failure_of(version, error) from error
        if outcome.error is None:
            return outcome
        if isinstance(outcome.error, ModelError):
            raise _failure_of(version, outcome.error) from outcome.error
        raise outcome.error

    def _answer(
        self, call: InferenceCall, version: LoadedVersion, outcome: Outcome, began: float, *, fallback: bool
    ) -> InferenceAnswer:
        return InferenceAnswer(
            metadata=version.metadata,
            predictions=outcome.predictions,
            probabilities=outcome.probabilities,
            prediction_ids=outcome.ids,
            correlation_id=call.correlation_id,
            at=self.clock(),
            took=timedelta(seconds=self.steady() - began),
            fallback=fallback,
            body=outcome.body,
            proba_body=outcome.proba_body,
        )


def _failure_of(version: LoadedVersion, error: ModelError) -> ModelFailed:
    return ModelFailed(f"{version.ref}: {error.message}", remedy=error.remedy)


def _check_supported(version: LoadedVersion, call: InferenceCall) -> None:
    descriptor = version.artifact.descriptor
    wanted = "predict_proba" if call.proba else "predict"
    if wanted not in descriptor.endpoints:
        raise Unsupported(
            f"Model {version.ref.model!r} does not offer {wanted}.",
            remedy=f"Set api.endpoints.{wanted} to true in the mlserver.yaml of its project.",
        )
    if call.proba and not descriptor.proba:
        raise Unsupported(
            f"Model version {version.ref} gives no probabilities: {descriptor.class_name} has no method predict_proba."
        )
