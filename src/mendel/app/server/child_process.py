"""Start a child process of a server: make it end with its parent, and run its coroutine on an event loop."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from mendel.adapters.processes.child_processes import die_with_parent
from mendel.adapters.processes.parent_channel import Channel
from mendel.adapters.processes.process_logs import LogStyle, log_crashes, write_log

SWITCH_INTERVAL_S: Final = 0.0005
"""
How long a thread may hold the interpreter while others wait: a tenth of Python's default.

The event loop waits so long for each of its steps while a model computes in pure Python.
"""

_COLLECT_AFTER: Final = (20_000, 20, 100)
"""
The thresholds of Python's garbage collector; its own first is 700.

A batch of 500 requests makes thousands of objects that live until their answers are sent, and in which nothing refers
to itself. With Python's thresholds the collector looks through them, and at times through every object of the libraries
and models, for a third of a server's time.
"""


def collect_rarely() -> None:
    """Collect garbage less often, and leave out the objects that exist now; call it once the models are loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


_DESCRIPTORS: Final = 8192


def widen_descriptor_table() -> None:
    """
    Make the kernel's table of this process's descriptors as large as many connections need; call it before threads run.

    Linux doubles the table whenever it is full. In a process with threads the call that needs the new descriptor, here
    the event loop's accept, then waits for all cores to notice: 5 to 50 ms each time, while nobody is answered.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = _DESCRIPTORS if limit == resource.RLIM_INFINITY else min(limit, _DESCRIPTORS)
    some = os.open(os.devnull, os.O_RDONLY)
    try:
        os.close(fcntl.fcntl(some, fcntl.F_DUPFD_CLOEXEC, highest - 1))
    except OSError:
        pass  # the highest descriptor is in use, so the table is large enough
    finally:
        os.close(some)


def run_child(live: Callable[[Channel], Awaitable[None]]) -> int:
    """
    Run *live* with the channel to the parent process that the command line names, and give the exit code.

    The child ignores Ctrl-C, which a terminal sends to parent and children; the parent decides when the child stops.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    die_with_parent(given.parent)
    widen_descriptor_table()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    write_log(LogStyle())
    log_crashes()

    async def with_channel() -> None:
        channel = await Channel.open(given.channel)
        try:
            await live(channel)
        finally:
            channel.close()

    run_fast(with_channel())
    return 0


def run_fast(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* on uvloop, or on asyncio's event loop if uvloop is not installed."""
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 - not on every platform

    uvloop.run(main)


def micros() -> int:
    """Give the time in microseconds of a monotonic clock that all processes of the machine share."""
    return time.monotonic_ns() // 1000
