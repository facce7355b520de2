"""The contract of Door: one table of scenarios, every door of the table, equal answers and equal errors."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio

from mendel.app.settings import ServingSettings
from mendel.predictions import id_texts, read_segment, sealed_segments
from mendel.serving import ServingPolicy
from mendel.transports.door_table import DOORS
from support.doors import CLIENTS, World, connect, open_door, open_doors, open_world
from support.served_models import Shelf, at, deployed, make_kernel, new_kernel, shelf, spool, write_project
from support.waiting import until_async

__all__ = ["at", "connect", "make_kernel", "open_world", "shelf", "spool"]

ROW = {"a": 1.0, "b": 2.0, "c": 3.5}
KEYS = {
    hashlib.sha256(secret.encode()).hexdigest(): scopes
    for secret, scopes in {"reader": ("read",), "caller": ("predict",), "root": ("admin",)}.items()
}
FORMS = [(door, fast) for door in DOORS for fast in ((False, True) if door.has_fast_form else (False,))]
each_door = pytest.mark.parametrize(
    ("door", "fast"), FORMS, ids=[f"{door.name} {'fast' if fast else 'standard'}" for door, fast in FORMS]
)


@dataclass(frozen=True)
class Scenario:
    """A plain request, and the answer or the error that it gets at every door."""

    model: str
    body: Any
    answer: dict[str, Any] | None = None
    error: str | None = None
    names: str = ""
    proba: bool = False


SCENARIOS = {
    "records": Scenario("sum", {"records": [ROW, ROW]}, {"predictions": [6.5, 6.5]}),
    "payload": Scenario("sum", {"payload": {"records": [ROW]}}, {"predictions": [6.5]}),
    "instances": Scenario("sum", {"instances": [[1, 2, 3.5]]}, {"predictions": [6.5]}),
    "ndarray, one flat row": Scenario("sum", {"ndarray": [1, 2, 3.5]}, {"predictions": [6.5]}),
    "columns": Scenario("sum", {"inputs": {"c": [3.5], "a": [1], "b": [2]}}, {"predictions": [6.5]}),
    "split": Scenario(
        "sum", {"dataframe_split": {"columns": ["c", "a", "b"], "data": [[9, 1, 2]]}}, {"predictions": [12.0]}
    ),
    "one flat object": Scenario("sum", ROW, {"prediction": 6.5, "model_version": "1"}),
    "a list of records": Scenario("sum", [ROW], {"predictions": [6.5]}),
    "classes": Scenario("proba", {"records": [ROW]}, {"predictions": ["yes"]}),
    "probabilities": Scenario("proba", {"records": [{**ROW, "c": -3.0}]}, {"classes": ["no", "yes"]}, proba=True),
    "missing feature": Scenario("sum", {"records": [ROW, {"a": 1, "b": 2}]}, error="invalid", names="'c'"),
    "unknown feature": Scenario("sum", {"records": [{**ROW, "d": 1}]}, error="invalid", names="'d'"),
    "text for a number": Scenario("sum", {"records": [{**ROW, "b": "2"}]}, error="invalid", names="'b'"),
    "truth for a number": Scenario("sum", {"records": [{**ROW, "b": True}]}, error="invalid", names="'b'"),
    "null where none may be": Scenario("sum", {"records": [{**ROW, "b": None}]}, error="invalid", names="'b'"),
    "a number beyond floats": Scenario("sum", '{"records": [{"a": 1e999, "b": 1, "c": 1}]}', error="invalid"),
    "NaN is not JSON": Scenario("sum", '{"records": [{"a": NaN, "b": 1, "c": 1}]}', error="invalid"),
    "too few values": Scenario("sum", {"instances": [[1, 2]]}, error="invalid", names="'c'"),
    "too many values": Scenario("sum", {"instances": [[1, 2, 3, 4]]}, error="invalid"),
    "no rows": Scenario("sum", {"records": []}, error="invalid"),
    "not JSON": Scenario("sum", "{", error="invalid"),
    "a bare number": Scenario("sum", 7, error="invalid"),
    "unknown model": Scenario("nobody", {"records": [ROW]}, error="not_found", names="'nobody'"),
    "no probabilities": Scenario("sum", {"records": [ROW]}, error="unsupported", proba=True),
    "model's own fault": Scenario("failing", {"records": [{**ROW, "a": -1}]}, error="model_failed", names="negative"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[False, True], ids=["standard", "fast"])
async def world(tmp_path_factory, request):
    """Three models behind every door, in either form, for all scenarios."""
    directory = tmp_path_factory.mktemp("world")
    write_project(directory)
    shelf = Shelf(directory)
    for name in ("sum", "failing", "proba"):
        shelf.put(name, 1)
    async with AsyncExitStack() as stack:
        kernel = await stack.enter_async_context(new_kernel(shelf))
        world = World(kernel, shelf, await open_doors(stack, kernel, directory, fast=request.param))
        await world.apply(deployed("sum"), deployed("failing"), deployed("proba"))
        yield world


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(world):
    """A client of each door."""
    clients = {door.name: CLIENTS[door.name](world) for door in DOORS}
    yield clients
    for client in clients.values():
        await client.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", SCENARIOS)
async def test_every_door_answers_alike(clients, name: str):
    """The same request gets the same answer, or the same error naming the same thing, at every door."""
    scenario = SCENARIOS[name]
    said = {}
    for door in DOORS:
        if name in door.skips:
            continue
        reply = said[door.name] = await clients[door.name].predict(scenario.model, scenario.body, proba=scenario.proba)
        assert reply.error == scenario.error, reply
        assert scenario.names in reply.message
        for key, value in (scenario.answer or {}).items():
            assert reply.body[key] == value
    assert len({reply.message for reply in said.values()}) == 1
    volatile = {"time_ms", "timestamp", "metadata", "error"}
    first, *others = [{k: v for k, v in reply.body.items() if k not in volatile} for reply in said.values()]
    assert all(other == first for other in others)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
async def test_without_a_log_answers_say_so(clients, door):
    """Without a sink, ids are null and the answer says that it is not logged."""
    reply = await clients[door.name].predict("sum", {"records": [ROW]})
    assert reply.body["prediction_ids"] is None
    assert reply.body["logged"] is False


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
async def test_metadata_says_which_version_and_code_answered(clients, door):
    """The metadata of an answer names classifier, class, module, version and uuid."""
    metadata = (await clients[door.name].predict("sum", {"records": [ROW]})).body["metadata"]
    assert (metadata["classifier"], metadata["model_version"]) == ("sum", "1")
    assert (metadata["predictor_class"], metadata["predictor_module"]) == ("Sum", "models")
    assert metadata["model_uuid"] == f"m-{1:032x}"


def test_every_door_is_declared_once_and_has_a_client():
    """Names, keys and default ports are unique; each door has a client here, and skips only scenarios that exist."""
    names, keys = [door.name for door in DOORS], [door.ports.key for door in DOORS]
    assert len(set(names)) == len(set(keys)) == len(DOORS)
    assert set(names) == set(CLIENTS)
    ports = [port for ports in ServingSettings().ports.values() for port in ports]
    assert len(set(ports)) == len(ports)
    assert any(door.health_path and door.ports.several for door in DOORS)
    for door in DOORS:
        assert door.skips.keys() <= SCENARIOS.keys()


def test_a_declaration_imports_nothing_of_its_protocol():
    """Who reads the table of doors has imported no server, no socket library and no kernel."""
    program = (
        "import sys; from mendel.transports.door_table import DOORS\n"
        "print([name for name in ('grpc', 'zmq', 'uvicorn', 'numpy', 'mendel.serving') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@each_door
async def test_predicting_is_open_until_a_key_for_it_exists(open_world, shelf, at, connect, door):
    """Without a predict key anybody may predict; with one, only its holders and admin."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    assert (await connect(door.name, world).predict("sum", {"records": [ROW]})).error is None
    await world.apply(at("sum"), keys=KEYS)
    for key, error in ((None, "unauthenticated"), ("wrong", "unauthenticated"), ("reader", "forbidden")):
        assert (await connect(door.name, world, key).predict("sum", {"records": [ROW]})).error == error
    for key in ("caller", "root"):
        assert (await connect(door.name, world, key).predict("sum", {"records": [ROW]})).error is None


