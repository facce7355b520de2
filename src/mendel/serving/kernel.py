"""The kernel: owns the loaded versions and runs the one inference path."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
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
from mendel.serving.entities import InferenceAnswer, InferenceCall, KernelStatus, Readiness, ServerIdentity
from mendel.serving.external_predictions import external_prediction_block
from mendel.serving.loaded_deployments import LoadedDeployment, LoadedDeployments
from mendel.serving.loaded_version import KernelContext, LoadedVersion
from mendel.serving.meters import DoorMeter
from mendel.serving.metrics import BREAKER_OPEN, REJECTED, TIMEOUT
from mendel.serving.model_lookup import ModelLookup
from mendel.serving.payload_log import log_answered, log_asked
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import BreakerView, CounterSlots, LoadBackend, PredictionSink, RepositoryControl
from mendel.serving.routing import choose_version
from mendel.serving.row_batches import Rows
from mendel.serving.shadow import send_to_shadow
from mendel.serving.status_report import metrics_text, readiness_of, status_of
from mendel.serving.unregistered_version import is_registered
from mendel.values import DesiredState, Digest, ModelConvergence, ModelName, Scope, to_micros

_KEEPS_NO_LOG = "This server keeps no log: it serves a project of which no version is registered."
_PROMOTE = "Promote, deploy or roll back a version; servers load the versions that are deployed."
_SOON = timedelta(seconds=1)
_HOW_TO_LOG = "Register the version, promote it, and serve it with a hub."


class Kernel:
    """
    The data plane of one process: resolve, authorize, decode, admit, batch, predict, encode, record, answer.

    One event loop owns it. Several kernels may live in one process. Doors authorise with :meth:`authorize` before they
    read a body, then call :meth:`infer`.

    Args:
        policy: Widths, bounds and timeouts, this process's share of them.
        load_backend: Loads each version into the place where it runs.
        sink: The prediction log; None logs nothing, and answers say so.
        counters: Where it counts; shared with the server's other processes, or ``LocalCounters()``.
        breakers: Shared likewise, or ``LocalBreakers(policy.breaker, clock)``.
        clock: The wall clock.
        rng: Chooses routes and makes ids; must not be seeded alike in two processes.
        project: The classifiers whose code this server hosts, for versions of flavour ``mendel``.
        repository: Carries out load and unload calls of doors; None refuses them.
        identity: What this server is, for the metadata of its answers.
        steady: Counts seconds and never goes back, for latencies and deadlines.
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
        self._keys: Keys = {}
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._state = "created"

    async def __aenter__(self) -> Self:
        """Start; nothing is served before the first :meth:`apply`."""
        self._loop = asyncio.get_running_loop()
        self._state = "serving"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and close."""
        await self.drain()
        await self._deployments.close()
        self._state = "stopped"

    async def apply(self, state: DesiredState, fetch: Callable[[Digest], Path]) -> tuple[ModelConvergence, ...]:
        """
        Converge on *state*: load beside the old, warm up, swap one reference, drain the old.

        Idempotent, serialised, and safe under load. What cannot be loaded leaves the old serving and is reported;
        applying the same state again tries it again.

        Args:
            fetch: Gives the directory of the artefact of a digest; called in a thread; may raise any MendelError.
        """
        self._keys = dict(state.key_hashes)
        return await self._deployments.apply(state, fetch)

    def expect(self, models: Iterable[ModelName]) -> None:
        """
        Say which models are deployed, as soon as that is known.

        Until :meth:`apply` has loaded them, calls for them are refused as not ready, and not as unknown.
        """
        self._deployments.expect(models)

    async def load(self, model: ModelName) -> None:
        """Load again, in this process, what is desired of *model*."""
        await self._deployments.load(model)

    async def unload(self, model: ModelName) -> None:
        """Free, in this process, *model*'s memory after what is in flight; what is desired of it stays."""
        await self._deployments.unload(model)

    def correlation_id(self, request_id: str | None, traceparent: str | None) -> str:
        """The caller's id, or a new one; empty where the policy has none."""
        if not self.policy.correlation_ids:
            return ""
        return correlation_id(request_id, traceparent, self._rng)

    def answered(self, method: str, endpoint: str, status: str, model: str | None, seconds: float) -> None:
        """A door answered a request; *model* counts by name only where it is served."""
        known = model if model in self._deployments.table else None
        self._doors.answered(method, endpoint, status, known or "", seconds)

    def authorize(self, credential: str | None, scope: Scope | None, *, remedy: str) -> None:
        """
        Let the call through, or raise Unauthenticated or Forbidden; a None scope is open to all.

        Args:
            remedy: How a caller of this door sends a key.
        """
        authorize(self._keys, credential, scope, remedy=remedy)

    async def infer(self, call: InferenceCall) -> InferenceAnswer:
        """
        Answer *call*.

        Raises:
            ModelNotFound, VersionNotFound: Nothing of that name or number is deployed.
            NotReady: It is deployed and not loaded yet, nobody has said yet what is deployed, or the kernel drains.
            InvalidRequest, TooLarge: The input does not fit the signature; names the first offending feature.
            Overloaded, BreakerOpen, DeadlineExceeded: Not now.
            Unsupported: Probabilities of a predictor that has none.
            ModelFailed: The model raised, or gave no answer.
            StoreUnavailable: Logging is required and the log takes nothing.
        """
        began = self.steady()
        if self.policy.log_payloads:
            log_asked(call)
        patience = min(call.timeout or self.policy.request_timeout, self.policy.request_timeout)
        if patience <= timedelta(0):
            raise DeadlineExceeded("The deadline had passed when the request came.")
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
        """Whether requests are welcome, and which check says no."""
        return readiness_of(self._state, self._deployments, self.sink)

    def status(self) -> KernelStatus:
        """What is loaded, queued and running now."""
        return status_of(self.readiness(), self._deployments, self._breakers, self.sink, self._active)

    def metrics(self) -> str:
        """Prometheus' text format, over all processes that share the counters."""
        return metrics_text(self.counters, self._deployments, self._breakers, self.sink)

    def log_external_predictions(self, model: str | None, version: int | None, document: Any) -> list[str]:
        """
        Log predictions made elsewhere, and give their ids.

        Raises:
            StoreUnavailable: They are not logged.
            Unsupported: They would belong to no registered version.
        """
        served = self.served(model, version)
        if not is_registered(served.served):
            raise Unsupported(_KEEPS_NO_LOG, remedy=_HOW_TO_LOG)
        block = external_prediction_block(document, served, now=self.clock(), rng=self._rng)
        if self.sink is None or not self.sink.append(block):
            raise StoreUnavailable("The prediction log accepts no rows.", retry_after=_SOON)
        return id_texts(block.prediction_ids)

    def log_labels(self, labels: tuple[LabelRow, ...]) -> None:
        """
        Log labels.

        Raises:
            StoreUnavailable: None is logged.
            Unsupported: This server keeps no log.
        """
        if self.sink is None:
            raise Unsupported(_KEEPS_NO_LOG, remedy=_HOW_TO_LOG)
        if not self.sink.append_labels(labels):
            raise StoreUnavailable("The prediction log accepts no rows.", retry_after=_SOON)

    def models(self) -> tuple[LoadedDeployment, ...]:
        """Every deployment as served here, sorted by name."""
        return tuple(hosted for _, hosted in sorted(self._deployments.table.items()))

    def deployed(self, model: str) -> LoadedDeployment:
        """The deployment of *model* as served here."""
        return self._lookup.deployment(model)

    def repository_control(self) -> RepositoryControl:
        """
        What loads and unloads on request.

        Raises:
            Forbidden: ``serving.repository_control`` is ``none``.
            Unsupported: It is ``explicit``, and this server cannot load or unload on request.
        """
        if self.repository is not None:
            return self.repository
        if self.policy.repository_control == "none":
            raise Forbidden(
                "Models are not loaded or unloaded on request: serving.repository_control is none.", remedy=_PROMOTE
            )
        raise Unsupported(
            "This version of Mendel cannot load or unload models on request, although serving.repository_control is "
            "explicit.",
            remedy=_PROMOTE,
        )

    def served(self, model: str | None, version: int | None = None) -> LoadedVersion:
        """The version that answers for *model*: the one of that number, else production."""
        hosted = self._lookup.deployment(model)
        return self._lookup.version(hosted, version or hosted.deployment.production)

    async def drain(self) -> None:
        """Take no more requests and wait for those in flight, at most ``policy.drain_timeout``."""
        if self._state == "stopped":
            return
        self._state = "draining"
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), self.policy.drain_timeout.total_seconds())

    def _resolve(self, call: InferenceCall) -> tuple[LoadedDeployment, LoadedVersion]:
        if self._state != "serving":
            raise NotReady(f"The server is {self._state}.", retry_after=_SOON)
        hosted = self._lookup.deployment(call.model)
        if call.version is None and hosted.deployment.routes:
            version = self._lookup.version(hosted, choose_version(hosted.deployment, call.key, self._rng))
        else:
            version = self._lookup.version(hosted, call.version)
        _check_supported(version, call)
        return hosted, version

    def _admit(self, hosted: LoadedDeployment, version: LoadedVersion) -> tuple[LoadedVersion, int, bool]:
        """The version whose breaker lets the call through: the one chosen, else the fallback."""
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
            f"{version.ref} fails too often; its breaker is open.",
            retry_after=admission.retry_after,
            remedy="Try again later, or roll back.",
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
                f"Model {version.ref.model!r} is busy: {refusal.reason}.",
                retry_after=max(refusal.retry_after, timedelta(milliseconds=100)),
                remedy="Try again after Retry-After.",
            )
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
        if outcome.error is None:
            return outcome
        if isinstance(outcome.error, ModelError):
            raise ModelFailed(f"{version.ref}: {outcome.error.message}", remedy=outcome.error.remedy) from outcome.error
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


def _check_supported(version: LoadedVersion, call: InferenceCall) -> None:
    descriptor = version.artifact.descriptor
    wanted = "predict_proba" if call.proba else "predict"
    if wanted not in descriptor.endpoints:
        raise Unsupported(f"{version.ref.model!r} does not offer {wanted}.", remedy="Its project turned it off.")
    if call.proba and not descriptor.proba:
        raise Unsupported(f"{version.ref} gives no probabilities: {descriptor.class_name} has no predict_proba.")
