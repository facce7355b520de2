"""Listening sockets, which the supervisor binds once and every worker inherits."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from mendel.errors import PortInUse

_log = structlog.get_logger("mendel.sockets")
_BACKLOG: Final = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorSettings:
    """
    The ports of one door (REST, gRPC, ZMQ) of a server.

    Attributes:
        name: The door's name in ``server.json`` and in messages to workers: ``grpc``.
        title: The door's name in messages to users: ``gRPC``.
        setting: The setting for the ports: ``serving.grpc_port``.
        ports: The ports to bind; 0 takes a free port, None turns the door off.
        dispensable: The *ports* that are skipped with a log line if another program uses them.
        has_proxy: Whether a separate proxy process accepts connections for all workers.
        health_path: The path of the health check if the door uses HTTP, else None.
    """

    name: str
    title: str
    setting: str
    ports: tuple[int, ...]
    dispensable: tuple[int, ...] = ()
    has_proxy: bool = False
    health_path: str | None = None


@dataclass(frozen=True, slots=True)
class BoundDoor:
    """A door with its bound sockets, on which the workers or the door's proxy accept connections."""

    settings: DoorSettings
    sockets: tuple[socket.socket, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        return tuple(int(listener.getsockname()[1]) for listener in self.sockets)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(listener.fileno() for listener in self.sockets)


@contextmanager
def bound_doors(host: str, doors: Sequence[DoorSettings]) -> Iterator[tuple[BoundDoor, ...]]:
    """
    Bind and listen on every port, without SO_REUSEPORT, so that a second server on a port is an error.

    Raises:
        PortInUse: Another program uses a port, which the message names; no port stays bound.
    """
    with ExitStack() as held:
        yield tuple(
            BoundDoor(door, tuple(held.enter_context(listener) for listener in _listen_all(host, door)))
            for door in doors
            if door.ports
        )


def _listen_all(host: str, door: DoorSettings) -> Iterator[socket.socket]:
    for port in door.ports:
        try:
            yield _listen(host, port, door)
        except PortInUse:
            if port not in door.dispensable:
                raise
            _log.warning(
                "port_taken",
                port=port,
                remedy=(
                    f"The server starts without this port. Set {door.setting} to this port to make the "
                    "start fail instead."
                ),
            )


def _listen(host: str, port: int, door: DoorSettings) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno not in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
            raise
        flag = "--port" if door.health_path else f"--{door.name}-port"
        off = "" if door.health_path else f", or serve without {door.title}: {flag} off"
        raise PortInUse(
            f"The {door.title} port {port} on {host} cannot be opened: {os.strerror(error.errno)}.",
            remedy=f"Stop the program that uses port {port}, or choose another port with {flag} or "
            f"{door.setting}{off}.",
        ) from error
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener
