"""
Hostile clients of the gRPC door, over real sockets: each is refused or closed, and harms nobody else.

All attacks meet the fast form. The standard form is grpcio, which lets callers do much of this: it meets only messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import resource
import time
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Self

import grpc
import pytest
import pytest_asyncio
import structlog

from mendel.protos import open_inference_pb2 as pb
from mendel.protos import open_inference_pb2_grpc as stubs
from mendel.serving import Kernel, ServingPolicy
from mendel.transports.grpc.door import GRPC
from support.doors import open_door
from support.grpc_attacks import (
    ATTACKS,
    BLOCKS,
    CLOSED,
    FRAMES,
    GOOD,
    HALF_CLOSE,
    LIVES,
    MESSAGES,
    REFUSED,
    RESET,
    WINDOWS,
    Attack,
    Step,
)
from support.http2_mutations import MOST_BYTES, mutated, parts, split
from support.http2_wire import DATA, PREFACE, Seen, block, call, fields, frame, headers, settings
from support.served_models import Shelf, deployed, new_kernel, write_project
from support.waiting import until_async

REFUSED_STREAM = 7
LAST = 1_000_001
"""The stream of the call that shows that a connection lives."""
SHORT = timedelta(seconds=0.5)
LIMITS = {
    True: ServingPolicy(),
    False: replace(ServingPolicy(), header_timeout=SHORT, body_timeout=SHORT),
}
"""Whether an attack is patient, and the limits of the server that it meets."""
WITHIN_S = 20.0
MOST_GROWTH_BYTES = 300 << 20
"""Far less than what the attacks together would take; the attackers live in the same process."""


GRPCIO_TAKES = {
    "message: none": "no answer",
    "message: none, in HEADERS": "no answer",
    "message: two": "the first is answered",
    "message: a prefix that is cut off": "no answer",
    "message: cut off": "no answer",
    "message: an unknown encoding": "INTERNAL",
    "message: a gzip bomb": "RST_STREAM without a status",
}
"""What grpcio does with messages that the fast form refuses."""


@dataclass
class Neighbour:
    """A client that asks again and again; ``answered`` counts."""

    stub: stubs.GRPCInferenceServiceStub
    answered: int = 0

    async def ask(self) -> None:
        while True:
            answer = await self.stub.ModelInfer(pb.ModelInferRequest.FromString(GOOD), timeout=20)
            assert answer.outputs[0].contents.fp64_contents == [3.0]
            self.answered += 1
            await asyncio.sleep(0.005)


@dataclass
class Target:
    """A door, and a client beside the attackers."""

    port: int
    neighbour: Neighbour
    kernel: Kernel


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def targets(tmp_path_factory):
    """Opens a door of a form, with the usual limits or with short ones, once."""
    directory = tmp_path_factory.mktemp("attacked")
    write_project(directory)
    shelf = Shelf(directory)
    shelf.put("sum", 1)
    opened: dict[tuple[bool, bool], Target] = {}
    async with AsyncExitStack() as stack:

        async def target(*, fast: bool, patient: bool) -> Target:
            if (fast, patient) not in opened:
                kernel = await stack.enter_async_context(new_kernel(shelf, LIMITS[patient]))
                await kernel.apply(shelf.desire(deployed("sum")), shelf.fetch)
                port = await open_door(GRPC, stack, stack, kernel, directory, fast=fast)
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
                neighbour = Neighbour(stubs.GRPCInferenceServiceStub(channel))
                opened[fast, patient] = Target(port, neighbour, kernel)
            return opened[fast, patient]

        yield target


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Attacker:
    """One hostile connection, while entered."""

    def __init__(self, attack: Attack, port: int) -> None:
        self.attack, self.port, self.seen = attack, port, Seen()
        self.replies = attack.polite and attack.greets
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        if self.attack.greets:
            self.writer.write(PREFACE + settings())
        self.tasks = [asyncio.create_task(self.read()), asyncio.create_task(self.send())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.writer.transport.abort()

    async def read(self) -> None:
        with contextlib.suppress(OSError):
            while received := await self.reader.read(1 << 16):
                due = self.seen.feed(received)
                if self.replies:
                    self.writer.write(due)
        self.seen.closed = True

    async def send(self) -> None:
        with contextlib.suppress(OSError):
            for step in self.attack.sends(self.seen):
                await self.take(step)
            if {LIVES, REFUSED} & {*self.attack.ends}:
                self.writer.write(call(GOOD, stream=LAST))

    async def take(self, step: Step) -> None:
        if callable(step):
            await until_async(step)
        elif step == HALF_CLOSE:
            self.replies = False
            self.writer.write_eof()
        else:
            self.writer.write(step)
            await self.writer.drain()

    def end(self) -> object:
        """How the attack ended; None while that is open."""
        seen = self.seen
        found = {
            CLOSED: seen.closed or seen.goaway,
            RESET: 1 in seen.resets,
            LIVES: seen.grpc(LAST) == 0,
            REFUSED: seen.resets.get(LAST) == REFUSED_STREAM,
        }
        ends = [end for end in self.attack.ends if found.get(end, end in {seen.grpc(), seen.fields[1].get(":status")})]
        return ends or None


FORMS = [(name, True) for name in ATTACKS]
FORMS += [(name, False) for name in ATTACKS if name.startswith("message") and name not in GRPCIO_TAKES]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "fast"), FORMS, ids=[f"{name}{'' if fast else ', standard'}" for name, fast in FORMS])
async def test_an_attack_harms_nobody_else(targets, name, fast):
    """The attacker gets the protocol's error or is closed, a client beside it is answered, and memory is bounded."""
    attack = ATTACKS[name]
    target = await targets(fast=fast, patient=attack.patient)
    neighbour, before = target.neighbour, resident_bytes()
    asking = asyncio.create_task(neighbour.ask())
    with structlog.testing.capture_logs() as lines:
        async with Attacker(attack, target.port) as attacker:
            await until_async(attacker.end, within=WITHIN_S, told=lambda: f"not {attack.ends}: {attacker.seen}")
            assert resident_bytes() - before < MOST_GROWTH_BYTES
            reached = neighbour.answered + 1
            await until_async(lambda: neighbour.answered > reached or asking.done(), within=WITHIN_S)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    assert [line for line in lines if line["event"].endswith("_fault")] == []


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_refused_before_its_message_is_counted(targets):
    """Calls refused by their headers, and a body in parts with a wrong key, stand in the metrics with their status."""
    target = await targets(fast=True, patient=True)
    part = frame(DATA, bytes(9_000), stream=1)
    for sent, endpoint, status in (
        (headers(fields((b":path", b"/nothing"))), "", "UNIMPLEMENTED"),
        (headers(fields((b"content-type", b"text/plain"))), METHOD, "415"),
        (headers(fields((b":method", b"GET"))), METHOD, "405"),
        (headers(fields((b"grpc-timeout", b"soon"))), METHOD, "INVALID_ARGUMENT"),
        (headers(more=block([(b"a", b"v" * 4_000)], kept=True) + b"\xbe" * 20), METHOD, "RESOURCE_EXHAUSTED"),
        (headers(fields((b":path", LOAD.encode()))) + part, LOAD, "UNAUTHENTICATED"),
    ):
        before = counted(target, endpoint, status)
        attack = Attack(sends=lambda _, sent=sent: [sent], ends=(CLOSED, RESET), polite=True)
        async with Attacker(attack, target.port) as attacker:
            await until_async(attacker.end, within=WITHIN_S)
        assert counted(target, endpoint, status) == before + 1, (endpoint, status)


