"""
The process that accepts callers for all workers of a server and passes their messages on, used for ZMQ.

The supervisor starts it as ``python -m mendel.app.server.door_proxy --channel FD --parent PID``.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Final

from mendel.adapters.processes.parent_channel import Channel
from mendel.adapters.processes.process_logs import write_log
from mendel.adapters.processes.worker_messages import BeginProxy, Status
from mendel.app.server.child_process import run_child
from mendel.transports.door import ProxyContext
from mendel.transports.door_table import door_named
from mendel.transports.zmq.encryption import curve_keys

_STATUS_EVERY_S: Final = 1.0


async def pass_messages(channel: Channel) -> None:
    """Run the proxy that the supervisor's first message describes, until SIGTERM or the end of the supervisor."""
    begin = await channel.hear()
    if not isinstance(begin, BeginProxy):
        return
    write_log(begin.style)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    proxy = door_named(begin.door).proxy
    if proxy is None:
        raise AssertionError(begin.door)
    context = ProxyContext(
        listener=socket.socket(fileno=begin.listener),
        worker_address=begin.worker_address,
        max_message_bytes=begin.max_message_bytes,
        max_connections=begin.max_connections,
        keys=curve_keys(begin.key, begin.clients),
    )
    async with proxy(context):
        background = [asyncio.create_task(job) for job in (_until_silence(channel, stop), _report_status(channel))]
        await stop.wait()
        for job in background:
            job.cancel()


async def _report_status(channel: Channel) -> None:
    while True:
        channel.say(Status(accepting=True, ready=True))
        await asyncio.sleep(_STATUS_EVERY_S)


async def _until_silence(channel: Channel, stop: asyncio.Event) -> None:
    while await channel.hear() is not None:
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(run_child(pass_messages))
