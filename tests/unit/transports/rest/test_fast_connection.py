"""A connection of the fast REST server keeps a bounded amount for a caller, without a socket between."""

from __future__ import annotations

import asyncio

import pytest

from mendel.transports.rest.exchange import Exchange
from mendel.transports.rest.fast_connection import FastConnection
from mendel.transports.rest.fast_server import FastRestServer
from mendel.transports.rest.http_messages import BodyMemory
from mendel.transports.rest.rest_policy import RestPolicy
from support.http2 import MemoryTransport
from support.http_bytes import request
from support.served_models import new_kernel


class Seen(FastRestServer):
    """A server without sockets that answers nothing, and keeps the requests that entered its pipelines."""

    def __init__(self) -> None:
        super().__init__(new_kernel(None), sockets=[], policy=RestPolicy())
        self.requests: list[Exchange] = []

    def prepare(self, exchange: Exchange) -> None:
        super().prepare(exchange)
        self.requests.append(exchange)

    def begin(self, exchange: Exchange) -> None:
        """Let the request wait for ever."""

    async def connect(self) -> tuple[FastConnection, MemoryTransport]:
        connection, transport = FastConnection(self, asyncio.get_running_loop()), MemoryTransport()
        connection.connection_made(transport)
        return connection, transport


@pytest.fixture
def server() -> Seen:
    return Seen()


async def test_bodies_that_wait_stop_the_reading(server):
    """Of many pipelined bodies of 40 KB, two are read, the second in part, until one is answered."""
    connection, transport = await server.connect()
    connection.data_received(request("/predict", b"x" * 40_000) * 6)
    assert (len(server.requests), transport.paused) == (2, True)


async def test_one_large_body_is_read_to_its_end(server):
    """A body larger than what may wait is read, because nothing before it waits for an answer."""
    connection, transport = await server.connect()
    sent = request("/predict", b"x" * 1_000_000)
    for place in range(0, len(sent), 100_000):
        connection.data_received(sent[place : place + 100_000])
    (only,) = server.requests
    assert (only.ready, only.size_bytes, transport.paused) == (True, 1_000_000, False)


async def test_tiny_requests_do_not_fill_the_pipeline(server):
    """Of thousands of requests in one read, about as many enter the pipeline as 4 KiB hold."""
    connection, transport = await server.connect()
    connection.data_received(request("/predict", b"x") + b"GET / HTTP/1.1\r\nhost:\r\n\r\n" * 10_000)
    assert (len(server.requests) < 200, transport.paused) == (True, True)


async def test_those_that_keep_the_most_are_cut(server):
    """When unread answers and unparsed requests of all connections are too many, the greediest connection is cut."""
    server.application.bodies.limit_bytes = 140_000
    modest, kept = await server.connect()
    greedy, cut = await server.connect()
    for connection, size in ((modest, 20_000), (greedy, 50_000)):
        connection.data_received(request("/predict", b"x") * 20 + request("/predict", b"x" * size))
    server._expire(0.0)
    assert (kept.aborted, cut.aborted) == (False, False)
    greedy.data_received(bytes(50_000))
    server._expire(0.0)
    assert (kept.aborted, cut.aborted) == (False, True)


def test_tiny_parts_of_a_body_are_kept_as_one():
    """A body that arrives byte by byte takes few objects; large parts are not copied until the body is joined."""
    exchange = Exchange(method="POST", path="/", headers={}, bodies=BodyMemory(limit_bytes=1), began=0, connection=None)
    parts = [b"ab"] * 5_000 + [b"x" * 2_000] + [b"cd"] * 5_000
    for part in parts:
        exchange.keep(part)
    assert len(exchange.parts) == 4
    assert exchange.whole_body(22_000) == b"".join(parts)


async def test_too_many_empty_headers_are_too_large(server):
    """Headers of a few bytes count with what they cost: 3,000 of them are refused before they are all kept."""
    connection, _ = await server.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nhost:\r\n" + b"".join(b"%d:\r\n" % one for one in range(3_000)))
    assert server.requests == []
    assert connection._parser.ended
    assert len(connection._parser._headers) < 2_000
