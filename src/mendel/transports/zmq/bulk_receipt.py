"""Receive all messages that wait on a ZMQ socket at once."""

from __future__ import annotations

from typing import Any, Final

import zmq
import zmq.asyncio

MOST_AT_ONCE: Final = 256
LARGE_BYTES: Final = 1 << 20


class BulkReceipt:
    """
    Receives the messages of *sock* in bulk: waiting for each message on its own costs far more than receiving it.

    Args:
        copy: Whether messages are lists of ``bytes``, or of frames of libzmq.
    """

    def __init__(self, sock: zmq.asyncio.Socket, *, copy: bool = True) -> None:
        self._socket, self._copy = sock, copy
        self._waiting: zmq.Socket[bytes] = zmq.Socket.shadow(sock.underlying)

    async def messages(self) -> list[list[Any]]:
        """
        Wait for a message, and give it with the messages that have arrived behind it.

        The list ends with the 256th message, or with the message that brings the size of all to more than 1 MiB.
        """
        messages = [await self._socket.recv_multipart(copy=self._copy)]
        size = len(messages[0][-1])
        while len(messages) < MOST_AT_ONCE and size <= LARGE_BYTES:
            try:
                messages.append(self._waiting.recv_multipart(zmq.NOBLOCK, copy=self._copy))
            except zmq.Again:
                break
            size += len(messages[-1][-1])
        return messages
