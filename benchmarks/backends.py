"""
What a process of its own, or another server over REST or gRPC, costs a model, against a thread of the server.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/backends.py

A server divides the cores among its workers in the same way: with two workers on two cores, one thread each.
Times of a call of the backend, without doors and logging: the median and the 95th percentile in milliseconds of calls
one after the other, for rows of floats, of 1,000 columns, and with texts. ``500 in flight`` is the time until a kernel
has answered 500 requests that arrive at once. ``start`` is the time from the order to load until the input is answered,
``restart`` the time without an answer after the process was killed, ``memory`` what the model adds to the server.
The other server is a kernel with its doors in a process beside, so that its own queue, batching and counters count too.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mendel.adapters.processes.model_processes import ModelProcesses
from mendel.app.server.backend_table import BACKENDS, BackendContext, server_environments
from mendel.errors import ModelFailed, NotReady
from mendel.projects import Project
from mendel.serving import (
    Backend,
    Frame,
    InferenceCall,
    Kernel,
    LoadBackend,
    LocalBreakers,
    LocalCounters,
    Matrix,
    Records,
    RemoteModel,
    ServingPolicy,
    single_version_model,
    standalone_state,
    write_artifact,
)
from mendel.serving.input_codec import InputCodec
from mendel.serving.process_memory import resident_bytes
from mendel.serving.row_batches import assemble
from mendel.transports.door import DoorContext
from mendel.transports.door_table import DOORS
from mendel.values import DesiredState, Digest, ModelName, ServedVersion, VersionUuid

KINDS = ("thread", "process", "rest", "grpc")
SCHEMES = {"rest": "http", "grpc": "grpc"}
CALLS, IN_FLIGHT = 1000, 500
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 2, 400)


def fitted() -> Iterator[tuple[str, Any, pd.DataFrame, int]]:
    """Each kind of rows: a model, the rows that it was fitted on, and the number of rows in a call."""
    floats = pd.DataFrame(RNG.normal(size=(400, 20)), columns=[f"f{place}" for place in range(20)])
    wide = pd.DataFrame(RNG.normal(size=(400, 1000)), columns=[f"f{place}" for place in range(1000)])
    texts = pd.DataFrame({f"t{place}": RNG.choice(["Ulm", "Bonn", "Köln"], 400) for place in range(10)})
    yield "1 row, 20 floats", LogisticRegression(), floats, 1
    yield "100 rows, 20 floats", LogisticRegression(), floats, 100
    yield "1 row, 1,000 floats", LogisticRegression(), wide, 1
    yield "100 rows, 1,000 floats", LogisticRegression(), wide, 100
    yield "1 row, 10 texts", make_pipeline(OneHotEncoder(), LogisticRegression()), texts, 1
    yield "100 rows, 10 texts", make_pipeline(OneHotEncoder(), LogisticRegression()), texts, 100


@contextmanager
def host() -> Iterator[Path]:
    """Run the host of models' processes in a thread."""
    with tempfile.TemporaryDirectory(prefix="mendel-") as scratch:
        running, ends = threading.Event(), []

        async def serve() -> None:
            end = asyncio.Event()
            async with ModelProcesses(Path(scratch), environment=os.environ, rng=random.Random(0)):
                ends.append((asyncio.get_running_loop(), end))
                running.set()
                await end.wait()

        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        running.wait()
        try:
            yield Path(scratch)
        finally:
            ends[0][0].call_soon_threadsafe(ends[0][1].set)
            thread.join()


@contextmanager
def trees_of(tree: Path) -> Iterator[dict[str, Path]]:
    """Serve *tree* in another process; give the artefact of each kind."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    peer = context.Process(target=_peer, args=(tree, theirs), daemon=True)
    peer.start()
    try:
        trees = {"thread": tree, "process": tree}
        for kind, port in ours.recv().items():
            trees[kind] = tree.with_name(f"{tree.name} over {kind} at {port}")
            server = f"{SCHEMES[kind]}://127.0.0.1:{port}"
            write_artifact(RemoteModel(servers=(server,), model="one"), trees[kind])
        yield trees
    finally:
        peer.kill()
        peer.join()


def _peer(tree: Path, pipe: Any) -> None:
    async def serve() -> None:
        async with AsyncExitStack() as stack:
            kernel = await stack.enter_async_context(_kernel(ServingPolicy(), BACKENDS["thread"]))
            await kernel.apply(_state(), lambda _: tree)
            ports = {}
            for door in DOORS:
                if door.name in SCHEMES:
                    listener = free_listener()
                    ports[door.name] = listener.getsockname()[1]
                    context = DoorContext(sockets=(listener,), classifier=None)
                    await stack.enter_async_context(door.open(kernel, context))
            pipe.send(ports)
            await asyncio.Event().wait()

    asyncio.run(serve())


def free_listener() -> socket.socket:
    """Listen on a free port of this machine."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio: no TCP_NODELAY without it
    listener.bind(("127.0.0.1", 0))
    listener.listen(2048)
    listener.setblocking(False)
    return listener


def loads_of(kind: str, context: BackendContext) -> LoadBackend:
    return BACKENDS["remote" if kind in SCHEMES else kind](context)


