"""Measure one case on one server, and decide whether the measurement counts."""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from load_generators import Load, h2load, h2load_rate, wrk
from servers import Route, Server
from witness import Witness
from workload import Question

WARM_UP_S = 0.7
SETTLE_S = 3.0
TOOLS = {"REST": "wrk", "gRPC": "h2load"}
SCRAPE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    One line of the table.

    Attributes:
        what: The model and the rows of a request.
        connections, streams: The shape of the load; their product is the number of requests in flight.
    """

    what: str
    connections: int
    streams: int = 1

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    What was measured for one case on one server.

    Attributes:
        invalid: Why the run does not count; empty when it does.
        memory_mb: The memory of the server in the middle of the run.
    """

    server: str
    product: str
    workers: int
    door: str
    form: str
    tool: str
    case: Case
    load: Load
    invalid: str = ""
    memory_mb: float = 0.0

    @property
    def rate(self) -> float:
        """Requests per second; 0 when the run does not count."""
        return 0.0 if self.invalid else self.load.rate


def invalid_because(
    load: Load, *, answered: int, beside: int | None, wrong: Sequence[str] = (), unlogged: int = 0, open_ended: int = 0
) -> str:
    """
    Say why a run does not count; empty when it does.

    Args:
        answered: The requests that the server counted as answered rightly during the run (gRPC: status 0).
        beside: The requests of the client that ran beside the load generator; None without such a client.
        wrong: What that client found wrong.
        unlogged: The answered rows that the server could not log.
        open_ended: The requests that were still in flight when the load generator stopped; they may have been answered.
    """
    reasons = [*load.complaints, *wrong[:1]]
    if load.requests == 0:
        reasons.append("no request was answered")
    if beside == 0:
        reasons.append("the client beside got no answer")
    surplus = answered - load.requests - (beside or 0)
    if not 0 <= surplus <= open_ended:
        counted = f"{load.requests} of the load generator and {beside or 0} of the client beside"
        reasons.append(f"the server counts {answered} right answers for {counted}")
    if unlogged:
        reasons.append(f"{unlogged} rows were not logged")
    return "; ".join(reasons)


@contextmanager
def scraped(server: Server) -> Iterator[None]:
    """Fetch the server's metrics every five seconds, as a monitoring system does."""
    stop = threading.Event()

    def scrape() -> None:
        while not stop.wait(SCRAPE_EVERY_S):
            server.samples()

    thread = threading.Thread(target=scrape, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def measure(
    server: Server, route: Route, questions: Sequence[Question], case: Case, *, seconds: float, bodies: int = 1
) -> Result:
    """
    Send the load of *case* for about *seconds*.

    Args:
        questions: The client beside asks all of them; the load generator sends the first *bodies* of them.
    """
    with generator(route, questions[:bodies], case, seconds) as generate:
        return judged(server, route, questions, case, generate, tool=TOOLS[route.door])


@contextmanager
def generator(route: Route, questions: Sequence[Question], case: Case, seconds: float) -> Iterator[Callable[[], Load]]:
    """Give a function that sends the load of *case*: wrk over REST; over gRPC h2load, for which the server warms up."""
    texts = [route.body(question) for question in questions]
    if route.door == "REST":
        yield lambda: wrk(route.aim, texts, connections=case.connections, seconds=max(round(seconds), 1))
        return
    with tempfile.TemporaryDirectory(prefix="mendel-bodies-") as place:
        files = [Path(place) / str(number) for number in range(len(texts))]
        for file, text in zip(files, texts, strict=True):
            file.write_bytes(text)
        shape = {"connections": case.connections, "streams": case.streams}
        rate = h2load_rate(route.aim, files[0], **shape, seconds=WARM_UP_S)
        yield lambda: h2load(route.aim, files, **shape, requests=max(int(rate * seconds), 2 * case.in_flight))


def judged(
    server: Server,
    route: Route,
    questions: Sequence[Question],
    case: Case,
    generate: Callable[[], Load],
    *,
    tool: str,
) -> Result:
    """
    Run *generate*, and compare its counts with those of the server.

    Args:
        questions: What the client beside asks; empty when *generate* itself compares every answer.
    """
    before, lost = _steady(server, route), server.unlogged()
    memory: list[float] = []
    timer = threading.Timer(WARM_UP_S, lambda: memory.append(server.memory_mb))
    witness = Witness(route, questions)
    with witness if questions else nullcontext(), scraped(server):
        timer.start()
        load = generate()
        timer.cancel()
    answered = _reached(server, route, before + load.requests + witness.asked) - before
    reason = invalid_because(
        load,
        answered=answered,
        beside=witness.asked if questions else None,
        wrong=witness.wrong,
        unlogged=server.unlogged() - lost,
        open_ended=case.in_flight if tool == "wrk" else 0,
    )
    result = Result(
        server=server.name,
        product=server.product,
        workers=server.workers,
        door=route.door,
        form=route.form,
        tool=tool,
        case=case,
        load=load,
        memory_mb=max(memory, default=0.0),
        invalid=reason,
    )
    print(_told(result), file=sys.stderr, flush=True)
    return result


def _steady(server: Server, route: Route) -> int:
    """Wait until the answers to the warm-up are counted: the count is the same twice in a row."""
    end, count = time.monotonic() + SETTLE_S, server.answered(route)
    while time.monotonic() < end:
        time.sleep(0.15)
        former, count = count, server.answered(route)
        if former == count:
            break
    return count


def _reached(server: Server, route: Route, wanted: int) -> int:
    """Wait until the server's count reaches *wanted*; give the count."""
    end = time.monotonic() + SETTLE_S
    while (count := server.answered(route)) < wanted and time.monotonic() < end:
        time.sleep(0.1)
    return count


def _told(result: Result) -> str:
    case, load = result.case, result.load
    what = f"{result.door:5}{result.form:6}{case.what:20}{f'{case.connections}x{case.streams}':>8}"
    figures = f"{load.rate:9.0f}/s  P95 {load.p95_ms:8.2f} ms"
    notes = f"{load.timed_out} timed out " * bool(load.timed_out) + f"INVALID: {result.invalid}" * bool(result.invalid)
    return f"{result.server:28} {result.workers} {what}{figures}  {notes}"
