"""Swaps, faults, queues and deadlines, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.errors import ModelNotFound, StoreUnavailable
from mendel.predictions import id_texts, read_segment, sealed_segments
from mendel.resilience import BreakerPolicy, BulkheadPolicy
from mendel.serving import InferenceCall, Records, ServingPolicy, version_counters
from mendel.transports.rest.door import REST
from mendel.values import Digest, Route
from support.doors import DOOR_NAMES, OneProcess, open_door
from support.http_bytes import Connection, request
from support.waiting import until_async

ROW = {"a": 1.0, "b": 2.0, "c": 3.0}
RECORDS = {"records": [ROW]}


async def test_a_hot_swap_under_load_fails_nothing_and_mixes_nothing(open_world, shelf, at, connect):
    """While versions alternate, every answer carries one version, and is that version's own."""
    for number in (1, 2):
        shelf.put("sum", number, bias=1000.0 * number)
    world = await open_world()
    await world.apply(at("sum", 1, generation=1))
    clients = [connect(door, world) for door in DOOR_NAMES]
    seen: list[str] = []
    stop = asyncio.Event()

    async def ask(client) -> int:
        asked = 0
        while not stop.is_set():
            reply = await client.predict("sum", {"records": [ROW, ROW]})
            assert reply.error is None, reply
            version = reply.body["metadata"]["model_version"]
            assert reply.body["predictions"] == [6.0 + 1000 * int(version)] * 2
            seen.append(version)
            asked += 1
        return asked

    asking = [asyncio.create_task(ask(client)) for client in clients for _ in range(8)]
    for generation in range(2, 8):
        before = len(seen)
        await until_async(lambda before=before: len(seen) > before + 50)
        (report,) = await world.apply(at("sum", 1 + generation % 2, generation=generation))
        assert report.generation_serving == generation
    stop.set()
    assert all(await asyncio.gather(*asking))
    assert set(seen) == {"1", "2"}


async def test_what_cannot_be_loaded_leaves_the_old_serving(open_world, shelf, at, connect):
    """A version that fails its golden input is reported; the former answers on, and the server stays ready."""
    shelf.put("sum", 1)
    shelf.put("sum", 2, kind="broken")
    world = await open_world()
    await world.apply(at("sum", 1, generation=1))
    (report,) = await world.apply(at("sum", 2, generation=2))
    assert (report.generation_desired, report.generation_serving, report.version_serving) == (2, 1, 1)
    assert report.failed_version == 2
    assert "input example" in report.error
    assert report.version_at_fault
    client = connect("rest", world)
    assert (await client.predict("sum", RECORDS)).body["metadata"]["model_version"] == "1"
    assert (await client.http.get("/health")).json() == {"status": "ok"}
    assert world.kernel.readiness().state == "degraded"


async def test_a_missing_artefact_is_reported_and_tried_again(open_world, shelf, at):
    """A digest that cannot be fetched is an error in the report; once there, applying again converges."""
    served = shelf.put("sum", 1)
    tree = shelf.trees.pop(served.artifact_digest)
    world = await open_world()
    (report,) = await world.apply(at("sum"))
    assert report.version_serving is None
    assert not report.version_at_fault
    assert world.kernel.readiness().state == "degraded"
    shelf.trees[served.artifact_digest] = tree
    (report,) = await world.apply(at("sum"))
    assert report.version_serving == 1


async def test_a_changed_artefact_is_not_loaded(open_world, shelf, at):
    """Content that does not have its digest is refused before anything of it is read."""
    served = shelf.put("sum", 1)
    (shelf.trees[served.artifact_digest] / "bias.txt").write_text("7")
    world = await open_world()
    (report,) = await world.apply(at("sum"))
    assert "digest" in report.error
    assert not report.version_at_fault, "the disk changed the content, not the version"


