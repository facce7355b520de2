"""Checks of many requests over REST: at once, and over one connection."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Final

import httpx

from mendel.conformance.outcomes import Undecided, Violation, expect, shown
from mendel.conformance.rest_inference import request_id
from mendel.conformance.rest_server import BUSY, Reply, RestServer, request

AT_ONCE: Final = 32


def concurrency(server: RestServer) -> str:
    """Expect that each of 32 requests at once gets its own answer."""
    _require_ids(server)
    samples = server.samples() if server.repeats() else (server.sample(),) * 2
    barrier = Barrier(AT_ONCE)

    def ask(number: int) -> Reply:
        barrier.wait()
        return server.infer(request(samples[number % 2].inputs, id=f"conformance-call-{number}"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(ask, range(AT_ONCE)))
    busy = [reply for reply in replies if reply.status in BUSY]
    if busy:
        raise Undecided(f"{len(busy)} of {AT_ONCE} requests met a busy server: {busy[0]}")
    for number, reply in enumerate(replies):
        expect(reply.ok, str(reply))
        returned = reply.object.get("id")
        expect(returned == f"conformance-call-{number}", f"Request {number} got the answer {shown(returned)}.")
        if server.repeats():
            server.expect_equal(reply, f"Request {number}", of=samples[number % 2])
    return f"{AT_ONCE} requests{'' if samples[0] is not samples[1] else ' with equal answers'}"


def keep_alive(server: RestServer) -> str:
    """Expect that two requests share one connection."""
    with httpx.Client(base_url=server.http.base_url, timeout=server.http.timeout) as http:
        alone = RestServer(http=http, model=server.model)
        first, second = (alone.get("/v2/health/live") for _ in range(2))
    if first.connection is None:
        raise Undecided("Which connection carried the requests is not known.")
    expect(first.connection is second.connection, "The server closed the connection after the first request.")
    return ""


def _require_ids(server: RestServer) -> None:
    try:
        request_id(server)
    except Violation as violation:
        raise Undecided(f"Without ids, answers cannot be told apart: {violation}") from violation
