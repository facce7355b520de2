"""Convergence of servers on a deployment, computed from their last reports."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.registry import Availability
from mendel.values import Deployment, ModelConvergence


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConvergence:
    """
    How many of the reporting servers serve one deployment.

    Attributes:
        servers: Number of reporting servers that hold the model.
        serving: Number of them that serve the deployment's generation or a newer one.
        failures: ``server: error`` for each server that could not load the production version.
        not_ready: Servers that answer no requests.
    """

    generation: int
    servers: int
    serving: int
    failures: tuple[str, ...]
    not_ready: tuple[str, ...]

    @property
    def converged(self) -> bool:
        """Whether every reporting server serves the deployment."""
        return self.servers > 0 and self.serving == self.servers

    @property
    def state(self) -> str:
        """``yes``, ``no``, or ``unobserved`` when no server reports."""
        return "unobserved" if not self.servers else "yes" if self.converged else "no"

    def __str__(self) -> str:
        if not self.servers:
            return "no server reports this model"
        text = f"{self.serving} of {self.servers} servers serve generation {self.generation}"
        return f"{text}; {'; '.join(self.failures)}" if self.failures else text


def convergence_of(deployment: Deployment, availability: Availability) -> DeploymentConvergence:
    """
    Count which reporting servers serve *deployment*.

    A server has failed if it reports a failure of the production version in the deployment's generation.
    """
    reporting = availability.reporting
    return DeploymentConvergence(
        generation=deployment.generation,
        servers=len(reporting),
        serving=sum(line.generation_serving >= deployment.generation for _, line in reporting),
        failures=tuple(
            f"{server.name}: {line.error or 'the version could not be loaded'}"
            for server, line in reporting
            if _failed(line, deployment)
        ),
        not_ready=tuple(server.name for server, _ in reporting if not server.report.ready),
    )


def _failed(line: ModelConvergence, deployment: Deployment) -> bool:
    return (
        line.failed_version is not None
        and line.failed_version == deployment.production
        and line.generation_desired >= deployment.generation
        and line.generation_serving < deployment.generation
    )
