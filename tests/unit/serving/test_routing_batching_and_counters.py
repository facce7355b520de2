"""Routing, authorisation, lanes, counts."""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import DeadlineExceeded, Denied, Forbidden, Unauthenticated
from mendel.serving import InferenceCall, LocalCounters, Records, render, version_counters
from mendel.serving.authorization import authorize
from mendel.serving.batching import Lane, PendingRequest
from mendel.serving.correlation import correlation_id
from mendel.serving.metrics import LATENCY, OUTCOMES, ROWS, Histogram, series
from mendel.serving.routing import choose_version
from mendel.serving.row_batches import Rows, Shape
from mendel.values import EPOCH, LATENCY_BOUNDS_MS, Deployment, ModelName, Route, Scope
from support.waiting import until_async

SHAPE = Shape.of_floats(("a",))


@given(st.integers(0, 100), st.text())
def test_a_key_always_gets_the_same_version(percent, key):
    """The route of a key depends on the key and the shares alone."""
    share = min(max(percent / 100, 0.01), 0.99)
    routes = (Route(version=1, share=1 - share), Route(version=2, share=share))
    deployment = Deployment(model=ModelName("m"), routes=routes)
    versions = {choose_version(deployment, key, random.Random(seed)) for seed in range(3)}
    assert len(versions) == 1


def test_growing_a_canary_moves_keys_only_towards_it():
    """Keys that the canary has it keeps when its share grows."""

    def deployment(share: float) -> Deployment:
        return Deployment(
            model=ModelName("m"), routes=(Route(version=1, share=1 - share), Route(version=2, share=share))
        )

    rng = random.Random(0)
    small = {k for k in map(str, range(500)) if choose_version(deployment(0.1), k, rng) == 2}
    large = {k for k in map(str, range(500)) if choose_version(deployment(0.4), k, rng) == 2}
    assert small < large


KEYS = {hashlib.sha256(s.encode()).hexdigest(): scopes for s, scopes in {"r": ("read",), "x": ("admin",)}.items()}


@pytest.mark.parametrize(
    ("credential", "scope", "error"),
    [
        (None, None, None),
        (None, Scope.PREDICT, None),
        ("wrong", Scope.PREDICT, None),
        (None, Scope.READ, Unauthenticated),
        ("wrong", Scope.READ, Unauthenticated),
        ("r", Scope.READ, None),
        ("r", Scope.LABEL, Forbidden),
        ("x", Scope.DEPLOY, None),
        ("", Scope.LABEL, Unauthenticated),
    ],
)
def test_who_may_do_what(credential, scope, error):
    """The table of the one decision, while no key for predicting exists."""
    if error is None:
        authorize(KEYS, credential, scope, remedy="Send a key.", expiries={}, clock=lambda: EPOCH)
        return
    with pytest.raises(error):
        authorize(KEYS, credential, scope, remedy="Send a key.", expiries={}, clock=lambda: EPOCH)


def test_a_predict_key_closes_predicting():
    """As soon as one key lists predict, nobody predicts without one."""
    keys = KEYS | {hashlib.sha256(b"p").hexdigest(): ("predict",)}
    decide = partial(authorize, keys, scope=Scope.PREDICT, remedy="", expiries={}, clock=lambda: EPOCH)
    decide(credential="p")
    for credential in (None, "wrong", "r"):
        with pytest.raises(Denied):
            decide(credential=credential)


def test_an_expired_key_is_refused_without_the_hub():
    """From its end on, a server refuses a key and says when the key ended, whether or not the hub answers."""
    end = EPOCH + timedelta(hours=1)
    decide = partial(authorize, KEYS, "r", Scope.READ, remedy="", expiries={hashlib.sha256(b"r").hexdigest(): end})
    decide(clock=lambda: end - timedelta(microseconds=1))
    with pytest.raises(Unauthenticated, match="expired at 1970-01-01 01:00:00 UTC"):
        decide(clock=lambda: end)


def test_correlation_ids_are_sane_or_made():
    """Control characters, spaces and novels are not taken over."""
    rng = random.Random(0)
    for nonsense in ("a b", "x\n", "é", "x" * 129, ""):
        assert correlation_id(nonsense, None, rng) != nonsense


class Ticket(PendingRequest[list[int]]):
    """A request whose outcome, or error, its future gets."""

    future: Any = None


class Waiting:
    """A caller who may go."""

    gone = False


def ticket(rows: int = 1, *, shape: Shape = SHAPE, seconds: float = 5, shadow: bool = False) -> Ticket:
    now = time.monotonic()
    made = Ticket(
        rows=Rows(shape, rows),
        call=InferenceCall(model=None, input=Records(rows=()), door="rest"),
        arrived=now,
        deadline=now + seconds,
        caller=Waiting(),
        shadow=shadow,
    )
    made.future = asyncio.get_running_loop().create_future()
    return made


def deliver(delivered) -> None:
    for one, outcome in delivered:
        if isinstance(outcome, BaseException):
            one.future.set_exception(outcome)
        else:
            one.future.set_result(outcome)


