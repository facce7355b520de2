"""A host of models' processes without a server around it."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mendel.adapters.processes.model_processes import ModelProcesses


@contextmanager
def model_host() -> Iterator[Path]:
    """Run the host on the loop of another thread; give the directory of its socket, whose name may not be long."""
    run = Path(tempfile.mkdtemp(prefix="mendel-host-"))
    running = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        end = asyncio.Event()
        async with ModelProcesses(run, environment=os.environ, rng=random.Random(0)):
            ends.append((asyncio.get_running_loop(), end))
            running.set()
            await end.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    running.wait(10)
    try:
        yield run
    finally:
        loop, end = ends[0]
        loop.call_soon_threadsafe(end.set)
        thread.join(10)
        assert list(run.glob("m[0-9]*")) == []
        shutil.rmtree(run)
