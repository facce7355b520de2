"""The kernel: owns the loaded versions and runs the one inference path."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from mendel.durable import Clock
from mendel.projects import Project
from mendel.serving.calls import InferenceAnswer, InferenceCall, KernelStatus, Readiness, ServerIdentity
from mendel.serving.policy import ServingPolicy
from mendel.serving.ports import BreakerView, CounterSlots, PredictionSink, RepositoryControl
from mendel.values import DesiredState, Digest, ModelConvergence, Scope


class Kernel:
    """
    The data plane of one process: resolve, authorize, decode, admit, batch, predict, encode, record, answer.

    One event loop owns it. Several kernels may live in one process.

    Args:
        policy: Widths, bounds and timeouts.
        sink: The prediction log; None logs nothing, and answers say so.
        counters: Where it counts; shared with the server's other processes, or ``LocalCounters()``.
        breakers: Shared likewise, or ``LocalBreakers(...)``.
        clock: The wall clock.
        rng: Chooses routes and makes ids; must not be seeded alike in two processes.
        project: The classifiers whose code this server hosts, for versions of flavour ``mendel``.
        repository: Carries out load and unload calls; None refuses them.
        identity: What this server is, for the metadata of its answers.
    """

    def __init__(
        self,
        policy: ServingPolicy,
        *,
        sink: PredictionSink | None,
        counters: CounterSlots,
        breakers: BreakerView,
        clock: Clock,
        rng: random.Random,
        project: Project | None = None,
        repository: RepositoryControl | None = None,
        identity: ServerIdentity | None = None,
    ) -> None: ...

    async def __aenter__(self) -> Self:
        """Start; nothing is served before the first :meth:`apply`."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain and close."""

    async def apply(self, state: DesiredState, fetch: Callable[[Digest], Path]) -> tuple[ModelConvergence, ...]:
        """
        Converge on *state*: load beside the old, warm up, swap one reference, drain the old.

        Idempotent, serialised, and safe under load. What cannot be loaded leaves the old serving and is reported.

        Args:
            fetch: Gives the directory of the artefact of a digest; called in a thread; may raise any MendelError.
        """

    async def infer(self, call: InferenceCall) -> InferenceAnswer:
        """
        Answer *call*.

        Raises:
            ModelNotFound, VersionNotFound: Nothing of that name or number is served.
            NotReady: It is deployed and not loaded yet, or the kernel drains.
            Unauthenticated, Forbidden: Once a key with the scope ``predict`` exists.
            InvalidRequest, TooLarge: The input does not fit the signature; names the first offending feature.
            Overloaded, BreakerOpen, DeadlineExceeded: Not now.
            Unsupported: Probabilities of a predictor that has none.
            ModelFailed: The model raised, or gave no answer.
        """

    def authorize(self, door: str, credential: str | None, scope: Scope | None) -> None:
        """Let the call through, or raise Unauthenticated or Forbidden; a None scope is open to all."""

    def readiness(self) -> Readiness:
        """Whether requests are welcome, and which check says no."""

    def status(self) -> KernelStatus:
        """What is loaded, queued and running now."""

    async def drain(self) -> None:
        """Take no more requests and wait for those in flight, at most ``policy.drain_timeout``."""