class Batches:
    """Remembers every batch; runs while its gate is open."""

    def __init__(self) -> None:
        self.seen: list[list[PendingRequest[list[int]]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.dropped: list[PendingRequest[list[int]]] = []

    def __call__(self, tickets):
        self.seen.append(list(tickets))
        assert self.gate.wait(5)
        return [len(self.seen)] * len(tickets)

    def lane(self, max_rows: int = 100) -> Lane[list[int]]:
        return Lane(
            "t",
            execute=self,
            ran=lambda *_: None,
            dropped=self.dropped.extend,
            deliver=deliver,
            width=1,
            max_rows=max_rows,
            loop=asyncio.get_running_loop(),
            steady=time.monotonic,
        )

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.seen]


async def test_what_arrives_while_a_batch_runs_is_the_next_batch():
    """One waits for nobody; the rest of the queue goes together."""
    batches = Batches()
    lane = batches.lane()
    batches.gate.clear()
    first = ticket()
    lane.submit((first,))
    await until_async(lambda: lane.running == 1)
    others = [ticket() for _ in range(9)]
    for other in others:
        lane.submit((other,))
    assert (lane.queued, lane.running) == (9, 1)
    batches.gate.set()
    await asyncio.gather(first.future, *(other.future for other in others))
    assert batches.sizes == [1, 9]
    lane.close()


async def test_batches_hold_their_bound_and_divide_no_request():
    """Requests of 6, 6 and 20 rows under a bound of 10 run apart, the large one whole."""
    batches = Batches()
    lane = batches.lane(max_rows=10)
    tickets = [ticket(6), ticket(6), ticket(20), ticket(2), ticket(3)]
    for one in tickets:
        lane.submit((one,))
    await asyncio.gather(*(one.future for one in tickets))
    assert [[one.rows.count for one in batch] for batch in batches.seen] == [[6], [6], [20], [2, 3]]
    lane.close()


async def test_shapes_and_shadows_never_share_a_batch():
    """Another shape, or a shadow's copy, begins a new batch."""
    batches = Batches()
    lane = batches.lane()
    other = Shape.of_floats(("b",))
    tickets = [ticket(), ticket(), ticket(shape=other), ticket(), ticket(shadow=True)]
    for one in tickets:
        lane.submit((one,))
    await asyncio.gather(*(one.future for one in tickets))
    assert batches.sizes == [2, 1, 1, 1]
    lane.close()


async def test_what_waits_past_its_deadline_is_dropped_not_run():
    """An expired request is answered at its deadline, and is never executed; nor is one whose caller has gone."""
    batches = Batches()
    lane = batches.lane()
    batches.gate.clear()
    first, late, gone = ticket(), ticket(seconds=0.05), ticket()
    lane.submit((first,))
    await until_async(lambda: lane.running == 1)
    lane.submit((late,))
    lane.submit((gone,))
    gone.caller.gone = True
    with pytest.raises(DeadlineExceeded):
        await late.future
    batches.gate.set()
    await first.future
    await asyncio.wait_for(lane.idle(), 1)
    assert batches.sizes == [1]
    assert batches.dropped == [late, gone]
    assert isinstance(gone.future.exception(), DeadlineExceeded)
    lane.close()


async def test_an_exception_of_a_batch_reaches_all_its_requests():
    """A fault that is nobody's own ends every request of the batch, and the lane goes on."""

    def fault(_):
        raise LookupError("odd")

    batches = Batches()
    lane = batches.lane()
    lane._execute = fault
    tickets = [ticket(), ticket()]
    for one in tickets:
        lane.submit((one,))
    assert [type(e) for e in await asyncio.gather(*(t.future for t in tickets), return_exceptions=True)] == [
        LookupError
    ] * 2
    lane._execute = batches
    again = ticket()
    lane.submit((again,))
    assert await again.future
    lane.close()


async def test_closing_tells_who_still_waits():
    """Nobody waits for ever on a lane that was closed."""
    batches = Batches()
    lane = batches.lane()
    batches.gate.clear()
    first, second = ticket(), ticket()
    lane.submit((first,))
    await until_async(lambda: lane.running == 1)
    lane.submit((second,))
    lane.close()
    with pytest.raises(DeadlineExceeded):
        await second.future
    batches.gate.set()
    await first.future


@given(st.lists(st.floats(0, 40_000), max_size=30))
def test_histograms_count_everything_once(values):
    """Every observation is in one bucket; the counters' latency has the same total."""
    counters = LocalCounters()
    histogram = Histogram(counters, LATENCY, model="m", version="1", door="rest")
    for value in values:
        histogram.observe(value)
    counters.add(counters.reserve(series(OUTCOMES, model="m", version="1", status="ok")), len(values))
    (found,) = version_counters(counters.totals())
    assert sum(found.latency) == found.requests == len(values)
    assert len(found.latency) == len(LATENCY_BOUNDS_MS) + 1
    for bound, count in zip(LATENCY_BOUNDS_MS, found.latency, strict=False):
        assert count == sum(1 for v in values if v <= bound) - sum(
            1 for v in values if v <= max((b for b in LATENCY_BOUNDS_MS if b < bound), default=-1)
        )


def test_counters_are_kept_apart_by_version_and_added_over_doors():
    """Doors add up; versions, statuses and models do not."""
    counters = LocalCounters()
    for door, rows in (("rest", 2), ("grpc", 3)):
        counters.add(counters.reserve(series(ROWS, model="m", version="1", door=door)), rows)
    for status in ("ok", "model_error", "breaker_open", "timeout", "rejected"):
        counters.add(counters.reserve(series(OUTCOMES, model="m", version="2", status=status)))
    first, second = version_counters(counters.totals())
    assert (first.version, first.rows) == (1, 5)
    assert (second.requests, second.model_errors, second.timeouts, second.rejected) == (5, 2, 1, 1)


def test_labels_are_escaped():
    """Quotes, backslashes and line ends in a label do not break the exposition."""
    counters = LocalCounters()
    counters.add(counters.reserve(series(ROWS, model='a"b\\c\nd', version="1", door="rest")))
    assert 'model="a\\"b\\\\c\\nd"' in render(counters.totals())
