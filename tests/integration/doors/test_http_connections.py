"""HTTP/1.1 at the REST port, byte for byte: order, pieces, half-closed and unread connections, in both forms."""

from __future__ import annotations

import asyncio
import gc
import json
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from mendel.serving import Kernel
from mendel.transports.rest.door import REST
from mendel.transports.rest.exchange import Exchange
from mendel.transports.rest.fast_connection import FastConnection
from support.door_forms import both_forms
from support.doors import open_door
from support.http_bytes import Connection, request
from support.served_models import Shelf, deployed, new_kernel, write_project
from support.waiting import until_async

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROW = b'{"instances": [[1, 2, 3]]}'
SUM, HELD = "/v1/sum/predict", "/v1/held/predict"
CHUNKED = b"POST /v1/sum/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n"


@dataclass
class World:
    """A kernel with the REST door open in both forms."""

    kernel: Kernel
    shelf: Shelf
    ports: dict[bool, int]

    async def apply(self, **keys):
        await self.kernel.apply(self.shelf.desire(deployed("sum"), deployed("held"), **keys), self.shelf.fetch)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("world")
    write_project(directory)
    shelf = Shelf(directory)
    shelf.put("sum", 1)
    shelf.put("held", 1)
    async with AsyncExitStack() as stack:
        kernel = await stack.enter_async_context(new_kernel(shelf))
        ports = {fast: await open_door(REST, stack, stack, kernel, directory, fast=fast) for fast in (False, True)}
        opened = World(kernel, shelf, ports)
        await opened.apply()
        yield opened


@pytest.fixture
def held(world):
    """Lets the model ``held`` answer when called, and holds it again afterwards."""
    yield world.shelf.let_go
    world.shelf.hold()


@pytest_asyncio.fixture(loop_scope="module")
async def connection(world, fast):
    opened = await Connection.to(world.ports[fast])
    yield opened
    await opened.close()


def predictions(answer):
    return json.loads(answer.body)["predictions"]


@both_forms
async def test_answers_come_in_the_order_of_the_requests(world, connection, held):
    """A quick request behind a slow one on the same connection is answered after the slow one."""
    await connection.send(request(HELD, ROW) + request(SUM, b'{"instances": [[4, 5, 6]]}') + request("/healthz"))
    await until_async(lambda: world.kernel.status().active == 1)
    held()
    first, second, third = [await connection.answer() for _ in range(3)]
    assert (predictions(first), predictions(second), third.status) == ([6.0], [15.0], 405)


@both_forms
async def test_many_pipelined_requests_are_all_answered_in_order(connection):
    """Hundreds of requests in one write, predictions and others, are answered one by one."""
    paths = [
        (SUM, ROW, "POST"),
        ("/healthz", b"", "GET"),
        ("/nothing", b"", "GET"),
        ("/v1/nobody/predict", ROW, "POST"),
    ]
    sent = [
        request(path, body, method=method, headers=[f"x-request-id: {place}"])
        for place, (path, body, method) in enumerate(paths * 100)
    ]
    sending = asyncio.create_task(connection.send(b"".join(sent)))
    for place in range(len(sent)):
        answer = await connection.answer()
        assert (answer.headers["x-request-id"], answer.status) == (str(place), (200, 200, 404, 404)[place % 4])
    await sending


@both_forms
async def test_a_body_is_asked_for_when_the_caller_waits_for_it(world, connection):
    """``Expect: 100-continue`` gets 100 before the body, and a refusal instead where the key is wrong."""
    await connection.send(request(SUM, headers=["expect: 100-continue", f"content-length: {len(ROW)}"]))
    assert (await connection.answer()).status == 100
    await connection.send(ROW)
    assert predictions(await connection.answer()) == [6.0]
    await world.apply(keys={"0" * 64: ("predict",)})
    await connection.send(request(SUM, headers=["expect: 100-continue", f"content-length: {len(ROW)}"]))
    assert (await connection.answer()).status == 401
    await world.apply()


