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
        servers: The number of reporting servers that have the model and did not unload it.
        serving: The number of these servers that serve the deployment's generation or a newer one.
        failures: ``server: error`` for each server that could not load the production version or the canary.
        version_failed: Whether servers proved that the production version cannot be loaded: it failed in two loads of
            one server or on two servers, no server serves the deployment, and no server is loading it.
        canary_failed: Whether servers proved in the same way that the canary cannot be loaded.
        elsewhere: ``server: presence`` for each server that has the model but does not report.
        unloaded: The reporting servers on which a caller unloaded the model.
    """

    generation: int
    servers: int
    serving: int
    failures: tuple[str, ...] = ()
    version_failed: bool = False
    canary_failed: bool = False
    elsewhere: tuple[str, ...] = ()
    unloaded: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether every reporting server serves the deployment."""
        return self.servers > 0 and self.serving == self.servers

    @property
    def state(self) -> str:
        """
        ``yes``, ``no``, ``failed`` if the production version itself failed, ``unloaded`` if callers unloaded the model
        on every reporting server, or ``unobserved`` when no server reports.
        """
        if not self.servers:
            return "unloaded" if self.unloaded else "unobserved"
        return "yes" if self.converged else "failed" if self.version_failed else "no"

    def __str__(self) -> str:
        unloaded = tuple(f"{server}: unloaded by request" for server in self.unloaded)
        if not self.servers:
            return "; ".join(unloaded or ("no server reports this model", *self.elsewhere))
        serving = f"{self.serving} of {self.servers} servers serve generation {self.generation}"
        return "; ".join((serving, *self.failures, *unloaded))


def convergence_of(deployment: Deployment, availability: Availability) -> DeploymentConvergence:
    """
    Count which reporting servers serve *deployment*.

    A server has failed if it reports a failure of the production version or the canary in the deployment's generation.
    """
    asked = [(server, line) for server, line in availability.reporting if not line.unloaded]
    lines = [line for _, line in asked]
    canary = canary_of(deployment)
    return DeploymentConvergence(
        generation=deployment.generation,
        servers=len(asked),
        serving=sum(line.generation_serving >= deployment.generation for line in lines),
        failures=tuple(
            f"{server.name}: {load_error(line, deployment)}"
            for server, line in asked
            if has_failed(line, deployment, deployment.production) or has_failed(line, deployment, canary)
        ),
        version_failed=_is_proven(lines, deployment, deployment.production),
        canary_failed=_is_proven(lines, deployment, canary),
        elsewhere=tuple(
            f"{server.name}: {word}"
            for word, held in (
                ("stopped", availability.stopped),
                ("silent", availability.silent),
                ("not heard of yet", availability.unknown),
            )
            for server, _ in _newest(held)
        ),
        unloaded=tuple(server.name for server, line in availability.reporting if line.unloaded),
    )


def canary_of(deployment: Deployment) -> int | None:
    """Give the version on the second route; None without a canary."""
    return deployment.routes[1].version if len(deployment.routes) > 1 else None


def has_failed(line: ModelConvergence, deployment: Deployment, version: int | None) -> bool:
    """Whether the server of *line* tried *version* of *deployment* and could not load it."""
    return (
        line.failed_version is not None
        and line.failed_version == version
        and line.generation_desired >= deployment.generation
        and line.generation_serving < deployment.generation
    )


def load_error(line: ModelConvergence, deployment: Deployment) -> str:
    """Give the load error in *line*, or a substitute if the server reported none."""
    error = line.error or "the version could not be loaded"
    return error if line.failed_version == deployment.production else f"the canary {line.failed_version}: {error}"


def _is_proven(lines: Sequence[ModelConvergence], deployment: Deployment, version: int | None) -> bool:
    decided = all(_has_received(line, deployment) and not _is_loading(line, deployment) for line in lines)
    serving = any(line.generation_serving >= deployment.generation for line in lines)
    blaming = [line for line in lines if has_failed(line, deployment, version) and line.version_at_fault]
    repeated = len(blaming) > 1 or any(line.failed_loads > 1 for line in blaming)
    return decided and not serving and repeated


def _has_received(line: ModelConvergence, deployment: Deployment) -> bool:
    return line.generation_desired >= deployment.generation


def _is_loading(line: ModelConvergence, deployment: Deployment) -> bool:
    return _has_received(line, deployment) and line.generation_serving < deployment.generation and line.error is None


_SHOWN = 3


def _newest(held: Sequence[Held]) -> Sequence[Held]:
    """Select the servers that reported most recently, because many older servers may have had the model."""
    return sorted(held, key=lambda one: one[0].received_at, reverse=True)[:_SHOWN]
