"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

from mendel.adapters.processes.listening_sockets import DoorSettings
from mendel.adapters.processes.process_logs import LogStyle
from mendel.errors import InvalidSettings
from mendel.predictions import SpoolPolicy
from mendel.serving import ServerIdentity, ServingPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """
    One server.

    Attributes:
        directory: Its own place on disk: states, artefacts, spools, ``server.json``; one server at a time.
        hub: The hub's address; None serves what ``desired_file`` says.
        key: Of the hub, with the scopes ``read`` and ``label``.
        doors: Where each door listens; one of them answers health checks.
        desired_file: A DesiredState in JSON, in place of a hub.
        artifacts: One tree (or link to one) per digest, named by its hex, in place of a hub; served where they lie.
        project: The working directory of a project whose classifiers this server hosts.
        classifier: Only this one of them.
        logged: Whether predictions go to a spool; without a hub they wait there for one.
        identity: What answers say of this server.
        style: How it writes its own log.
        fold_every: How often breakers look at what all workers counted.
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
                "A server serves what one hub, or one file, desires.",
                remedy="Give either hub, or desired_file and artifacts.",
            )
        if not any(door.ports and door.health_path for door in self.doors):
            raise InvalidSettings("A server needs a port that answers health checks.")

    def with_ports(self, door: str, ports: tuple[int, ...], *, dispensable: tuple[int, ...] = ()) -> ServeSettings:
        """The same with other *ports* of *door*."""
        doors = tuple(
            replace(one, ports=ports, dispensable=dispensable) if one.name == door else one for one in self.doors
        )
        return replace(self, doors=doors)

    @property
    def trees(self) -> Path:
        """Where the artefacts are, one directory per digest."""
        return self.artifacts or self.directory / "artifacts"

    @property
    def spools(self) -> Path:
        """Where the workers' spools are."""
        return self.spool_directory or self.directory / "spool"


def worker_count(policy: ServingPolicy, cores: int) -> int:
    """How many workers: as many as asked for, or one per core; never above the bound."""
    return max(1, min(policy.workers or cores, policy.max_workers))


def share_of(policy: ServingPolicy, workers: int) -> ServingPolicy:
    """
    One worker's part of what the server may do in all: widths, queues and memory are divided, rounded up.

    The breaker is not: it counts all workers together.
    """

    def part(whole: int) -> int:
        return -(-whole // workers)

    budget = policy.memory_budget_bytes
    return replace(
        policy,
        bulkhead=replace(
            policy.bulkhead,
            max_concurrent=part(policy.bulkhead.max_concurrent),
            max_queue=part(policy.bulkhead.max_queue),
        ),
        max_shadow_queue=part(policy.max_shadow_queue),
        memory_budget_bytes=None if budget is None else budget // workers,
    )
