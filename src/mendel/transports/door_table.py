"""The doors of a server. To add a door, add its declaration here."""

from __future__ import annotations

from typing import Final

from mendel.transports.door import Door
from mendel.transports.grpc.door import GRPC
from mendel.transports.rest.door import REST
from mendel.transports.zmq.door import ZMQ

DOORS: Final[tuple[Door, ...]] = (REST, GRPC, ZMQ)
"""In the order in which they open and are listed."""


def door_named(name: str) -> Door:
    """The door called *name* in :data:`DOORS`."""
    return next(door for door in DOORS if door.name == name)