async def test_the_breaker_opens_by_model_faults_only(open_world, shelf, at, connect):
    """A hundred bad requests leave it closed; faults open it; the answer says when to come again."""
    shelf.put("failing", 1)
    world = await open_world()
    await world.apply(at("failing"))
    client = connect("rest", world)
    for _ in range(100):
        assert (await client.predict("failing", {"records": [{"a": 1}]})).error == "invalid"
    assert (await client.predict("failing", RECORDS)).error is None
    for _ in range(3):
        assert (await client.predict("failing", {"records": [{**ROW, "a": -1}]})).error == "model_failed"
    for door in DOOR_NAMES:
        reply = await connect(door, world).predict("failing", RECORDS)
        assert reply.error == "unavailable"
        assert "breaker" in reply.message
    response = await client.http.post("/v1/failing/predict", json=RECORDS)
    assert 1 <= int(response.headers["retry-after"]) <= 20


async def test_the_fallback_answers_while_the_breaker_is_open_and_says_so(open_world, shelf, at, connect):
    """With an open breaker the fallback version answers, under its own name."""
    shelf.put("failing", 1)
    shelf.put("failing", 2, kind="sum")
    world = await open_world(ServingPolicy(breaker=BreakerPolicy(minimum_calls=1)))
    await world.apply(at("failing", 1, fallback=2))
    client = connect("rest", world)
    assert (await client.predict("failing", {"records": [{**ROW, "a": -1}]})).error == "model_failed"
    reply = await client.predict("failing", RECORDS)
    assert reply.body["fallback"] is True
    assert reply.body["metadata"]["model_version"] == "2"


async def test_probes_are_counted_and_close_the_breaker(open_world, shelf, at, connect):
    """After its rest the breaker admits its probes, and closes when they succeed."""
    policy = ServingPolicy(breaker=BreakerPolicy(minimum_calls=1, open_for=timedelta(milliseconds=200), probes=2))
    shelf.put("failing", 1)
    world = await open_world(policy)
    await world.apply(at("failing"))
    client = connect("rest", world)
    await client.predict("failing", {"records": [{**ROW, "a": -1}]})
    assert (await client.predict("failing", RECORDS)).error == "unavailable"
    while (await client.predict("failing", RECORDS)).error == "unavailable":
        pass  # it rests; the first that is let through is a probe
    assert [(await client.predict("failing", RECORDS)).error for _ in range(2)] == [None] * 2
    assert world.kernel.status().models[0].versions[0].breaker == "closed"


def work(kernel):
    """How many calls of the only version queue, and how many run."""
    (version,) = kernel.status().models[0].versions
    return version.queued, version.running


async def test_a_slow_model_starves_no_other(open_world, shelf, at, connect):
    """While the slow model has a queue, the quick one answers, and heartbeats do."""
    shelf.put("held", 1)
    shelf.put("sum", 1)
    world = await open_world(ServingPolicy(max_batch_rows=1))
    await world.apply(at("held"), at("sum"))
    client, heart = connect("rest", world), connect("zmq", world)
    slow = [asyncio.create_task(heart.predict("held", RECORDS)) for _ in range(8)]
    await until_async(lambda: sum(work(world.kernel)) == 8)
    for _ in range(5):
        assert (await client.predict("sum", RECORDS)).error is None
        assert (await heart.ask("heartbeat"))["type"] == "heartbeat_ack"
    assert not any(task.done() for task in slow)
    shelf.let_go()
    assert {reply.error for reply in await asyncio.gather(*slow)} == {None}


