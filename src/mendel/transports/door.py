"""The declaration of a door: a protocol, such as REST, over which callers reach the inference kernel."""

from __future__ import annotations

import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from mendel.projects import Classifier
    from mendel.serving import Kernel
    from mendel.transports.zmq.encryption import CurveKeys

Statistics = Callable[[Mapping[str, str], str | None], Awaitable[bytes]]
"""Fetches ``/monitoring/stats`` from the hub with the given query parameters and API key; gives the JSON body."""

DoorForm = Literal["fast", "standard", "auto"]
"""The values of the setting ``serving.doors``; ``auto`` is ``fast`` where fast doors can run."""

_NEEDED_BY_FAST: Final = ("uvloop", "httptools", "hpack")


def fast_obstacle() -> str | None:
    """Give the reason why fast doors cannot run on this system or in this Python; None if they can."""
    if sys.platform != "linux":
        return f"Fast doors run on Linux only, not on {sys.platform}."
    missing = [name for name in _NEEDED_BY_FAST if find_spec(name) is None]
    return f"Fast doors need the package {missing[0]}, which is not installed." if missing else None


def is_fast(doors: DoorForm) -> bool:
    """Whether the doors of this process are fast when the setting ``serving.doors`` is *doors*."""
    return doors != "standard" and fast_obstacle() is None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSetting:
    """
    The setting ``serving.<key>`` that holds the ports of a door; port 0 means any free port.

    Attributes:
        key: The name of the setting below ``serving``.
        default: One port, or a tuple of ports if the door listens on several. Only a setting with one port may be
            ``off``.
        dispensable: Default ports that the server skips when another program listens on them.
    """

    key: str
    default: int | tuple[int, ...]
    dispensable: tuple[int, ...] = ()

    @property
    def several(self) -> bool:
        """True when the setting is a list of ports."""
        return isinstance(self.default, tuple)

    def numbers(self, value: int | tuple[int, ...] | None) -> tuple[int, ...]:
        """Convert the setting's *value* to a tuple of ports; None (off) gives an empty tuple."""
        if value is None:
            return ()
        return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorContext:
    """
    The arguments with which a worker process opens a door.

    Attributes:
        sockets: Listening sockets that all workers share; the door closes its copies. Empty for a door with a proxy.
        proxy_address: The address at which the door's proxy sends messages to workers, ``ipc:///path``; empty for a
            door without a proxy.
        scratch: A directory for local sockets, deleted when the server stops; None uses the system's temporary
            directory.
        classifier: The classifier whose ``server`` and ``observability`` sections configure the server; None without a
            project.
        statistics: Fetches prediction statistics from the hub; None without a hub.
        log_requests: When True, each request is written to the server's log.
        fast: When True, a door that has a fast form opens it; the answers are the same.
    """

    sockets: tuple[socket.socket, ...] = ()
    proxy_address: str = ""
    scratch: Path | None = None
    classifier: Classifier | None = None
    statistics: Statistics | None = None
    log_requests: bool = False
    fast: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyContext:
    """
    The arguments with which a proxy process opens the proxy of a door.

    Attributes:
        listener: The listening socket for callers; the proxy closes it.
        worker_address: The address to which workers connect, ``ipc:///path``.
        max_message_bytes: The largest message; a larger one gets an error.
        max_connections: The largest number of callers' connections; a further one is closed at once.
        keys: Encrypts the connections of callers; None leaves them open.
    """

    listener: socket.socket
    worker_address: str
    max_message_bytes: int
    max_connections: int
    keys: CurveKeys | None = None


def _accept_anything(_: Classifier) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """
    The declaration of a protocol, which settings, supervisor, workers, documentation and tests read.

    To add a protocol, add a folder beside this file, a line in :data:`mendel.transports.door_table.DOORS`, and a client
    in ``tests/contracts/test_doors.py``; the new protocol must pass the scenarios of that file.

    Every process imports all declarations, so a declaration must not import its protocol's packages; only ``open``,
    ``proxy`` and ``check`` import them.

    Attributes:
        name: The name in ``server.json``, metrics and prediction log, for example ``grpc``.
        title: The name in messages and documentation, for example ``gRPC``.
        ports: The setting that holds the ports.
        open: Gives a context manager that serves the kernel while entered. Its exit stops accepting, lets requests in
            flight finish within ``kernel.policy.drain_timeout``, and closes the sockets.
        proxy: Gives a context manager that, in one process of the server, accepts all callers and passes messages
            between callers and workers. None means that every worker accepts connections itself.
        check: Raises InvalidSettings, before any process starts, when the project configures the protocol in a way that
            is not possible.
        health_path: The path of the liveness check; None for a protocol without HTTP.
        has_fast_form: True when ``open`` heeds ``context.fast``.
        skips: The scenarios of ``test_doors.py`` that the protocol cannot express, by name, with the reason.
    """

    name: str
    title: str
    ports: PortSetting
    open: Callable[[Kernel, DoorContext], AbstractAsyncContextManager[object]]
    proxy: Callable[[ProxyContext], AbstractAsyncContextManager[object]] | None = None
    check: Callable[[Classifier], None] = _accept_anything
    health_path: str | None = None
    has_fast_form: bool = False
    skips: Mapping[str, str] = field(default_factory=dict)
