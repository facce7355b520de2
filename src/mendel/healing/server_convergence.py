"""Whether servers follow a deployment: pure, over what they last reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.registry import ServerState
from mendel.values import Deployment, ModelConvergence

FRESH = timedelta(seconds=10)
"""A server that has not reported for so long (reports come every 2 s) is not counted: it may be gone for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """
    How far the servers that report are with one deployment.

    Attributes:
        servers: How many hold the model and have reported lately.
        following: How many of them serve the deployment's generation.
        failures: ``server: error`` of those that could not load the production version.
        not_ready: Servers that answer nothing at all.
    """

    generation: int
    servers: int
    following: int
    failures: tuple[str, ...]
    not_ready: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether every server follows."""
        return self.servers > 0 and self.following == self.servers

    @property
    def state(self) -> str:
        """``yes``, ``no``, or ``unobserved`` when no server reports."""
        return "unobserved" if not self.servers else "yes" if self.converged else "no"

    def __str__(self) -> str:
        if not self.servers:
            return "no server reports this model"
        told = f"{self.following} of {self.servers} servers serve generation {self.generation}"
        return f"{told}; {'; '.join(self.failures)}" if self.failures else told


def following(deployment: Deployment, servers: Sequence[ServerState], now: datetime) -> Following:
    """
    Count who follows *deployment*.

    A server follows once it serves this generation or a newer one. It has failed when it says so of the production
    version of the generation it shall serve.
    """
    fresh = [server.report for server in servers if server.received_at > now - FRESH]
    about = [(report, one) for report in fresh for one in report.convergence if one.model == deployment.model]
    return Following(
        generation=deployment.generation,
        servers=len(about),
        following=sum(one.generation_serving >= deployment.generation for _, one in about),
        failures=tuple(
            f"{report.server}: {one.error or 'the version could not be loaded'}"
            for report, one in about
            if _failed(one, deployment)
        ),
        not_ready=tuple(report.server for report, _ in about if not report.ready),
    )


def _failed(one: ModelConvergence, deployment: Deployment) -> bool:
    return (
        one.failed_version is not None
        and one.failed_version == deployment.production
        and one.generation_desired >= deployment.generation
        and one.generation_serving < deployment.generation
    )
