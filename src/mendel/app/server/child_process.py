"""What every child of a server does first: bind its life to its parent's, and take a loop."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from mendel.adapters.processes.child_processes import die_with_parent
from mendel.adapters.processes.parent_channel import Channel
from mendel.adapters.processes.process_logs import LogStyle, log_crashes, write_log


def run_child(live: Callable[[Channel], Awaitable[None]]) -> int:
    """
    Run *live* with the channel that the arguments name, on uvloop where there is one; gives the exit code.

    Ctrl-C reaches the whole group of a terminal, so a child ignores it: its supervisor says what follows.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    die_with_parent(given.parent)
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
    """Run *main* on uvloop, or on asyncio's own loop where uvloop does not exist."""
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 - not on every platform

    uvloop.run(main)


def micros() -> int:
    """Microseconds on the clock that all processes of a machine share and nobody sets."""
    return time.monotonic_ns() // 1000
