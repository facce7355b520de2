"""Listening sockets: bound once by the supervisor, inherited by every worker."""

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
    Where one door of a server listens.

    Attributes:
        name: In ``server.json`` and in messages to workers: ``grpc``.
        title: In messages to people: ``gRPC``.
        setting: The key that chooses the ports: ``serving.grpc_port``.
        ports: None opens no such door; port 0 takes a free one.
        dispensable: Those of *ports* that are left out, with one line in the log, when another program has them.
        has_proxy: One process of its own accepts for all workers.
        health_path: The path that answers whether the server lives, where the door speaks HTTP.
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
    """A door that is on, and its listening sockets: the workers accept from them, or the door's proxy does."""

    settings: DoorSettings
    sockets: tuple[socket.socket, ...]

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that were bound."""
        return tuple(int(listener.getsockname()[1]) for listener in self.sockets)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The file descriptors of the sockets."""
        return tuple(listener.fileno() for listener in self.sockets)


@contextmanager
def bound_doors(host: str, doors: Sequence[DoorSettings]) -> Iterator[tuple[BoundDoor, ...]]:
    """
    Bind and listen on every port, without SO_REUSEPORT: a second server on a port is an error, not a silent share.

    Raises:
        PortInUse: Names the port; nothing stays bound.
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
            _log.warning("port_taken", port=port, remedy=f"It is left out; name it in {door.setting} to insist.")


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
        variable = f"MENDEL_{door.setting.upper().replace('.', '__')}"
        off = "" if door.health_path else f"; {variable}=off opens no {door.title} door"
        raise PortInUse(
            f"The {door.title} port {port} on {host} cannot be taken: {os.strerror(error.errno)}.",
            remedy=f"Stop what listens on {port}, or choose another port ({door.setting}){off}.",
        ) from error
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener
