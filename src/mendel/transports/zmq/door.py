"""The declaration of the ZMQ door."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Final

from mendel.transports.door import Door, DoorContext, PortSetting, ProxyContext

if TYPE_CHECKING:
    from mendel.serving import Kernel


def _open(kernel: Kernel, context: DoorContext) -> AbstractAsyncContextManager[object]:
    from mendel.transports.zmq.server import ZmqServer  # noqa: PLC0415

    return ZmqServer(kernel, context.proxy_address)


def _proxy(context: ProxyContext) -> AbstractAsyncContextManager[object]:
    from mendel.transports.zmq.proxy import ZmqProxy  # noqa: PLC0415

    return ZmqProxy(
        context.listener,
        context.worker_address,
        max_message_bytes=context.max_message_bytes,
        max_connections=context.max_connections,
        keys=context.keys,
    )


ZMQ: Final = Door(name="zmq", title="ZMQ", ports=PortSetting(key="zmq_port", default=7211), open=_open, proxy=_proxy)
