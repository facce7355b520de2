"""What is deployed and not loaded yet, at every door."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mendel.errors import NotReady
from mendel.values import ModelName
from support.doors import DOOR_NAMES

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

    world.kernel.expect([ModelName("sum")])
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


async def test_a_server_that_drains_is_unavailable(open_world, shelf, at):
    """A kernel that has begun to drain knows no model any more, and says that it drains instead of that."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    await world.kernel.__aexit__(None, None, None)
    with pytest.raises(NotReady, match="stopped"):
        world.kernel.deployed("sum")