async def test_work_whose_deadline_passed_is_not_started(open_world, shelf, at, connect):
    """A client's deadline ends its call; what still waited then is never run."""
    shelf.put("held", 1)
    world = await open_world(ServingPolicy(max_batch_rows=1))
    await world.apply(at("held"))
    client = connect("grpc", world)
    busy = asyncio.create_task(client.predict("held", RECORDS))
    await until_async(lambda: work(world.kernel) == (0, 1))
    late = await asyncio.gather(*(client.predict("held", RECORDS, wait=0.1) for _ in range(4)))
    assert {reply.error for reply in late} == {"deadline"}
    queue = world.kernel.served("held").lane._queue
    await until_async(lambda: len(queue) == len(late) and all(one.settled or one.is_abandoned for one in queue))
    shelf.let_go()
    assert (await busy).error is None
    await until_async(lambda: work(world.kernel) == (0, 0))
    (counters,) = version_counters(world.kernel.counters.totals())
    assert counters.rows == 1


async def test_a_full_bulkhead_turns_away_with_a_time(open_world, shelf, at, connect):
    """Above max_queue requests are 429 with Retry-After; those inside are answered."""
    policy = ServingPolicy(max_batch_rows=1, bulkhead=BulkheadPolicy(max_concurrent=1, max_queue=2))
    shelf.put("held", 1)
    world = await open_world(policy)
    await world.apply(at("held"))
    client = connect("rest", world)
    asked = [asyncio.create_task(client.http.post("/v1/held/predict", json=RECORDS)) for _ in range(12)]
    await until_async(lambda: sum(task.done() for task in asked) + sum(work(world.kernel)) == 12)
    shelf.let_go()
    responses = await asyncio.gather(*asked)
    codes = sorted(response.status_code for response in responses)
    assert set(codes) == {200, 429}
    assert all("retry-after" in response.headers for response in responses if response.status_code == 429)
    (counters,) = version_counters(world.kernel.counters.totals())
    assert counters.rejected == codes.count(429)


async def _let_go_when_closed(shelf, port):
    def refused():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    await until_async(refused)
    shelf.let_go()


async def test_two_kernels_live_in_one_process(open_world, shelf, at, connect):
    """Two kernels host different versions of one model without touching each other."""
    for number in (1, 2):
        shelf.put("sum", number, bias=100.0 * number)
    one, two = await open_world(), await open_world()
    await one.apply(at("sum", 1))
    await two.apply(at("sum", 2))
    first = await connect("rest", one).predict("sum", RECORDS)
    second = await connect("rest", two).predict("sum", RECORDS)
    assert (first.body["predictions"], second.body["predictions"]) == ([106.0], [206.0])
    assert version_counters(one.kernel.counters.totals())[0].version == 1
    assert version_counters(two.kernel.counters.totals())[0].version == 2


async def test_a_canary_gets_its_share_and_keys_stick(open_world, shelf, at):
    """Of many calls the canary gets about its share; one key always gets one version."""
    for number in (1, 2):
        shelf.put("sum", number)
    world = await open_world(rng=random.Random(3))
    await world.apply(at("sum", routes=(Route(version=1, share=0.8), Route(version=2, share=0.2))))

    async def version(key: str | None) -> int:
        call = InferenceCall(model="sum", input=Records(rows=[ROW]), door="rest", key=key)
        return (await world.kernel.infer(call)).metadata.version

    by_chance = await asyncio.gather(*(version(None) for _ in range(1000)))
    assert 140 < by_chance.count(2) < 260
    keyed = await asyncio.gather(*(version(f"user-{place}") for place in range(1000)))
    assert 140 < keyed.count(2) < 260
    assert await asyncio.gather(*(version(f"user-{place}") for place in range(1000))) == keyed


async def test_a_shadow_sees_a_copy_and_answers_nobody(open_world, shelf, at, connect, spool):
    """Shadow rows are logged as such; answers come from production alone."""
    for number in (1, 2):
        shelf.put("sum", number, bias=100.0 * number)
    world = await open_world(sink=spool)
    await world.apply(at("sum", 1, shadow=2))
    client = connect("rest", world)
    for _ in range(5):
        assert (await client.predict("sum", RECORDS)).body["predictions"] == [106.0]

    def rows():
        return {c.version: c.rows for c in version_counters(world.kernel.counters.totals())}

    await until_async(lambda: rows() == {1: 5, 2: 5})
    blocks = logged(spool)
    assert {(block.version, block.shadow) for block in blocks} == {(1, False), (2, True)}


