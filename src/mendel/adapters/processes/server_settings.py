"""The settings with which a server is started."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from mendel.adapters.processes.listening_sockets import DoorSettings
from mendel.adapters.processes.process_logs import LogStyle
from mendel.errors import InvalidSettings
from mendel.predictions import SpoolPolicy
from mendel.serving import ServerIdentity, ServingPolicy

_LEAST_CONNECTIONS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """
    The settings of one server.

    Attributes:
        directory: The server's directory for states, artefacts, spools and ``server.json``; used by one server at a
            time.
        hub: The hub's URL; None serves the state in ``desired_file``.
        key: The hub's API key with the scopes ``read`` and ``label``.
        doors: The ports of each door; one door answers health checks.
        desired_file: A file with a DesiredState in JSON, for a server without a hub.
        artifacts: For a server without a hub: a directory with one artefact directory (or link) per digest, named by
            the digest's hex.
        project: The working directory of a project whose classifiers this server hosts.
        classifier: Host only this classifier; None hosts all.
        logged: Whether predictions are logged to a spool; without a hub the segments stay there.
        identity: The server's name and version in responses.
        style: The format of the server's log.
        fold_every: How often the circuit breakers evaluate the counts of all workers.
    """

    directory: Path
    doors: tuple[DoorSettings, ...]
    hub: str | None = None
    key: str | None = None
    host: str = "127.0.0.1"
    serving: ServingPolicy = field(default_factory=ServingPolicy)
    spool: SpoolPolicy = field(default_factory=SpoolPolicy)
    spool_directory: Path | None = None
    desired_file: Path | None = None
    artifacts: Path | None = None
    project: Path | None = None
    classifier: str | None = None
    logged: bool = True
    style: LogStyle = field(default_factory=LogStyle)
    identity: ServerIdentity = field(default_factory=ServerIdentity)
    report_every: timedelta = timedelta(seconds=2)
    upload_every: timedelta = timedelta(seconds=1)
    fold_every: timedelta = timedelta(milliseconds=100)

    def __post_init__(self) -> None:
        if (self.hub is None) == (self.desired_file is None) or (self.desired_file is None) != (self.artifacts is None):
            raise InvalidSettings(
                "The settings of a server must give either a hub or a file of the desired state.",
                remedy="Set either hub, or desired_file together with artifacts.",
            )
        if not any(door.ports and door.health_path for door in self.doors):
            raise InvalidSettings(
                "The server has no REST port, so nothing answers health checks.", remedy="Set serving.rest_ports."
            )

    def with_ports(self, door: str, ports: tuple[int, ...], *, dispensable: tuple[int, ...] = ()) -> ServeSettings:
        """Give these settings with other *ports* of the door *door*."""
        doors = tuple(
            replace(one, ports=ports, dispensable=dispensable) if one.name == door else one for one in self.doors
        )
        return replace(self, doors=doors)

    @property
    def trees(self) -> Path:
        """The directory of artefacts, one per digest."""
        return self.artifacts or self.directory / "artifacts"

    @property
    def spools(self) -> Path:
        """The directory of the workers' spools."""
        return self.spool_directory or self.directory / "spool"


def worker_count(policy: ServingPolicy, cores: int) -> int:
    """Give the number of workers: the configured number, or one per core, at most the policy's bound."""
    return max(1, min(policy.workers or cores, policy.max_workers))


def share_of(policy: ServingPolicy, workers: int) -> ServingPolicy:
    """
    Divide the server's limits by the number of workers: widths, queues, connections and memory, rounded up.

    A worker gets at least 1,024 connections, if the server has as many, because the operating system does not spread
    connections evenly.

    ``workers`` of the result is the number of workers that run.

    The circuit breaker's limits are not divided, because one breaker counts all workers.
    """

    def part(whole: int) -> int:
        return -(-whole // workers)

    budget = policy.memory_budget_bytes
    return replace(
        policy,
        workers=workers,
        bulkhead=replace(
            policy.bulkhead,
            max_concurrent=part(policy.bulkhead.max_concurrent),
            max_queue=part(policy.bulkhead.max_queue),
        ),
        max_shadow_queue=part(policy.max_shadow_queue),
        max_connections=min(policy.max_connections, max(part(policy.max_connections), _LEAST_CONNECTIONS)),
        memory_budget_bytes=None if budget is None else budget // workers,
    )
