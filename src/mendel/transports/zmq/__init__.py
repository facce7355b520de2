"""The ZMQ door: one front for clients, a door in each worker."""

from mendel.transports.zmq.door import ZmqDoor
from mendel.transports.zmq.front import ZmqFront
from mendel.transports.zmq.methods import METHODS

__all__ = ["METHODS", "ZmqDoor", "ZmqFront"]
