"""What is deployed and not loaded yet, at every door."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from datetime import timedelta

import pytest

from mendel.errors import NotReady
from mendel.protos import open_inference_pb2
from mendel.serving import ServingPolicy
from mendel.values import ModelName
from support.doors import DOOR_NAMES
from support.waiting import until_async

RECORDS = {"records": [{"a": 1.0, "b": 2.0, "c": 3.0}]}


async def test_a_deployed_model_is_never_unknown(open_world, shelf, at, connect):
    """
    Before anything is said, while its artefact is on its way, and while it loads, every door says unavailable.

    An unknown model is not found as soon as it is known what is deployed.
    """
    served = shelf.put("sum", 1)
    world = await open_world()
    clients = [connect(door, world) for door in DOOR_NAMES]

    async def said(model):
        return [(await client.predict(model, RECORDS)).error for client in clients]

    assert await said("sum") == ["unavailable"] * len(DOOR_NAMES)

    world.kernel.expect({ModelName("sum"): None})
    await world.apply()
    assert await said("sum") == ["unavailable"] * len(DOOR_NAMES)
    assert await said("product") == ["not_found"] * len(DOOR_NAMES)
    assert not world.kernel.readiness().ready

    gate = threading.Event()

    def fetch(digest):
        assert gate.wait(20)
        return shelf.fetch(digest)

    applying = asyncio.create_task(world.kernel.apply(shelf.desire(at("sum")), fetch))
    await asyncio.sleep(0)
    assert await said("sum") == ["unavailable"] * len(DOOR_NAMES)
    assert await said("product") == ["not_found"] * len(DOOR_NAMES)
    response = await clients[0].http.post("/v1/sum/predict", json=RECORDS)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    gate.set()
    (report,) = await applying
    assert report.version_serving == served.number
    assert await said("sum") == [None] * len(DOOR_NAMES)


async def test_a_version_that_is_still_loading_is_never_unknown(open_world, shelf, at, connect):
    """While a promotion loads, its version is unavailable by number and the former one answers."""
    for number in (1, 2):
        shelf.put("sum", number)
    world = await open_world()
    await world.apply(at("sum", 1, generation=1))
    client = connect("rest", world)
    gate = threading.Event()

    def fetch(digest):
        assert gate.wait(20)
        return shelf.fetch(digest)

    applying = asyncio.create_task(world.kernel.apply(shelf.desire(at("sum", 2, generation=2)), fetch))
    await asyncio.sleep(0)
    asked = [(await client.http.get(f"/v2/models/sum/versions/{number}")).status_code for number in (1, 2, 3)]
    assert asked == [200, 503, 404]
    assert (await client.predict("sum", RECORDS)).body["metadata"]["model_version"] == "1"
    gate.set()
    await applying


@pytest.mark.parametrize("door", DOOR_NAMES)
async def test_a_starting_server_answers_no_model_at_any_door(open_world, shelf, at, connect, door):
    """While one deployed model still loads, calls for a loaded one say what is missing; after it, both answer."""
    slow = shelf.put("sum", 1)
    shelf.put("proba", 1)
    world = await open_world()
    client, gate = connect(door, world), threading.Event()

    def fetch(digest):
        assert digest != slow.artifact_digest or gate.wait(20)
        return shelf.fetch(digest)

    applying = asyncio.create_task(world.kernel.apply(shelf.desire(at("sum"), at("proba")), fetch))
    await until_async(lambda: "proba" in [hosted.deployment.model for hosted in world.kernel.models()])
    said = await client.predict("proba", RECORDS)
    assert (said.error, said.message) == ("unavailable", "This server is starting: not loaded yet: sum.")
    assert not world.kernel.readiness().ready
    gate.set()
    await applying
    assert world.kernel.readiness().ready
    assert [(await client.predict(model, RECORDS)).error for model in ("sum", "proba")] == [None, None]


async def test_the_only_worker_after_a_crash_answers_for_each_model_as_soon_as_it_is_loaded(
    open_world, shelf, at, connect
):
    """In a server that has served before, a slow load keeps no other model from its callers."""
    slow = shelf.put("sum", 1)
    shelf.put("proba", 1)
    world = await open_world()
    client, gate = connect("rest", world), threading.Event()
    world.kernel.expect({ModelName("sum"): None, ModelName("proba"): None}, resumed=True)

    def fetch(digest):
        assert digest != slow.artifact_digest or gate.wait(20)
        return shelf.fetch(digest)

    applying = asyncio.create_task(world.kernel.apply(shelf.desire(at("sum"), at("proba")), fetch))
    await until_async(lambda: "proba" in [hosted.deployment.model for hosted in world.kernel.models()])
    assert (await client.predict("proba", RECORDS)).error is None
    said = await client.predict("sum", RECORDS)
    assert (said.error, said.message) == ("unavailable", "Model 'sum' is not loaded yet.")
    gate.set()
    await applying


@pytest.mark.parametrize("door", DOOR_NAMES)
async def test_a_model_that_cannot_be_loaded_takes_no_other_model_out(open_world, shelf, at, connect, door):
    """Its calls are unavailable with the reason; the server is ready and the other model answers."""
    shelf.put("sum", 1)
    shelf.put("broken", 1)
    world = await open_world()
    await world.apply(at("sum"), at("broken"))
    client = connect(door, world)
    said = await client.predict("broken", RECORDS)
    assert said.error == "unavailable"
    assert "input example" in said.message
    assert (await client.predict("sum", RECORDS)).error is None
    assert world.kernel.readiness().state == "degraded"
    assert world.kernel.readiness().ready


async def test_every_door_tells_a_failed_model_as_not_ready(open_world, shelf, at, connect):
    """Ready routes, the repository index, the status and the information name the model and its reason."""
    shelf.put("broken", 1)
    world = await open_world()
    await world.apply(at("broken"), keys={hashlib.sha256(b"k").hexdigest(): ("read", "predict")})
    http = connect("rest", world, "k").http
    assert (await http.get("/health")).json() == {"status": "ok"}
    response = await http.get("/v2/models/broken/ready")
    assert (response.status_code, response.headers["retry-after"]) == (503, "15")
    assert "input example" in response.json()["error"]
    (entry,) = (await http.post("/v2/repository/index")).json()
    assert (entry["state"], "input example" in entry["reason"]) == ("UNAVAILABLE", True)
    (one,) = (await http.get("/info")).json()["not_ready"]
    assert one["name"] == "broken"
    ready = await connect("grpc", world).v2.ModelReady(open_inference_pb2.ModelReadyRequest(name="broken"))
    assert not ready.ready


async def test_a_load_beyond_its_time_has_failed_and_keeps_no_other_model_waiting(open_world, shelf, at, connect):
    """The slow model is reported as failed at load_timeout; another one serves meanwhile, and a promotion of it too."""
    slow = shelf.put("sum", 1)
    for number in (1, 2):
        shelf.put("proba", number)
    world = await open_world(ServingPolicy(load_timeout=timedelta(seconds=4)))
    gate = threading.Event()

    def fetch(digest):
        assert digest != slow.artifact_digest or gate.wait(30)
        return shelf.fetch(digest)

    first = asyncio.create_task(world.kernel.apply(shelf.desire(at("sum"), at("proba", 1)), fetch))
    await until_async(lambda: _serving(world.kernel, "proba") == 1)
    state = shelf.desire(at("sum"), at("proba", 2, generation=2))
    second = asyncio.create_task(world.kernel.apply(state, fetch))
    await until_async(lambda: _serving(world.kernel, "proba") == 2)
    assert not second.done()
    reports = {report.model: report for report in await second}
    await first
    assert (reports["sum"].failed_version, reports["sum"].version_at_fault) == (1, True)
    assert "serving.load_timeout" in reports["sum"].error
    assert world.kernel.readiness().ready
    gate.set()
    async with asyncio.timeout(20):
        while _serving(world.kernel, "sum") != 1:
            await world.kernel.apply(state, fetch)


def _serving(kernel, model):
    return next((report.version_serving for report in kernel.convergence if report.model == model), None)


async def test_a_newer_deployment_does_not_wait_for_a_load_of_the_former(open_world, shelf, at):
    """While version 2 loads, a roll back to version 1 takes effect at once, and version 2 never serves."""
    shelf.put("sum", 1)
    slow = shelf.put("sum", 2)
    world = await open_world()
    await world.apply(at("sum", 1, generation=1))
    gate = threading.Event()

    def fetch(digest):
        assert digest != slow.artifact_digest or gate.wait(30)
        return shelf.fetch(digest)

    promoting = asyncio.create_task(world.kernel.apply(shelf.desire(at("sum", 2, generation=2)), fetch))
    await asyncio.sleep(0)
    (report,) = await world.kernel.apply(shelf.desire(at("sum", 1, generation=3)), fetch)
    assert (report.generation_serving, report.version_serving) == (3, 1)
    gate.set()
    await promoting
    assert _serving(world.kernel, "sum") == 1


async def test_a_server_that_drains_is_unavailable(open_world, shelf, at):
    """A kernel that has begun to drain knows no model any more, and says that it drains instead of that."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    await world.kernel.__aexit__(None, None, None)
    with pytest.raises(NotReady, match="stopped"):
        world.kernel.deployed("sum")
