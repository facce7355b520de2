"""Mutated HTTP/1.1 streams at the fast REST door: no fault, no hang, and the next caller is answered."""

from __future__ import annotations

import asyncio
import random
import time

import pytest
import structlog

from support.http_bytes import Connection, request

ROW = b'{"instances": [[1, 2, 3]]}'
CHUNKED = b"POST /v1/sum/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
SEEDS = (
    request("/v1/sum/predict", ROW),
    request("/v1/sum/predict", ROW, headers=["expect: 100-continue", "x-request-id: a"]),
    request(
        "/v2/models/sum/infer", b'{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}'
    ),
    request("/invocations?model=sum", b"a,b,c\n1,2,3\n", headers=["content-type: text/csv", "origin: http://a"]),
    request("/healthz", method="GET", headers=["connection: close"]),
    request("/openapi.json", method="HEAD"),
    b"GET /metrics HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(ROW), ROW),
    CHUNKED + b"2;a=b\r\n{}\r\n0\r\nx-a: b\r\n\r\n",
    request("/", method="GET", headers=["upgrade: websocket", "connection: upgrade"]),
)
TOKENS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b"0\r\n\r\n",
        b"ffffffffffffffffff\r\n",
        b"-1",
        b"%00",
    ),
    *(
        b"content-length: 5\r\n",
        b"content-length: 0\r\n",
        b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n",
    ),
    *(
        b"connection: close\r\n",
        b"content-encoding: gzip\r\n",
        b"authorization: Bearer x\r\n",
        b"HTTP/1.0",
        b"HTTP/9.9",
    ),
    *(b"GET http://x HTTP/1.1\r\n\r\n", b"OPTIONS * HTTP/1.1\r\n\r\n", b"\xff" * 9, b"x" * 70_000),
)
AT_ONCE = 32


def mutated(rng: random.Random) -> bytes:
    """A few requests one after the other, changed in a few places."""
    stream = bytearray(b"".join(rng.choices(SEEDS, k=rng.randint(1, 5))))
    for _ in range(rng.randint(0, 6)):
        place = rng.randrange(len(stream) + 1)
        end = min(len(stream), place + rng.randint(0, 30))
        match rng.randrange(5):
            case 0:
                stream[place:place] = rng.choice(TOKENS)
            case 1:
                del stream[place:end]
            case 2:
                stream[place:end] = rng.randbytes(end - place)
            case 3:
                stream[place:place] = stream[place:end] * rng.randint(1, 9)
            case _:
                stream[place:end] = rng.choice(TOKENS)
    return bytes(stream)


async def tried(port: int, seed: int) -> None:
    """Send a stream in pieces, and see it answered or refused, and the connection ended."""
    rng = random.Random(seed)
    stream = mutated(rng)
    connection = await Connection.to(port)
    try:
        cuts = sorted(rng.choices(range(len(stream) + 1), k=rng.randint(0, 5)))
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            await connection.send(stream[start:end])
            await asyncio.sleep(0)
        connection.writer.write_eof()
        told = await connection.rest()
    except (ConnectionError, OSError):
        told = b""  # refused before all was sent
    finally:
        await connection.close()
    statuses = [line.split()[1] for line in told.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert not any(status.startswith(b"5") for status in statuses), (seed, stream, told)


@pytest.mark.soak
@pytest.mark.parametrize("fast", [True], ids=["fast"])
async def test_no_stream_of_bytes_makes_a_fault(open_world, shelf, at, soak_seconds):
    """Each mutated stream is answered or refused without a fault, its connection ends, and the server lives on."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    port, until, seed = world.ports["rest"], time.monotonic() + soak_seconds, random.randrange(1 << 32)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    with structlog.testing.capture_logs() as lines:
        while time.monotonic() < until:
            await asyncio.gather(*(tried(port, seed + place) for place in range(AT_ONCE)))
            seed += AT_ONCE
            connection = await Connection.to(port)
            await connection.send(request("/v1/sum/predict", ROW))
            assert (await connection.answer()).status == 200, seed
            await connection.close()
            assert faults == [], seed
    assert [line for line in lines if line["event"].endswith("_fault")] == []
