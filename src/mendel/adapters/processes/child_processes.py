"""Child processes that speak over a socket pair and never outlive their parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mendel.adapters.processes.worker_messages import MAX_LINE_BYTES, Message, from_line, to_line

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int) -> None:
    """
    Be killed when *parent* dies; called first thing in the child.

    Only Linux can do this (``prctl(2)``, PR_SET_PDEATHSIG); elsewhere the end of the channel must serve. The signal is
    tied to the thread that started the child, so children are started from a main thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a child is started; the descriptor of its channel and its parent's id are added to the arguments."""

    arguments: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """A started child and the parent's end of its channel."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.gone = asyncio.Event()
        """Set once it has ended and :meth:`ended` has seen it out."""

    @classmethod
    async def start(cls, command: Command, *, inherit: Sequence[int] = ()) -> Child:
        """Start it with the descriptors *inherit*, which keep their numbers."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *command.arguments,
                "--channel",
                str(theirs.fileno()),
                "--parent",
                str(os.getpid()),
                pass_fds=(theirs.fileno(), *inherit),
                stdin=asyncio.subprocess.DEVNULL,
                env=dict(command.environment),
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=MAX_LINE_BYTES)
        return cls(process, reader, writer)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Say *message*; one that has died hears nothing, and its end shows in :meth:`messages`."""
        if not self._writer.is_closing():
            self._writer.write(to_line(message))

    async def messages(self) -> AsyncIterator[Message]:
        """What it says, until it closes its end."""
        while line := await self._line():
            yield from_line(line)

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def ended(self) -> int:
        """Wait for its end and close the channel; gives the exit code."""
        code = await self._process.wait()
        self._writer.close()
        self.gone.set()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)


def worker_environment(environment: Mapping[str, str], *, workers: int, cores: int) -> dict[str, str]:
    """
    The environment of one of *workers*: numerical libraries share the cores instead of each taking all.

    What the user has set stays.
    """
    threads = str(max(1, cores // workers))
    shared = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    return {**shared, **environment}