async def test_the_correlation_id_comes_back_and_is_logged(open_world, shelf, at, connect, spool):
    """What the caller sends as X-Request-ID is in the answer's headers and beside the rows in the log."""
    shelf.put("sum", 1)
    world = await open_world(sink=spool)
    await world.apply(at("sum"))
    response = await connect("rest", world).http.post("/v1/sum/predict", json=ROW, headers={"x-request-id": "order-7"})
    assert response.headers["x-request-id"] == "order-7"
    (block,) = logged(spool)
    assert id_texts(block.prediction_ids) == [response.json()["prediction_id"]]
    assert block.correlation_ids == "order-7"
    assert block.features.tolist() == [[1.0, 2.0, 3.0]]


async def test_a_bad_row_fails_only_its_own_request(open_world, shelf, at, connect):
    """Requests that share a batch with a failing one are answered."""
    shelf.put("failing", 1)
    world = await open_world()
    await world.apply(at("failing"))
    client = connect("rest", world)
    bodies = [{"records": [{**ROW, "a": -1.0 if place == 7 else 1.0}]} for place in range(20)]
    replies = await asyncio.gather(*(client.predict("failing", body) for body in bodies))
    assert [place for place, reply in enumerate(replies) if reply.error] == [7]


async def test_too_many_rows_are_refused_by_number(open_world, shelf, at, connect):
    """More rows than the bound are 413 with both numbers in the message."""
    shelf.put("sum", 1)
    world = await open_world(ServingPolicy(max_rows=10))
    await world.apply(at("sum"))
    reply = await connect("rest", world).predict("sum", {"records": [ROW] * 11})
    assert reply.error == "too_large"
    assert "11" in reply.message
    assert "10" in reply.message


async def test_too_many_bytes_are_refused(open_world, shelf, at, connect):
    """A body over the bound is 413, announced or chunked."""
    shelf.put("sum", 1)
    world = await open_world(ServingPolicy(max_body_bytes=1000))
    await world.apply(at("sum"))
    client = connect("rest", world)
    body = json.dumps({"records": [ROW] * 100})
    assert (await client.predict("sum", body)).error == "too_large"

    async def chunks():
        for start in range(0, len(body), 100):
            yield body[start : start + 100].encode()

    assert (await client.http.post("/v1/sum/predict", content=chunks())).status_code == 413


async def test_a_failing_row_is_logged_with_its_error(open_world, shelf, at, connect, spool):
    """A failed row is logged without a prediction, with type and place of the exception; messages may quote rows."""
    shelf.put("failing", 1)
    world = await open_world(sink=spool)
    await world.apply(at("failing"))
    await connect("rest", world).predict("failing", {"records": [{**ROW, "a": -1}]})
    (block,) = logged(spool)
    assert block.predictions is None
    assert block.errors == ("The model raised RuntimeError at models:39 predict.",)


async def test_unloading_frees_and_loading_brings_back(open_world, shelf, at, connect):
    """The repository calls work where they are wired, answer when done, and change nothing that is desired."""
    shelf.put("sum", 1)
    world = await open_world(ServingPolicy(repository_control="explicit"))
    world.kernel.repository = OneProcess(world.kernel)
    keys = {hashlib.sha256(b"k").hexdigest(): ("deploy",)}
    await world.apply(at("sum"), keys=keys)
    client = connect("rest", world, "k")
    assert (await client.http.post("/v2/repository/models/sum/unload")).status_code == 200
    assert (await client.predict("sum", RECORDS)).error == "unavailable"
    assert world.kernel.readiness().ready
    assert (await client.http.post("/v2/repository/models/sum/load")).status_code == 200
    assert (await client.predict("sum", RECORDS)).error is None
    assert (await client.http.post("/v2/repository/models/nobody/load")).status_code == 404
    for given in ({"config": "{}"}, {"file:1/model.onnx": "x"}, {"model_path": 1}):
        answer = await client.http.post("/v2/repository/models/sum/load", json={"parameters": given})
        assert (answer.status_code, next(iter(given)) in answer.json()["error"]) == (400, True)
    with pytest.raises(ModelNotFound):
        await world.kernel.unload("nobody")


