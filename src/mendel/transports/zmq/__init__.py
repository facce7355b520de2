"""The ZMQ door: one front for clients, a door in each worker."""

from mendel.transports.zmq.door import ZmqDoor
from mendel.transports.zmq.message_types import METHODS
from mendel.transports.zmq.proxy import ZmqFront

__all__ = ["METHODS", "ZmqDoor", "ZmqFront"]
