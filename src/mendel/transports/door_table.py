"""All protocols of a server. To add a protocol, add its declaration here."""

from __future__ import annotations

from typing import Final

from mendel.transports.door import Door
from mendel.transports.grpc.door import GRPC
from mendel.transports.rest.door import REST
from mendel.transports.zmq.door import ZMQ

DOORS: Final[tuple[Door, ...]] = (REST, GRPC, ZMQ)
"""The protocols in the order in which a server opens and lists them."""


def door_named(name: str) -> Door:
    """Give the declaration of the protocol *name*, for example ``rest``; raises StopIteration for an unknown name."""
    return next(door for door in DOORS if door.name == name)
