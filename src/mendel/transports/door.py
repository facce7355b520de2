"""What a door is: one protocol by which callers reach the kernel."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mendel.projects import Classifier
    from mendel.serving import Kernel

Statistics = Callable[[Mapping[str, str], str | None], Awaitable[bytes]]
"""Asks the hub for ``/monitoring/stats`` with a query and the caller's key; gives its JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSetting:
    """
    The key below ``serving`` that holds a door's ports. Port 0 takes a free one.

    Attributes:
        default: A tuple where the door listens on several ports; it then needs at least one. A door with a single port
            may be turned ``off``.
        dispensable: Default ports that are left out when another program listens on them.
    """

    key: str
    default: int | tuple[int, ...]
    dispensable: tuple[int, ...] = ()

    @property
    def several(self) -> bool:
        """Whether the setting is a list."""
        return isinstance(self.default, tuple)

    def numbers(self, value: int | tuple[int, ...] | None) -> tuple[int, ...]:
        """The ports that the setting's *value* means; none where it is off."""
        if value is None:
            return ()
        return value if isinstance(value, tuple) else (value,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorContext:
    """
    What a worker gives a door to open with.

    Attributes:
        sockets: Bound, listening and shared with the other workers; the door closes its copies. Empty for a door with a
            proxy.
        proxy_address: Where the door's proxy hands out messages: ``ipc:///path``; empty for a door without one.
        scratch: A directory for local sockets, removed with the server.
        classifier: Its ``server`` and ``observability`` sections hold for this server; None without a project.
        statistics: None where there is no hub.
        log_requests: Each request is a line of the log.
    """

    sockets: tuple[socket.socket, ...] = ()
    proxy_address: str = ""
    scratch: Path | None = None
    classifier: Classifier | None = None
    statistics: Statistics | None = None
    log_requests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyContext:
    """
    What the process of a proxy gives it.

    Attributes:
        listener: Bound and listening; the proxy's from now on.
        worker_address: Where the doors of the workers connect: ``ipc:///path``.
        max_message_bytes: A caller that sends more is disconnected.
    """

    listener: socket.socket
    worker_address: str
    max_message_bytes: int


def _accept_anything(_: Classifier) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """
    A protocol, declared once for settings, supervisor, workers, documentation and tests.

    To add one: its folder beside this file, one line in :data:`mendel.transports.door_table.DOORS`, and a client for
    ``tests/contracts/test_doors.py``, whose scenarios it must answer like every other door.

    Every process reads the declarations and most open no door, so a declaration imports nothing of its protocol;
    ``open``, ``proxy`` and ``check`` import when they are called.

    Attributes:
        name: In ``server.json``, in metrics and in the prediction log: ``grpc``.
        title: In messages and documentation: ``gRPC``.
        ports: Its setting.
        open: Serves the kernel while the context is entered. Leaving it stops accepting, lets requests in flight finish
            within ``kernel.policy.drain_timeout``, and closes the sockets.
        proxy: None: every worker accepts from the listening sockets. Otherwise one process of the server accepts, and
            passes messages between callers and workers while the context is entered.
        check: Refuses, before any process starts, what a project asks of the door and the door cannot do
            (InvalidSettings).
        health_path: The path that answers whether the server lives, where the door speaks HTTP.
        skips: The common scenarios that the protocol cannot express, by name, each with the reason.
    """

    name: str
    title: str
    ports: PortSetting
    open: Callable[[Kernel, DoorContext], AbstractAsyncContextManager[object]]
    proxy: Callable[[ProxyContext], AbstractAsyncContextManager[object]] | None = None
    check: Callable[[Classifier], None] = _accept_anything
    health_path: str | None = None
    skips: Mapping[str, str] = field(default_factory=dict)