METHOD, LOAD = "/inference.GRPCInferenceService/ModelInfer", "/modelops.ModelOps/LoadModel"


def counted(target: Target, endpoint: str, status: str) -> float:
    """How many gRPC calls of a method ended with *status*."""
    labels = (f'endpoint="{endpoint}"', 'method="gRPC"', f'status_code="{status}"')
    lines = target.kernel.metrics().splitlines()
    found = [one for one in lines if one.startswith("mlserver_requests_total{") and all(map(one.count, labels))]
    return sum(float(line.rpartition(" ")[2]) for line in found)


@cache
def seeds_of_mutations() -> list[list[bytes]]:
    """The frames of attacks that are bytes and not too many."""
    tables = {**FRAMES, **WINDOWS, **BLOCKS, **MESSAGES}
    sent = [[*attack.sends(Seen())] for name, attack in tables.items() if name != "a gzip bomb"]
    plain = [b"".join(steps) for steps in sent if all(isinstance(step, bytes) for step in steps)]
    return [split(whole) for whole in plain if len(whole) < MOST_BYTES]


async def hold_against(target: Target, rng: random.Random) -> None:
    """Send frames changed at random, and the end: the server closes the connection."""
    sent = [*parts(mutated(seeds_of_mutations(), rng), rng), HALF_CLOSE]
    async with Attacker(Attack(sends=lambda _: sent, ends=(), polite=False), target.port) as attacker:
        await until_async(lambda: attacker.seen.closed, within=WITHIN_S, told=lambda: sent)


async def hold(target: Target, seeds: Iterable[int]) -> None:
    """Try eight connections at once for each of *seeds*; no fault is logged, and a client beside them is answered."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    asking = asyncio.create_task(target.neighbour.ask())
    with structlog.testing.capture_logs() as lines:
        for seed in seeds:
            answered = target.neighbour.answered
            await asyncio.gather(*(hold_against(target, random.Random(8 * seed + place)) for place in range(8)))
            await until_async(lambda: target.neighbour.answered > answered or asking.done(), within=WITHIN_S)  # noqa: B023
            assert not asking.done(), seed
            faults += [line for line in lines if line["event"].endswith("_fault")]
            assert not faults, (seed, faults)
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking


@pytest.mark.asyncio(loop_scope="module")
async def test_random_frames_harm_nobody_else(targets):
    """Frames and messages changed at random make no fault and no connection that stays."""
    await hold(await targets(fast=True, patient=False), range(25))


@pytest.mark.soak
@pytest.mark.asyncio(loop_scope="module")
async def test_random_frames_for_long(targets, soak_seconds):
    """The same with other chances, again and again; memory does not grow."""
    target = await targets(fast=True, patient=False)
    first, end = random.randrange(1 << 40), time.monotonic() + soak_seconds
    await hold(target, range(100))
    before = resident_bytes()
    await hold(target, itertools.takewhile(lambda _: time.monotonic() < end, itertools.count(first)))
    assert resident_bytes() - before < MOST_GROWTH_BYTES
