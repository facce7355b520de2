"""Convergence of servers on a deployment, computed from their last reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mendel.registry import Availability, Held
from mendel.values import Deployment, ModelConvergence


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentConvergence:
    """
    How many of the reporting servers serve one deployment.

    Attributes:
        servers: The number of reporting servers that have the model.
        serving: The number of reporting servers that serve the deployment's generation or a newer one.
        failures: ``server: error`` for each server that could not load the production version.
        version_failed: Whether the production version itself failed on a server, no server serves it, and no server is
            loading it.
        elsewhere: ``server: presence`` for each server that has the model but does not report.
    """

    generation: int
    servers: int
    serving: int
    failures: tuple[str, ...] = ()
    version_failed: bool = False
    elsewhere: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether every reporting server serves the deployment."""
        return self.servers > 0 and self.serving == self.servers

    @property
    def state(self) -> str:
        """``yes``, ``no``, ``failed`` if the version itself failed, or ``unobserved`` when no server reports."""
        if not self.servers:
            return "unobserved"
        return "yes" if self.converged else "failed" if self.version_failed else "no"

    def __str__(self) -> str:
        if not self.servers:
            return "; ".join(("no server reports this model", *self.elsewhere))
        return "; ".join(
            (f"{self.serving} of {self.servers} servers serve generation {self.generation}", *self.failures)
        )


def convergence_of(deployment: Deployment, availability: Availability) -> DeploymentConvergence:
    """
    Count which reporting servers serve *deployment*.

    A server has failed if it reports a failure of the production version in the deployment's generation.
    """
    reporting = availability.reporting
    failed = [line for _, line in reporting if has_failed(line, deployment)]
    undecided = [line for _, line in reporting if not _has_received(line, deployment) or _is_loading(line, deployment)]
    serving = sum(line.generation_serving >= deployment.generation for _, line in reporting)
    return DeploymentConvergence(
        generation=deployment.generation,
        servers=len(reporting),
        serving=serving,
        failures=tuple(
            f"{server.name}: {load_error(line)}" for server, line in reporting if has_failed(line, deployment)
        ),
        version_failed=any(line.version_at_fault for line in failed) and not serving and not undecided,
        elsewhere=tuple(
            f"{server.name}: {word}"
            for word, held in (
                ("stopped", availability.stopped),
                ("silent", availability.silent),
                ("not heard of yet", availability.unknown),
            )
            for server, _ in _newest(held)
        ),
    )


def has_failed(line: ModelConvergence, deployment: Deployment) -> bool:
    """Whether the server of *line* tried the production version of *deployment* and could not load it."""
    return (
        line.failed_version is not None
        and line.failed_version == deployment.production
        and line.generation_desired >= deployment.generation
        and line.generation_serving < deployment.generation
    )


def load_error(line: ModelConvergence) -> str:
    """Give the load error in *line*, or a substitute if the server reported none."""
    return line.error or "the version could not be loaded"


def _has_received(line: ModelConvergence, deployment: Deployment) -> bool:
    return line.generation_desired >= deployment.generation


def _is_loading(line: ModelConvergence, deployment: Deployment) -> bool:
    return _has_received(line, deployment) and line.generation_serving < deployment.generation and line.error is None


_SHOWN = 3


def _newest(held: Sequence[Held]) -> Sequence[Held]:
    """Select the servers that reported most recently, because many older servers may have had the model."""
    return sorted(held, key=lambda one: one[0].received_at, reverse=True)[:_SHOWN]
