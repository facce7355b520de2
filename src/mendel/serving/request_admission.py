"""Admit or refuse inference requests that arrived together: find the version, decode the rows, check for room."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from mendel.errors import BreakerOpen, DeadlineExceeded, MendelError, NotReady, Overloaded, Unsupported
from mendel.resilience import Admitted, CallRefused
from mendel.serving.answering import Done
from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.entities import Caller, InferenceCall
from mendel.serving.loaded_deployments import LoadedDeployment, LoadedDeployments
from mendel.serving.loaded_version import LoadedVersion
from mendel.serving.metrics import BREAKER_OPEN, REJECTED
from mendel.serving.model_lookup import ModelLookup
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import BreakerView
from mendel.serving.routing import choose_version
from mendel.values import ModelName

_SOON: Final = timedelta(seconds=1)
_LEAST_WAIT: Final = timedelta(milliseconds=100)
_MARGIN: Final = 1.25
"""Batches under load take longer than the mean of past ones: a request that just fits would miss its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """
    Decides which requests of a kernel are predicted, and by which version.

    Attributes:
        state: Gives the state of the kernel: ``created``, ``serving``, ``draining`` or ``stopped``.
        steady: A monotonic clock in seconds.
    """

    policy: ServingPolicy
    deployments: LoadedDeployments
    lookup: ModelLookup
    breakers: BreakerView
    rng: random.Random
    state: Callable[[], str]
    steady: Callable[[], float]

    def turn(self, done: Done, caller: Caller | None = None) -> Turn:
        """Begin to admit requests that arrived together; *done* receives their answers."""
        return Turn(self, done=done, caller=caller)


@dataclass(slots=True, kw_only=True)
class _VersionGroup:
    """The requests of one turn that one version answers."""

    hosted: LoadedDeployment
    version: LoadedVersion
    rows: int = 0
    tickets: list[PendingRequest[Outcome]] = field(default_factory=list)
    admission: Admitted | None = None