def main() -> None:
    policy = ServingPolicy()
    print(f"{'':34}" + "".join(f"{kind:>18}" for kind in KINDS))
    with host() as run, tempfile.TemporaryDirectory() as scratch:
        context = BackendContext(run=run, policy=policy, environments=server_environments(policy))
        for name, model, rows, count in fitted():
            tree = Path(scratch) / name
            write_artifact(model.fit(rows, TRUTH), tree, training=rows)
            records = rows.head(count).to_dict(orient="records")
            with trees_of(tree) as trees:
                backends = [loads_of(kind, context)(trees[kind], digest=None, project=None) for kind in KINDS]
                times = _calls(backends, records)
                for backend in backends:
                    backend.kill()
            print(f"{name + ', p50 / p95 ms':34}" + "".join(f"{text:>18}" for text in times), flush=True)
        with trees_of(Path(scratch) / "1 row, 20 floats") as trees:
            rates = [asyncio.run(_in_flight(trees[kind], context, kind)) for kind in KINDS]
            print(f"{'500 in flight, all answered, ms':34}" + "".join(f"{rate:18.1f}" for rate in rates))
            found = [_life(trees[kind], context, kind) for kind in KINDS]
        for place, title in enumerate(("start to ready, ms", "restart after kill -9, ms", "memory, MiB")):
            print(f"{title:34}" + "".join(f"{line[place]:>18}" for line in found))


def _calls(backends: list[Backend], records: list[dict[str, Any]]) -> list[str]:
    """Call the backends in turns, so that the machine's other work slows both alike."""
    times: list[list[float]] = [[] for _ in backends]
    frames = [_frame(backend, records) for backend in backends]
    for _ in range(CALLS):
        for backend, frame, taken in zip(backends, frames, times, strict=True):
            began = time.perf_counter()
            backend.predict(frame, time.monotonic() + 30)
            taken.append((time.perf_counter() - began) * 1e3)
    return [f"{np.percentile(taken, 50):.3f} / {np.percentile(taken, 95):.3f}" for taken in times]


def _frame(backend: Backend, records: list[dict[str, Any]]) -> Frame:
    descriptor = backend.descriptor
    codec = InputCodec(descriptor.contract, order=descriptor.order, max_rows=len(records))
    return assemble([codec.decode(Records(rows=records))])


def _now() -> datetime:
    return datetime.now(UTC)


def _state() -> DesiredState:
    served = ServedVersion(
        number=1,
        uuid=VersionUuid(f"m-{1:032x}"),
        artifact_digest=Digest(f"sha256:{0:064x}"),
        flavor="sklearn",
        signature=None,
        task="classification",
        registered_at=_now(),
    )
    return standalone_state(single_version_model(ModelName("one"), served), {})


def _kernel(policy: ServingPolicy, make: Callable[[BackendContext], LoadBackend], run: Path = Path()) -> Kernel:
    """A kernel that loads with what *make* gives, and checks no digest."""
    loads = make(BackendContext(run=run, policy=policy, environments=server_environments(policy)))

    def unchecked(directory: Path, *, digest: Digest | None, project: Project | None) -> Backend:
        del digest
        return loads(directory, digest=None, project=project)

    return Kernel(
        policy,
        load_backend=unchecked,
        sink=None,
        counters=LocalCounters(),
        breakers=LocalBreakers(policy.breaker, _now),
        clock=_now,
        rng=random.Random(0),
    )


async def _in_flight(tree: Path, context: BackendContext, kind: str) -> float:
    call = InferenceCall(model="one", input=Matrix(rows=[[0.0] * 20], columns=None), door="rest")
    async with _kernel(context.policy, lambda given: loads_of(kind, given), context.run) as kernel:
        await kernel.apply(_state(), lambda _: tree)
        times = []
        for _ in range(20):
            began = time.perf_counter()
            await asyncio.gather(*(kernel.infer(call) for _ in range(IN_FLIGHT)))
            times.append((time.perf_counter() - began) * 1e3)
    return float(np.median(times))


def _life(tree: Path, context: BackendContext, kind: str) -> tuple[str, str, str]:
    before = resident_bytes() or 0
    began = time.perf_counter()
    backend = loads_of(kind, context)(tree, digest=None, project=None)
    frame = _frame(backend, [{f"f{place}": 0.0 for place in range(20)}])
    backend.predict(frame, time.monotonic() + 30)
    start = (time.perf_counter() - began) * 1e3
    memory = backend.place.memory_bytes
    grown = (resident_bytes() or 0) - before
    restart = "-"
    if memory is not None and (pid := backend.place.pid) is not None:
        os.kill(pid, signal.SIGKILL)
        began = time.perf_counter()
        answered = False
        while not answered:
            with suppress(ModelFailed, NotReady):
                backend.predict(frame, time.monotonic() + 30)
                answered = backend.place.pid != pid
        restart = f"{(time.perf_counter() - began) * 1e3:.0f}"
    backend.kill()
    return f"{start:.0f}", restart, f"{(grown if memory is None else memory) / 2**20:.1f}"


if __name__ == "__main__":
    main()
