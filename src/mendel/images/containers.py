"""The port to engines that run containers (docker, podman), with its requests and answers."""

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
"""The label, with value ``1``, of every container that Mendel started; no other container has it."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MAX_PORT = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """
    A request to start a container of a classifier's image.

    Attributes:
        image: A reference or an id that the engine knows.
        host_port: The port on this machine that reaches the server in the container.
        container_port: The port that the server in the container listens on; None means *host_port*, which also works
            when the engine gives containers the machine's own network and cannot map ports.
        address: The address of this machine on which *host_port* is opened; ``0.0.0.0`` admits other machines.
        name: The container's name; a stopped container of Mendel with this name is replaced.
        environment: Variables for the container; they override those of :func:`container_environment`.
        volumes: ``source:target`` or ``source:target:ro``, as the engine reads them.
        digest, tag: The image's digest and release tag, which the server reports in its answers; may be empty.
        model: The model that must be ready; empty waits for the server alone.
        ready_within: How long the server may take to become ready.
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
    model: str = ""
    ready_within: timedelta = timedelta(seconds=60)

    def __post_init__(self) -> None:
        for port in (self.host_port, self.listens_on):
            if not 1 <= port <= _MAX_PORT:
                raise InvalidValue(f"{port} is not a port number from 1 to {_MAX_PORT}.")
        if not self.image or self.image.startswith("-"):
            raise InvalidValue(f"{self.image!r} is not a valid image name.")
        if not _NAME.fullmatch(self.name):
            raise InvalidValue(
                f"{self.name!r} is not a valid container name.", remedy="Use letters, digits, '-', '_' and '.'."
            )
        for variable in self.environment:
            if not _VARIABLE.fullmatch(variable):
                raise InvalidValue(
                    f"{variable!r} is not a valid name of an environment variable.", remedy="Write NAME=value."
                )
        for volume in self.volumes:
            if volume.startswith((":", "-")) or ":/" not in volume:
                raise InvalidValue(
                    f"{volume!r} is not a valid volume.",
                    remedy="Write /path/on/this/machine:/path/in/the/container, and append :ro for read-only.",
                )

    @property
    def listens_on(self) -> int:
        """The port that the server in the container listens on."""
        return self.container_port or self.host_port

    @property
    def url(self) -> str:
        """The URL of the container's server for clients on this machine."""
        address = "127.0.0.1" if self.address in {"", "0.0.0.0"} else self.address  # noqa: S104 - compared, not bound
        return f"http://{address}:{self.host_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """
    A container that Mendel started.

    Attributes:
        url: The URL of its server.
        image: The image as the request named it.
    """

    id: str
    name: str
    url: str
    image: str


class ContainerRunner(Protocol):
    """
    An engine that runs containers.

    The runner lists, stops and removes only containers with :data:`RUN_LABEL`.
    """

    name: str

    def load(self, archive: Path) -> None:
        """
        Load the image in *archive*, with all its names, into the engine; the manifest digest is kept if the engine can.

        Args:
            archive: A tar file that is both an OCI layout and a docker archive.

        Raises:
            Corrupt: The file is not such an archive.
            ProgramFailed: The engine refused the archive.
        """

    def run(self, request: RunRequest) -> Container:
        """
        Start a container and wait until its server is ready.

        A container that does not become ready is removed; so is the container when the call is interrupted.

        Raises:
            PortInUse: Another process listens on the port of this machine.
            AlreadyExists: A container of this name is running, or was not created by Mendel.
            ImageNotFound: The engine does not have the image; nothing is pulled.
            ProgramFailed: The container ended or was not ready in time; the error carries the end of its log.
        """

    def follow(self, container: str, write: Callable[[str], None]) -> None:
        """Pass every line of the container's output, from the first, to *write* until the container ends."""

    def logs(self, container: str, *, lines: int = 50) -> str:
        """Give the last *lines* of the container's output; empty when the container does not exist."""

    def is_running(self, container: str) -> bool:
        """Tell whether the container runs; False when it does not exist."""

    def stop(self, container: str) -> None:
        """Let the container finish requests in flight, then end and remove it; no error when it does not exist."""

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """List Mendel's containers, running or not, that have all of *labels*, sorted by name."""


def container_environment(request: RunRequest) -> dict[str, str]:
    """
    Give the environment of the server in the container: its address and port, and the image's digest and tag.

    Only the REST port is published, so the gRPC and ZMQ doors are off.
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
def running_container(runner: ContainerRunner, request: RunRequest) -> Iterator[Container]:
    """Start a container that is ready inside the ``with`` block; it is stopped and removed when the block ends."""
    container = runner.run(request)
    try:
        yield container
    finally:
        runner.stop(container.id)