@each_door
async def test_the_servers_own_deadline_holds(open_world, shelf, at, connect, door):
    """A model slower than the policy's timeout is the deadline's error."""
    shelf.put("held", 1)
    world = await open_world(ServingPolicy(request_timeout=timedelta(milliseconds=100)))
    await world.apply(at("held"))
    assert (await connect(door.name, world).predict("held", {"records": [ROW]})).error == "deadline"
    shelf.let_go()


@each_door
async def test_answers_carry_the_ids_under_which_they_are_logged(open_world, shelf, at, *, connect, spool, door):
    """Every answered row is in the log under the door's name, with its id, features and answer."""
    shelf.put("sum", 1)
    world = await open_world(sink=spool)
    await world.apply(at("sum"))
    reply = await connect(door.name, world).predict("sum", {"records": [ROW, ROW]})
    spool.seal()
    (sealed,) = sealed_segments(spool.directory)
    (block,) = read_segment(sealed.path).blocks
    block.check()
    assert id_texts(block.prediction_ids) == reply.body["prediction_ids"]
    assert (block.door, block.predictions.tolist()) == (door.name, reply.body["predictions"])
    assert block.features.tolist() == [list(ROW.values())] * 2


@each_door
async def test_requests_are_counted(open_world, shelf, at, connect, door):
    """A request is counted once, by its status, and its rows under the door's name."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"))
    client = connect(door.name, world)
    await client.predict("sum", {"records": [ROW, ROW]})
    await client.predict("sum", {"records": [{"a": 1}]})
    samples = [line for line in world.kernel.metrics().splitlines() if line.startswith("mlserver_requests_total")]
    assert [line.rsplit(" ", 1)[1] for line in samples] == ["1", "1"]
    assert f'mlserver_predictions_total{{endpoint="{door.name}",model="sum"}} 2' in world.kernel.metrics()


@each_door
async def test_a_server_without_models_is_unavailable(open_world, connect, door):
    """Before anything is desired the door answers, and says that nothing can be answered yet."""
    world = await open_world()
    assert (await connect(door.name, world).predict("sum", {"records": [ROW]})).error == "unavailable"


@each_door
async def test_what_is_in_flight_finishes_when_a_door_closes(shelf, at, make_kernel, tmp_path, *, door, fast):
    """Closing answers the running request; afterwards the port of a door without a proxy is free."""
    shelf.put("held", 1)
    async with AsyncExitStack() as proxies:
        kernel = await proxies.enter_async_context(make_kernel())
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        async with AsyncExitStack() as servers:
            port = await open_door(door, proxies, servers, kernel, tmp_path, fast=fast)
            client = CLIENTS[door.name](SimpleNamespace(ports={door.name: port}))
            running = asyncio.create_task(client.predict("held", {"records": [ROW]}))
            await until_async(lambda: kernel.status().active == 1)
            shelf.let_go()
        assert (await running).error is None
        await client.close()
        if door.proxy is None:
            with socket.create_server(("127.0.0.1", port)):
                pass
