"""
Send requests at a fixed rate whether or not answers come back, and write what became of each to a file.

    python open_loop.py '{"door": "REST", "rate": 2000, "seconds": 20, "start": EPOCH, "file": ..., ...}'

With ``rate`` 0, ``callers`` callers ask one after the other instead. The file is a numpy array with one line for each
request: when it was due, when its answer arrived (both in seconds since ``start``), the status, and the seconds after
which the server says to try again (0 without them). The status is that of HTTP or the number of gRPC's; -1 means that
the connection failed, and -2 that the answer is wrong.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import httptools
import numpy as np
import uvloop
from grpc_connection import Question, asking

from mendel.protos import open_inference_pb2 as v2

FAILED, WRONG = -1, -2
TICK_S = 0.002
DRAIN_S = 10.0
Answer = tuple[int, float]
"""A status, and the seconds after which to try again."""
Ask = Callable[[], Awaitable[Answer]]


class Connection(asyncio.Protocol):
    """An HTTP/1.1 connection with at most one request at a time."""

    def __init__(self, right: bytes) -> None:
        self._right = right
        self._transport: Any = None
        self._asked: asyncio.Future[Answer] | None = None
        self._begin()

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body, self._retry_s = b"", 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        if self._asked is not None and not self._asked.done():
            self._asked.set_result((FAILED, 0.0))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self._retry_s = float(value)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 200 and self._right not in self._body:
            status = WRONG
        asked, answer = self._asked, (status, self._retry_s)
        self._begin()
        if asked is not None and not asked.done():
            asked.set_result(answer)

    @property
    def alive(self) -> bool:
        return self._transport is not None

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        self._asked = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._asked


def rest(told: dict[str, Any]) -> Ask:
    """Ask over as many connections as are needed; each has one request at a time."""
    request, right = base64.b64decode(told["request"]), told["right"].encode()
    idle: deque[Connection] = deque()

    async def ask() -> Answer:
        loop = asyncio.get_running_loop()
        while idle and not idle[-1].alive:
            idle.pop()
        try:
            if idle:
                connection = idle.pop()
            else:
                _, connection = await loop.create_connection(lambda: Connection(right), "127.0.0.1", told["port"])
        except OSError:
            return FAILED, 0.0
        if not connection.alive:
            return FAILED, 0.0
        answer = await connection.ask(request)
        if connection.alive:
            idle.append(connection)
        return answer

    return ask


def over_grpc(told: dict[str, Any]) -> Ask:
    """Ask over as few connections as the server's bounds allow; each has many calls at once."""
    question = Question(told["path"], [tuple(pair) for pair in told["metadata"]], base64.b64decode(told["request"]))
    call = asking(question, told["port"])

    async def ask() -> Answer:
        status, retry_s, message = await call()
        if status == 0:
            response = v2.ModelInferResponse.FromString(message[5:])
            right = list(response.outputs[0].contents.int64_contents) == told["classes"]
            status = 0 if right else WRONG
        return status, retry_s

    return ask


async def main() -> None:
    told = json.loads(sys.argv[1])
    ask = rest(told) if told["door"] == "REST" else over_grpc(told)
    rows: list[tuple[float, float, float, float]] = []
    begin = told["start"]

    async def one(due: float) -> None:
        status, retry_s = FAILED, 0.0
        with suppress(asyncio.CancelledError):
            status, retry_s = await ask()
        rows.append((due, time.time() - begin, status, retry_s))

    async def caller() -> None:
        while (due := time.time() - begin) < told["seconds"]:
            await one(due)

    await asyncio.sleep(max(0.0, begin - time.time()))
    if told["rate"]:
        waiting, sent = set[asyncio.Task[None]](), 0
        while (now := time.time() - begin) < told["seconds"]:
            for number in range(sent, int(now * told["rate"])):
                task = asyncio.ensure_future(one(number / told["rate"]))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                sent += 1
            await asyncio.sleep(TICK_S)
        if waiting:
            _, unanswered = await asyncio.wait(waiting, timeout=DRAIN_S)
            for task in unanswered:
                task.cancel()
            if unanswered:
                await asyncio.wait(unanswered)
    else:
        await asyncio.gather(*(caller() for _ in range(told["callers"])))
    np.save(told["file"], np.array(rows, dtype=np.float64).reshape(-1, 4))


if __name__ == "__main__":
    uvloop.run(main())
