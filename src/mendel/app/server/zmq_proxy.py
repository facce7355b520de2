"""
The ZMQ front of a server, a process of its own: one socket for clients, however many workers.

Started as ``python -m mendel.app.server.zmq_proxy --channel FD --parent PID``.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from mendel.adapters.processes.parent_channel import Channel
from mendel.adapters.processes.process_logs import write_log
from mendel.adapters.processes.worker_messages import BeginFront, Status
from mendel.app.server.child_process import run_child
from mendel.transports.zmq import ZmqFront


async def pass_messages(channel: Channel) -> None:
    """Be the front that the first message describes, until SIGTERM or the end of the supervisor."""
    begin = await channel.hear()
    if not isinstance(begin, BeginFront):
        return
    write_log(begin.style)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    front = ZmqFront(begin.endpoint, begin.backend, listener=begin.listener, max_message_bytes=begin.max_message_bytes)
    async with front:
        channel.say(Status(accepting=True, ready=True))
        supervised = asyncio.create_task(_until_silence(channel, stop))
        await stop.wait()
        supervised.cancel()


async def _until_silence(channel: Channel, stop: asyncio.Event) -> None:
    while await channel.hear() is not None:
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(run_child(pass_messages))