class Turn:
    """
    The requests of one submission, each admitted or refused on its own.

    What is equal for all requests of one model and version is looked up once.
    """

    def __init__(self, admission: Admission, *, done: Done, caller: Caller | None) -> None:
        self._admission, self._done, self._caller = admission, done, caller
        self._began = admission.steady()
        self._patience = admission.policy.request_timeout.total_seconds()
        self._resolved: dict[tuple[str | None, int | None, bool], tuple[LoadedDeployment, LoadedVersion | None]] = {}
        self._by_version: dict[LoadedVersion, _VersionGroup] = {}
        self._waiting: dict[ModelName, int] = {}

    def add(self, call: InferenceCall) -> None:
        """
        Admit *call*.

        Raises:
            MendelError: The call is refused, for the reasons that :meth:`mendel.serving.Kernel.infer` lists.
        """
        patience = self._patience
        if call.timeout is not None and (timeout := call.timeout.total_seconds()) < patience:
            patience = timeout
            if patience <= 0:
                raise DeadlineExceeded("The deadline of the request passed before the server received it.")
        hosted, version = self._resolve(call)
        rows = version.artifact.codec.decode(call.input)
        group, admission, fallback = self._admit(hosted, version)
        try:
            if fallback:
                rows = group.version.artifact.codec.decode(call.input)
            self._require_room(group, patience)
        except MendelError:
            self._admission.breakers.record(group.version.ref, epoch=admission.epoch, unused=1)
            raise
        ticket: PendingRequest[Outcome] = PendingRequest(
            rows=rows,
            call=call,
            arrived=self._began,
            deadline=self._began + patience,
            caller=self._caller or call.caller,
            done=self._done,
            epoch=admission.epoch,
            fallback=fallback,
        )
        group.tickets.append(ticket)
        group.rows += rows.count

    def admitted(self) -> list[_VersionGroup]:
        """Give the admitted requests of each version."""
        return [group for group in self._by_version.values() if group.tickets]

    def _resolve(self, call: InferenceCall) -> tuple[LoadedDeployment, LoadedVersion]:
        key = (call.model, call.version, call.proba)
        found = self._resolved.get(key)
        if found is None:
            found = self._resolved[key] = self._look_up(call)
        hosted, version = found
        if version is None:  # the versions of a canary: each request has its own
            chosen = choose_version(hosted.deployment, call.key, self._admission.rng)
            version = self._usable(self._admission.lookup.version(hosted, hosted.answering(chosen)), call)
        return hosted, version

    def _look_up(self, call: InferenceCall) -> tuple[LoadedDeployment, LoadedVersion | None]:
        source = self._admission
        if (state := source.state()) != "serving":
            raise NotReady(f"The server is {state}.", retry_after=_SOON)
        hosted = source.lookup.deployment(call.model)
        if not hosted.versions:
            source.deployments.use(hosted)
        routes = hosted.deployment.routes
        if call.version is None and len(routes) > 1:
            return hosted, None
        number = hosted.answering(routes[0].version) if call.version is None and routes else call.version
        return hosted, self._usable(source.lookup.version(hosted, number), call)

    @staticmethod
    def _usable(version: LoadedVersion, call: InferenceCall) -> LoadedVersion:
        _check_supported(version, call)
        if version.lane.blocked:
            raise NotReady(f"{version.ref}: {version.died}", retry_after=_SOON)
        return version

    def _admit(self, hosted: LoadedDeployment, version: LoadedVersion) -> tuple[_VersionGroup, Admitted, bool]:
        """
        Give *version* if its circuit breaker admits the call, else the fallback version.

        The other two values are the breaker's admission, and True when the fallback version was taken.
        """
        group = self._group(hosted, version)
        admission = self._ask_breaker(group)
        if not isinstance(admission, CallRefused):
            return group, admission, False
        version.meter.outcome(BREAKER_OPEN)
        fallback = hosted.versions.get(hosted.deployment.fallback or 0)
        if fallback is not None and fallback is not version and not fallback.lane.blocked:
            second = self._group(hosted, fallback)
            other = self._ask_breaker(second)
            if not isinstance(other, CallRefused):
                return second, other, True
        raise BreakerOpen(
            f"Model version {version.ref} failed too often; its circuit breaker is open.",
            retry_after=admission.retry_after,
            remedy="Try again later, or roll the model back.",
        )

    def _ask_breaker(self, group: _VersionGroup) -> Admitted | CallRefused:
        """Ask the breaker for one call; a closed breaker admits all calls of the turn alike."""
        if group.admission is not None:
            return group.admission
        admission = self._admission.breakers.admit(group.version.ref)
        if isinstance(admission, Admitted) and not admission.probe:
            group.admission = admission
        return admission

    def _group(self, hosted: LoadedDeployment, version: LoadedVersion) -> _VersionGroup:
        group = self._by_version.get(version)
        if group is None:
            group = self._by_version[version] = _VersionGroup(hosted=hosted, version=version)
        return group

    def _require_room(self, group: _VersionGroup, patience: float) -> None:
        hosted, version = group.hosted, group.version
        model = hosted.deployment.model
        waiting = self._waiting.get(model)
        if waiting is None:
            waiting = sum(other.lane.queued for other in hosted.versions.values())
        ahead = version.lane.wait_ahead(len(group.tickets), group.rows)
        refusal = self._admission.policy.bulkhead.refusal(
            waiting=waiting,
            wait_seconds=ahead and _MARGIN * ahead + version.lane.batch_seconds,
            remaining_seconds=patience,
        )
        if refusal is None:
            self._waiting[model] = waiting + 1
            return
        version.meter.outcome(REJECTED)
        raise Overloaded(
            f"Model {model!r} is overloaded: {refusal.reason}.",
            retry_after=max(refusal.retry_after, _LEAST_WAIT),
            remedy="Try again after the time in Retry-After.",
        )


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