async def test_a_version_of_other_code_is_refused(open_world, shelf, at, connect):
    """A promotion to another code digest needs a new image; the running version stays."""
    shelf.put("sum", 1)
    served = shelf.put("sum", 2)
    shelf.served["sum", 2] = replace(
        served, code_digest=Digest(f"sha256:{1:064x}"), release_tag="sum-v2.0.0-mlserver-dev"
    )
    world = await open_world()
    await world.apply(at("sum", 1))
    (report,) = await world.apply(at("sum", 2, generation=2))
    assert report.version_serving == 1
    assert "sum-v2.0.0-mlserver-dev" in report.error


async def test_a_model_no_longer_desired_is_gone(open_world, shelf, at, connect):
    """A state without the model drains and drops it."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    await world.apply()
    assert (await connect("rest", world).predict("sum", RECORDS)).error == "not_found"


async def test_logging_required_refuses_what_is_not_logged(make_kernel, shelf, at):
    """With logging.required a log that takes nothing makes the answer StoreUnavailable."""

    class Full:
        def append(self, _block) -> bool:
            return False

        def append_labels(self, _labels) -> bool:
            return False

    shelf.put("sum", 1)
    async with make_kernel(ServingPolicy(logging_required=True), sink=Full()) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        with pytest.raises(StoreUnavailable):
            await kernel.infer(InferenceCall(model="sum", input=Records(rows=[ROW]), door="rest"))


def logged(spool):
    """The blocks in *spool*."""
    spool.seal()
    return [block for sealed in sealed_segments(spool.directory) for block in read_segment(sealed.path).blocks]


async def test_a_model_whose_backend_died_is_not_ready(open_world, shelf, at, connect):
    """When the backend of a routed version dies, the model is not ready and says why; the server stays ready."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    assert world.kernel.readiness().ready
    world.kernel.served("sum").artifact.backend.kill()
    readiness = world.kernel.readiness()
    assert readiness.ready
    assert (await connect("rest", world).http.get("/v2/models/sum/ready")).status_code == 503
    assert [check.detail for check in readiness.checks if not check.passed] == [
        "The model was unloaded, so it can no longer predict."
    ]
    assert (await connect("rest", world).predict("sum", RECORDS)).error == "model_failed"


async def test_a_server_that_closes_says_so_in_its_last_answers(shelf, at, make_kernel, tmp_path):
    """A request on an idle connection just after the server began to close is answered, with ``Connection: close``."""
    shelf.put("sum", 1)
    sent = json.dumps(RECORDS).encode()
    async with AsyncExitStack() as proxies:
        kernel = await proxies.enter_async_context(make_kernel())
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        servers = AsyncExitStack()
        port = await open_door(REST, proxies, servers, kernel, tmp_path, fast=True)
        connection = await Connection.to(port)
        await connection.send(request("/v1/sum/predict", sent))
        assert "connection" not in (await connection.answer()).headers
        closing = asyncio.create_task(servers.aclose())
        await asyncio.sleep(0)
        await connection.send(request("/v1/sum/predict", sent) * 2)
        answers = [await connection.answer() for _ in range(2)]
        assert [json.loads(answer.body)["predictions"] for answer in answers] == [[6.0], [6.0]]
        assert [answer.headers.get("connection") for answer in answers] == [None, "close"]
        await closing
        assert await connection.rest() == b""
        await connection.close()