@both_forms
async def test_trailers_are_no_headers(connection):
    """Headers behind a chunked body count for neither this request nor the next."""
    trailed = CHUNKED + b"\r\n%x\r\n%b\r\n0\r\nx-event-time: never\r\nx-request-id: smuggled\r\n\r\n" % (len(ROW), ROW)
    await connection.send(trailed + request(SUM, ROW, headers=["x-a: b"]))
    for _ in range(2):
        answer = await connection.answer()
        assert (answer.status, answer.headers["x-request-id"] == "smuggled") == (200, False)


@both_forms
async def test_head_has_no_body_and_old_callers_are_closed(world, fast):
    """HEAD gets the headers of GET; HTTP/1.0 and ``Connection: close`` get one answer, and the end."""
    connection = await Connection.to(world.ports[fast])
    await connection.send(request("/healthz", method="HEAD") + request("/healthz", method="GET"))
    head, get = await connection.answer(to="HEAD"), await connection.answer()
    assert (head.status, head.headers["content-length"]) == (200, str(len(get.body)))
    await connection.close()
    for sent in (
        b"GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        request("/healthz", method="GET", headers=["connection: close"]) + request("/healthz", method="GET"),
    ):
        connection = await Connection.to(world.ports[fast])
        await connection.send(sent)
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"], await connection.rest()) == (200, "close", b"")
        await connection.close()


@both_forms
async def test_a_refusal_before_the_body_ends_the_connection(world, fast):
    """A caller that waits for 100 and is refused may send the body or not, so nothing more is read as a request."""
    connection = await Connection.to(world.ports[fast])
    await connection.send(request("/nothing", headers=["expect: 100-continue", "content-length: 40"]))
    answer = await connection.answer()
    assert (answer.status, answer.headers["connection"], await connection.rest()) == (404, "close", b"")
    await connection.close()


@both_forms
async def test_an_old_caller_is_never_asked_for_its_body(world, fast):
    """``Expect`` of HTTP/1.0 is not heeded, because such a caller would take 100 for its answer."""
    connection = await Connection.to(world.ports[fast])
    head = f"POST {SUM} HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: {len(ROW)}\r\n\r\n"
    await connection.send(head.encode(), ROW)
    assert (await connection.answer()).status == 200
    await connection.close()


@both_forms
async def test_spaces_around_a_header_are_no_part_of_it(connection):
    """Spaces and tabs behind a value are left out, as before it."""
    ends = "  \t "
    head = request(SUM, headers=[f"content-length:\t{len(ROW)}{ends}", f"x-request-id: a{ends}", f"x-api-key: k{ends}"])
    await connection.send(head + ROW)
    answer = await connection.answer()
    assert (answer.status, answer.headers["x-request-id"]) == (200, "a")


@both_forms
async def test_an_encoded_slash_separates_nothing(connection):
    """A path whose slash is encoded is no path of another route, which a proxy in front might not let pass."""
    await connection.send(request("/v1/sum%2Fpredict", ROW) + request("/v1/s%75m/predict", ROW))
    assert [(await connection.answer()).status for _ in range(2)] == [404, 200]


@both_forms
async def test_keys_that_stand_twice_in_a_v2_request_are_refused(connection):
    """Whatever a proxy in front reads of two equal keys, this server reads neither; extra keys are no offence."""
    fine = b'{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3], "parameters": {"a:b": "\\":"}}'
    for body, status in (
        (b'{"inputs": [%b]}' % fine, 200),
        (b'{"inputs": [%b], "more": {"a": 1}, "id": null}' % fine, 200),
        (b'{"inputs": [], "inputs": [%b]}' % fine, 400),
        (b'{"inputs": [%b], "parameters": {"a": 1, "a": 2}}' % fine, 400),
        (b'{"inputs": [%b]}' % fine.replace(b'"data"', b'"data": [4, 5, 6], "data"'), 400),
    ):
        await connection.send(request("/v2/models/sum/infer", body))
        answer = await connection.answer()
        assert (answer.status, "twice" in json.loads(answer.body).get("error", "")) == (status, status == 400), body


