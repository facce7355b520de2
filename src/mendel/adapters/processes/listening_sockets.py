"""Listening sockets: bound once by the supervisor, inherited by every worker."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from mendel.errors import PortInUse
from mendel.values import from_json, to_json
from mendel.values.atomic_files import write_atomically

_log = structlog.get_logger("mendel.sockets")
_BACKLOG: Final = 2048
_SETTINGS: Final = {"REST": "serving.rest_ports", "gRPC": "serving.grpc_port", "ZMQ": "serving.zmq_port"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """What the server listens on: one socket per port. All workers accept from the same ones; ZMQ's is its front's."""

    rest: tuple[socket.socket, ...]
    grpc: socket.socket | None
    zmq: socket.socket | None

    @property
    def all(self) -> tuple[socket.socket, ...]:
        """Every socket."""
        return (*self.rest, *(listener for listener in (self.grpc, self.zmq) if listener is not None))

    @property
    def ports(self) -> dict[str, tuple[int, ...]]:
        """The ports that were bound, by door."""
        doors = {"rest": self.rest, "grpc": (self.grpc,), "zmq": (self.zmq,)}
        return {
            door: tuple(port_of(listener) for listener in bound if listener is not None)
            for door, bound in doors.items()
        }

    def close(self) -> None:
        """Close this process's copies; workers keep theirs."""
        for listener in self.all:
            listener.close()


@contextmanager
def listeners(
    host: str, *, rest_ports: Sequence[int], optional_ports: Sequence[int], grpc_port: int | None, zmq_port: int | None
) -> Iterator[Listeners]:
    """
    Bind and listen on every port, without SO_REUSEPORT: a second server on a port is an error, not a silent share.

    Args:
        rest_ports: Port 0 takes a free one.
        optional_ports: Those of *rest_ports* that are left out, with one line in the log, when they are taken.
        grpc_port: None opens no such door; so does *zmq_port*.

    Raises:
        PortInUse: Names the port; nothing stays bound.
    """
    with ExitStack() as bound:
        rest = []
        for port in rest_ports:
            try:
                rest.append(bound.enter_context(_listen(host, port, "REST")))
            except PortInUse:
                if port not in optional_ports:
                    raise
                _log.warning("port_taken", port=port, remedy="It is left out; name it in serving.rest_ports to insist.")
        grpc = None if grpc_port is None else bound.enter_context(_listen(host, grpc_port, "gRPC"))
        zmq = None if zmq_port is None else bound.enter_context(_listen(host, zmq_port, "ZMQ"))
        yield Listeners(rest=tuple(rest), grpc=grpc, zmq=zmq)


def _listen(host: str, port: int, door: str) -> socket.socket:
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
        setting = _SETTINGS[door]
        off = "" if door == "REST" else f"; MENDEL_{setting.upper().replace('.', '__')}=off opens no {door} door"
        raise PortInUse(
            f"The {door} port {port} on {host} cannot be taken: {os.strerror(error.errno)}.",
            remedy=f"Stop what listens on {port}, or choose another port ({setting}){off}.",
        ) from error
    listener.setblocking(False)
    listener.set_inheritable(True)
    return listener


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """
    Where a running server is found: ``server.json`` in its directory.

    ``ports`` are those that were bound, by door (``rest``, ``grpc``, ``zmq``); ``epoch`` is that of its reports.
    """

    server: str
    epoch: str
    pid: int
    host: str
    ports: dict[str, tuple[int, ...]]
    started: datetime

    def write(self, directory: Path) -> None:
        """Put the file in place whole."""
        write_atomically(directory / "server.json", to_json(self))

    @classmethod
    def read(cls, directory: Path) -> Address | None:
        """The address of the server of *directory*, or None where none has started; it may have died since."""
        path = directory / "server.json"
        return from_json(path.read_bytes(), cls) if path.exists() else None


def port_of(listener: socket.socket) -> int:
    """The port that was bound."""
    return int(listener.getsockname()[1])
