"""Images that run: what is asked of an engine that runs containers, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from mendel.errors import InvalidValue
from mendel.values import Digest

RUN_LABEL = "com.mendel.run"
"""Stands, with the value ``1``, on every container that Mendel started, and on no other."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """
    One container of a classifier's image.

    Attributes:
        image: A reference or an id that the engine knows.
        host_port: Where the answers are asked for on this machine.
        container_port: Where the server in the container listens; None is *host_port*, the only choice that also works
            where the engine gives containers the machine's own network and so cannot map ports.
        address: The address of this machine that *host_port* is opened on; ``0.0.0.0`` lets others in.
        name: The container's; a stopped one of Mendel's that has it makes room.
        environment: Passed through; wins over what :func:`container_environment` sets.
        volumes: ``source:target`` or ``source:target:ro``, as the engine reads them.
        digest, tag: Of the image and its release, told to the server so that its answers can say them; may be empty.
        ready_within: How long it may take to be ready.
    """

    image: str
    host_port: int
    name: str
    container_port: int | None = None
    address: str = "127.0.0.1"
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    digest: Digest | None = None
    tag: str = ""
    ready_within: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        for port in (self.host_port, self.listens_on):
            if not 1 <= port <= _MAX_PORT:
                raise InvalidValue(f"{port} is not a port from 1 to {_MAX_PORT}.")
        if not self.image or self.image.startswith("-"):
            raise InvalidValue(f"{self.image!r} is not the name of an image.")
        if not _NAME.fullmatch(self.name):
            raise InvalidValue(f"{self.name!r} cannot be a container's name.", remedy="Use letters, digits, '-', '_'.")
        for variable in self.environment:
            if not _VARIABLE.fullmatch(variable):
                raise InvalidValue(f"{variable!r} cannot be the name of a variable.", remedy="Write NAME=value.")
        for volume in self.volumes:
            if volume.startswith((":", "-")) or ":/" not in volume:
                raise InvalidValue(
                    f"{volume!r} is not a volume.", remedy="Write /path/here:/path/in/the/container, with :ro if so."
                )

    @property
    def listens_on(self) -> int:
        """The port in the container."""
        return self.container_port or self.host_port

    @property
    def url(self) -> str:
        """Where the container answers, seen from this machine."""
        address = "127.0.0.1" if self.address in {"", "0.0.0.0"} else self.address  # noqa: S104 - compared, not bound
        return f"http://{address}:{self.host_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    A container that Mendel started.

    Attributes:
        url: Where it answers.
        image: As it was asked for.
    """

    id: str
    name: str
    url: str
    image: str


class ContainerRunner(Protocol):
    """
    An engine that runs images.

    Only containers with :data:`RUN_LABEL` are ever listed, stopped or removed.
    """

    name: str

    def load(self, archive: Path) -> None:
        """
        Take in every name of the one image in *archive*, keeping its manifest's digest where the engine can.

        Args:
            archive: A tar that is an OCI layout and docker's archive in one.

        Raises:
            Corrupt: It is not such an archive.
            ProgramFailed: The engine refused it.
        """

    def run(self, request: RunRequest) -> Container:
        """
        Start the container and wait until its server is ready; one that does not get ready, or an interruption,
        leaves no container behind.

        Raises:
            PortInUse: Somebody listens on the port of this machine.
            AlreadyExists: A container of that name runs, or is not Mendel's.
            ImageNotFound: The engine does not have the image; nothing is pulled.
            ProgramFailed: It ended or was not ready in time; carries the end of its log.
        """

    def follow(self, container: str, write: Callable[[str], None]) -> None:
        """Give every line the container prints to *write*, from its first one, until it ends."""

    def logs(self, container: str, *, lines: int = 50) -> str:
        """The end of what it printed; empty for one that is gone."""

    def is_running(self, container: str) -> bool:
        """Whether it runs; one that is gone does not."""

    def stop(self, container: str) -> None:
        """Let it finish what is in flight, end it, remove it; one that is gone is fine."""

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Mendel's containers, running or not, that have all of *labels*; sorted by name."""


def container_environment(request: RunRequest) -> dict[str, str]:
    """
    What the server in the container is told: where to listen, and which image it is.

    The REST port is the only one that is published, so the other doors stay shut.
    """
    told = {
        "MENDEL_SERVING__HOST": "0.0.0.0",  # noqa: S104 - inside the container
        "MENDEL_SERVING__REST_PORTS": str(request.listens_on),
        "MENDEL_SERVING__GRPC_PORT": "off",
        "MENDEL_SERVING__ZMQ_PORT": "off",
    }
    if request.digest is not None:
        told["MENDEL_IMAGE_DIGEST"] = request.digest
    if request.tag:
        told["MENDEL_IMAGE_TAG"] = request.tag
    return told | dict(request.environment)


@contextmanager
def running(runner: ContainerRunner, request: RunRequest) -> Iterator[Container]:
    """A container that is ready, for as long as the block lasts; stopped and removed whatever ends it."""
    container = runner.run(request)
    try:
        yield container
    finally:
        runner.stop(container.id)
