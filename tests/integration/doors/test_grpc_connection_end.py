"""The end of a gRPC connection loses nothing."""

from __future__ import annotations

import asyncio
import gzip
import socket
from contextlib import AsyncExitStack

from mendel.protos import open_inference_pb2 as pb
from mendel.transports.grpc.door import GRPC
from support.doors import open_door
from support.http2_wire import (
    FIRST_WINDOW,
    PING,
    PREFACE,
    Seen,
    data,
    fields,
    frame,
    headers,
    message,
    settings,
    window,
)
from support.waiting import until_async

LARGE = 8 << 20
PIECE = 1 << 16


class Slow:
    """A client that reads 64 KiB at a time, and pings in between."""

    def __init__(self, port: int) -> None:
        self.seen = Seen()
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)

    async def send(self, sent: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, sent)

    async def read(self) -> None:
        received = await asyncio.get_running_loop().sock_recv(self.socket, PIECE)
        self.seen.closed = not received
        await self.send(self.seen.feed(received) + frame(PING, bytes(8)))


async def test_a_large_answer_to_a_slow_reader_arrives_before_the_end(shelf, at, make_kernel, tmp_path):
    """A draining server does not reset a connection whose client still sends: 8 MiB arrive, with their status."""
    shelf.put("held", 1)
    async with AsyncExitStack() as proxies:
        kernel = await proxies.enter_async_context(make_kernel())
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        servers = AsyncExitStack()
        client = Slow(await open_door(GRPC, proxies, servers, kernel, tmp_path, fast=True))
        with client.socket:
            tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 3])
            tensor.contents.fp64_contents.extend([1.0, 2.0, 3.0])
            request = pb.ModelInferRequest(model_name="held", inputs=[tensor], id="x" * LARGE)
            compressed = gzip.compress(request.SerializeToString())  # so that it fits the first windows
            await client.send(PREFACE + settings((FIRST_WINDOW, (1 << 31) - 1)) + window(1 << 30))
            await client.send(headers(fields((b"grpc-encoding", b"gzip"))) + data(message(compressed, flag=1)))
            await until_async(lambda: kernel.status().active)
            closing = asyncio.create_task(servers.aclose())
            while client.seen.goaway is None:
                await client.read()
            shelf.let_go()
            while client.seen.grpc() is None and not client.seen.closed:
                await client.read()
        await closing
        assert client.seen.grpc() == 0
        assert client.seen.sizes[1] > LARGE
