"""Start child processes that exchange messages over a socket pair and die with their parent."""

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
    Make the kernel kill this process when the process *parent* dies; a child calls this first.

    Only Linux supports this (``prctl(2)``, PR_SET_PDEATHSIG); elsewhere the child notices the closed channel. The
    signal is tied to the thread that started the child, so children must be started from the main thread.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """
    A child's command line and environment; the channel's file descriptor and the parent's process id are appended.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]


class Child:
    """A running child process and the parent's end of the message channel."""

    def __init__(
        self, process: asyncio.subprocess.Process, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self.gone = asyncio.Event()
        """Set after the child has ended and :meth:`ended` has returned."""

    @classmethod
    async def start(cls, command: Command, *, inherit: Sequence[int] = ()) -> Child:
        """Start the child; it inherits the descriptors *inherit* under the same numbers."""
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
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send *message* to the child; a message to a dead child is dropped."""
        if not self._writer.is_closing():
            self._writer.write(to_line(message))

    async def messages(self) -> AsyncIterator[Message]:
        """Give the child's messages until the child closes the channel."""
        while line := await self._line():
            yield from_line(line)

    async def _line(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def ended(self) -> int:
        """Wait until the child has ended, close the channel, and give the exit code."""
        code = await self._process.wait()
        self._writer.close()
        self.gone.set()
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send signal *number* to the child unless the child has ended."""
        if self._process.returncode is None:
            self._process.send_signal(number)


def worker_environment(environment: Mapping[str, str], *, workers: int, cores: int) -> dict[str, str]:
    """
    Make the environment of one worker: numerical libraries use an equal share of the cores per worker.

    Thread settings in *environment* are kept.
    """
    threads = str(max(1, cores // workers))
    shared = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
    return {**shared, **environment}
