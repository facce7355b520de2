"""
How much slower a fast model answers while a slow model on the same server is saturated.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/neighbours.py

One worker with its REST door and its prediction log serves both models. In each round, 16 connections measure the
capacity of the fast model. Then requests for the fast model arrive at half this capacity, at random times; a request's
latency counts from the time at which it should have been sent. Meanwhile, 100 callers call the slow model again and
again; each of its calls takes 1 s: it sleeps in a thread, it computes in a thread, or it computes in a process of its
own. Rounds with and without these callers follow each other in turns, so that the machine's other work slows both
alike. The table gives the medians of the rounds' 95th percentiles, and their ratio. The ratio should be below 2, except
for pure Python that computes in a thread: the event loop then waits for the interpreter at each of its steps. On two
cores, a model that computes also takes one of the cores that the server and these callers need.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from backends import free_listener, host

from mendel.app.server.backend_table import BACKENDS, BackendContext, server_environments
from mendel.app.server.child_process import SWITCH_INTERVAL_S
from mendel.predictions import Spool
from mendel.projects import load_project
from mendel.serving import (
    Kernel,
    LocalBreakers,
    LocalCounters,
    ServingPolicy,
    TrainedClassifier,
    infer_signature,
    write_artifact,
)
from mendel.transports.door import DoorContext
from mendel.transports.door_table import door_named
from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    Digest,
    ModelName,
    Route,
    ServedVersion,
    Table,
    VersionUuid,
)

MODELS = """
import time


class Fast:
    def predict(self, X):
        return X.sum(axis=1)


class Sleeping(Fast):
    def predict(self, X):
        time.sleep(1)
        return X.sum(axis=1)


class Computing(Fast):
    def predict(self, X):
        end = time.monotonic() + 1
        while time.monotonic() < end:
            pass
        return X.sum(axis=1)
"""
SLOW = {
    "sleeps in a thread": ("sleeping", "thread"),
    "computes in a thread": ("computing", "thread"),
    "computes in a process": ("computing", "process"),
}
CONNECTIONS, CALLERS, ROUNDS = 16, 100, 7
ROUND_S, CAPACITY_S = 3.0, 1.0
ROW = json.dumps({"instances": [[0.5] * 20]}).encode()


def main() -> None:
    print(f"{'the slow model':24}{'requests/s':>12}{'alone, ms':>12}{'beside, ms':>12}{'ratio':>8}")
    for name, (model, kind) in SLOW.items():
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        server = context.Process(target=serve, args=(model, kind, theirs))
        server.start()
        try:
            rate, alone, beside = uvloop.run(measured(ours.recv()))
        finally:
            ours.send(None)
            server.join()
        line = f"{name:24}{rate:12.0f}{alone * 1e3:12.2f}{beside * 1e3:12.2f}{beside / alone:8.2f}"
        print(line, flush=True)


async def measured(port: int) -> tuple[float, float, float]:
    """Give the rate of the requests per second, and the 95th percentile in seconds alone and beside the slow model."""
    rates, alone, beside = [], [], []
    for _ in range(ROUNDS):
        deadline = time.monotonic() + CAPACITY_S
        counts = await asyncio.gather(*(repeated(port, "fast", deadline) for _ in range(CONNECTIONS)))
        rate = sum(counts) / CAPACITY_S / 2
        rates.append(rate)
        alone.append(await arriving(port, rate))
        until = time.monotonic() + ROUND_S + 1.5
        callers = [asyncio.create_task(repeated(port, "slow", until)) for _ in range(CALLERS)]
        await asyncio.sleep(1.5)
        beside.append(await arriving(port, rate))
        await asyncio.gather(*callers)
    return statistics.median(rates), statistics.median(alone), statistics.median(beside)


async def repeated(port: int, model: str, until: float) -> int:
    """Call *model* over one connection, one call after the other; give the number of answers."""
    count, connection = 0, await Connection.to(port)
    while time.monotonic() < until:
        await connection.ask(model)
        count += 1
    connection.close()
    return count


async def arriving(port: int, rate: float) -> float:
    """Send requests for the fast model at *rate*; give the 95th percentile of their latencies in seconds."""
    waiting: asyncio.Queue[float] = asyncio.Queue()
    latencies: list[float] = []

    async def answered() -> None:
        connection = await Connection.to(port)
        while (due := await waiting.get()) >= 0:
            await connection.ask("fast")
            latencies.append(time.perf_counter() - due)
        connection.close()

    askers = [asyncio.create_task(answered()) for _ in range(4 * CONNECTIONS)]
    rng, due = random.Random(0), time.perf_counter()
    end = due + ROUND_S
    while due < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        waiting.put_nowait(due)
        due += rng.expovariate(rate)
    for _ in askers:
        waiting.put_nowait(-1.0)
    await asyncio.gather(*askers)
    return float(np.percentile(latencies, 95))


class Connection:
    """One HTTP connection that predicts a row."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, model: str) -> None:
        head = f"POST /v1/{model}/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(ROW)}\r\n\r\n"
        self._writer.write(head.encode() + ROW)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer)
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await self._reader.readexactly(int(length.partition(b":")[2]))

    def close(self) -> None:
        self._writer.close()