@both_forms
async def test_refused_bytes_are_counted(world, fast):
    """What is no request, and a request with headers that are too large, stand in the metrics with their status."""
    for sent, status in ((b"nonsense\r\n\r\n", 400), (request("/healthz", headers=["x: " + "a" * 70_000]), 431)):
        before = counted(world.kernel, status)
        connection = await Connection.to(world.ports[fast])
        await connection.send(sent)
        assert (await connection.answer()).status == status
        await connection.close()
        assert counted(world.kernel, status) == before + 1


def counted(kernel: Kernel, status: int) -> float:
    """How many requests without a route were answered with *status*."""
    label = f'status_code="{status}"'
    lines = kernel.metrics().splitlines()
    found = [line for line in lines if line.startswith('mlserver_requests_total{endpoint=""') and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
MALFORMED = {
    "length and chunks": CHUNKED + b"content-length: 5\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "two lengths": request(SUM, ROW, headers=["content-length: 3"]),
    "a length with a sign": request(SUM, headers=["content-length: +3"]) + b"abc",
    "another coding behind chunked": CHUNKED.replace(b"chunked", b"chunked, identity") + b"\r\n0\r\n\r\n",
    "a strange coding": CHUNKED.replace(b"chunked", b"xchunked") + b"\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "a folded header": request(SUM, headers=["x-a: b", " c: d"]),
    "a space before the colon": request(SUM, headers=["content-length : 3"]) + b"abc",
    "a header without a colon": request(SUM, headers=["nonsense"]),
    "a NUL": request(SUM, headers=["x-a: b\0c"]),
    "a bare CR": request(SUM, headers=["x-a: b\rc: d"]),
    "a bare LF": b"POST /v1/sum/predict HTTP/1.1\nhost: x\n\n" + SMUGGLED,
    "a chunk length of nonsense": CHUNKED + b"\r\nxyz\r\n",
    "a chunk longer than it says": CHUNKED + b"\r\n1\r\n{}\r\n0\r\n\r\n",
    "a method of nonsense": b"GETS / HTTP/1.1\r\n\r\n",
    "another protocol": b"GET / SPDY/3\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a handshake of TLS": b"\x16\x03\x01\x02\x00\x01",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n" + SMUGGLED,
    "a chunk length with a sign": CHUNKED + b"\r\n+3\r\n{ }\r\n0\r\n\r\n",
    "a chunk length of another base": CHUNKED + b"\r\n0x3\r\n{ }\r\n0\r\n\r\n",
    "a chunk length that overflows": CHUNKED + b"\r\n10000000000000003\r\n{ }\r\n0\r\n\r\n",
    "a bare LF behind a chunk": CHUNKED + b"\r\n3\r\n{ }\n0\r\n\r\n",
    "a bare LF in the extension of a chunk": CHUNKED + b"\r\n3;a\nb\r\n{ }\r\n0\r\n\r\n",
    "an empty length": request(SUM, headers=["content-length:"]),
    "a length in two parts": request(SUM, headers=["content-length: 3, 3"]) + b"{ }",
    "a length that overflows": request(SUM, headers=["content-length: 18446744073709551619"]) + b"{ }",
    "no target": b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
}


@both_forms
async def test_bytes_that_are_no_request_are_refused(world, fast):
    """Whatever might be read as two requests, or as none, is 400, and nothing behind it is read."""
    for name, sent in MALFORMED.items():
        connection = await Connection.to(world.ports[fast])
        await connection.send(sent)
        answer = await connection.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close"), name
        assert "not valid HTTP" in json.loads(answer.body)["error"], name
        assert await connection.rest() == b"", name
        await connection.close()


@both_forms
async def test_a_connection_cut_in_the_middle_harms_nobody(world, held, fast):
    """Callers that reset their connection in a head, in a body and while the model runs leave others answered."""
    for sent in (request(SUM, ROW)[:20], request(SUM, ROW)[:-3], request(HELD, ROW), request(SUM, ROW) * 50):
        connection = await Connection.to(world.ports[fast])
        await connection.send(sent)
        connection.writer.transport.abort()
    held()
    connection = await Connection.to(world.ports[fast])
    await connection.send(request(SUM, ROW))
    assert predictions(await connection.answer()) == [6.0]
    await connection.close()
    await until_async(lambda: world.kernel.status().active == 0)


only_fast = pytest.mark.parametrize("fast", [True], ids=["fast"])


@only_fast
async def test_a_refusal_reaches_a_caller_that_still_sends(world, fast):
    """A caller that reads only after it has sent megabytes gets the refusal and the end, and no reset."""
    for headers, status in (
        (["connection: close", f"content-length: {200 << 20}"], 413),
        (["expect: 100-continue", f"content-length: {200 << 20}"], 413),
        (["x: " + "a" * 70_000, f"content-length: {200 << 20}"], 431),
    ):
        connection = await Connection.to(world.ports[fast])
        await connection.send(request(SUM, headers=headers), *[bytes(1 << 16)] * 64)
        assert (await connection.answer()).status == status
        assert await asyncio.wait_for(connection.reader.read(-1), 20) == b""
        await connection.close()


@only_fast
async def test_a_caller_that_sends_no_more_gets_its_answers(world, connection, held):
    """After the end of what the caller sends, complete requests are answered; an incomplete one is forgotten."""
    await connection.send(request(HELD, ROW) + request(SUM, ROW) + request(SUM, ROW)[:-1])
    connection.writer.write_eof()
    await until_async(lambda: world.kernel.status().active == 1)
    held()
    assert [predictions(await connection.answer()) for _ in range(2)] == [[6.0], [6.0]]
    assert await connection.rest() == b""


@only_fast
async def test_a_wish_for_another_protocol_is_not_heeded(connection):
    """A request that asks to go on in HTTP/2, as curl and Java do, is answered with its body, and so is the next."""
    wish = ["connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA"]
    sent = request(SUM, ROW, headers=[*wish, "x-request-id: 1"])
    await connection.send(sent[:70], sent[70:120], sent[120:] + request(SUM, ROW, headers=["x-request-id: 2"]))
    for place in ("1", "2"):
        answer = await connection.answer()
        assert (predictions(answer), answer.headers["x-request-id"]) == ([6.0], place)
    await connection.send(request(SUM, ROW, headers=["connection: upgrade, close", "upgrade: x"]))
    assert (await connection.answer()).headers["connection"] == "close"


@only_fast
async def test_answers_that_are_not_read_stop_their_connection_only(world, fast):
    """A caller that reads nothing is not read either, keeps nobody from answers, and gets all its own when it reads."""
    connection = await Connection.to(world.ports[fast], limit=1 << 10)
    sent = 2_000
    sending = asyncio.create_task(connection.send(request("/openapi.json", method="GET") * sent))
    other = await Connection.to(world.ports[fast])
    for _ in range(20):
        await other.send(request(SUM, ROW))
        assert predictions(await other.answer()) == [6.0]
    assert world.kernel.status().active == 0
    assert {(await connection.answer()).status for _ in range(sent)} == {200}
    await sending
    await connection.close()
    await other.close()


@only_fast
async def test_what_has_ended_leaves_memory_at_once(world, fast):
    """Closed connections, answers and refusals wait for no garbage collection, which workers run seldom."""

    def kept():
        return sum(isinstance(one, (FastConnection, Exchange)) for one in gc.get_objects())

    await until_async(lambda: gc.collect() >= 0 and not kept())  # connections of other tests are gone
    gc.disable()
    try:
        for sent in (request(SUM, ROW), request(SUM, b"{"), request(SUM, b'{"instances": [["x"]]}'), b"x\r\n\r\n"):
            connection = await Connection.to(world.ports[fast])
            await connection.send(sent)
            await connection.answer()
            await connection.close()
        await until_async(lambda: not kept())
    finally:
        gc.enable()