def serve(slow: str, kind: str, pipe: Any) -> None:
    """Serve the models ``fast`` and ``slow`` over REST until the other end of *pipe* says so."""

    async def run(sockets: Path, scratch: Path) -> None:
        async with AsyncExitStack() as stack:
            spool = stack.enter_context(Spool(scratch / "spool", "bench"))
            kernel = await stack.enter_async_context(kernel_of(scratch, sockets, spool, {"fast": "thread", slow: kind}))
            state, trees = deployed(scratch, slow)
            reports = await kernel.apply(state, trees.__getitem__)
            if broken := [report.error for report in reports if report.error]:
                raise RuntimeError(broken)
            listener = free_listener()
            pipe.send(listener.getsockname()[1])
            await stack.enter_async_context(door_named("rest").open(kernel, DoorContext(sockets=(listener,))))
            await asyncio.to_thread(pipe.recv)

    os.environ["OMP_NUM_THREADS"] = "1"
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with host() as sockets, tempfile.TemporaryDirectory() as scratch:
        uvloop.run(run(sockets, Path(scratch)))


def kernel_of(scratch: Path, sockets: Path, spool: Spool, kinds: dict[str, str]) -> Kernel:
    policy = ServingPolicy()
    loads = {
        kind: BACKENDS[kind](BackendContext(run=sockets, policy=policy, environments=server_environments(policy)))
        for kind in ("thread", "process")
    }
    classes = "".join(
        f"  {name}: {{predictor: {{module: models, class_name: {name.capitalize()}}}}}\n" for name in kinds
    )
    (scratch / "models.py").write_text(MODELS)
    (scratch / "mlserver.yaml").write_text(f"classifiers:\n{classes}")

    def load(directory: Path, **given: Any) -> Any:
        return loads[kinds[directory.name]](directory, **given)

    return Kernel(
        policy,
        load_backend=load,
        sink=spool,
        counters=LocalCounters(),
        breakers=LocalBreakers(policy.breaker, _now),
        clock=_now,
        rng=random.Random(0),
        project=load_project(scratch),
    )


def deployed(scratch: Path, slow: str) -> tuple[DesiredState, dict[Digest, Path]]:
    """Write both artefacts, and give the state that deploys them as ``fast`` and ``slow``."""
    signature = infer_signature(Table({f"f{place}": np.zeros(1) for place in range(20)}))
    models, trees = [], {}
    for name, classifier in (("fast", "fast"), ("slow", slow)):
        tree = scratch / classifier
        trained = TrainedClassifier(name=classifier)
        digest = write_artifact(trained, tree, project=load_project(scratch), signature=signature)
        trees[digest] = tree
        served = ServedVersion(
            number=1,
            uuid=VersionUuid(f"m-{len(models):032x}"),
            artifact_digest=digest,
            flavor="mendel",
            signature=signature,
            task="regression",
            registered_at=_now(),
        )
        deployment = Deployment(model=ModelName(name), generation=1, routes=(Route(version=1, share=1.0),))
        models.append(DesiredModel(deployment=deployment, versions=(served,)))
    return DesiredState(revision=1, models=tuple(models), key_hashes={}), trees


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    main()
