"""One scenario table, every door: equal answers, equal errors."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from mendel.serving import ServingPolicy
from mendel.transports.door_table import DOORS

ROW = {"a": 1.0, "b": 2.0, "c": 3.5}

DOOR_NAMES = [door.name for door in DOORS]


@dataclass(frozen=True)
class Scenario:
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


@pytest.fixture
async def world(open_world, shelf, at):
    for name in ("sum", "failing", "proba"):
        shelf.put(name, 1)
    world = await open_world()
    await world.apply(at("sum"), at("failing"), at("proba"))
    return world


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=list(SCENARIOS))
async def test_every_door_answers_alike(world, connect, scenario: Scenario):
    """The same request gets the same answer, or the same error naming the same thing, at every door."""
    said = {}
    for door in DOOR_NAMES:
        said[door] = await connect(door, world).predict(scenario.model, scenario.body, proba=scenario.proba)
        assert said[door].error == scenario.error, said[door]
        assert scenario.names in said[door].message
        for name, value in (scenario.answer or {}).items():
            assert said[door].body[name] == value
    assert len({reply.message for reply in said.values()}) == 1
    volatile = {"time_ms", "timestamp", "metadata", "error"}
    stable = [{k: v for k, v in reply.body.items() if k not in volatile} for reply in said.values()]
    assert stable[0] == stable[1] == stable[2]


async def test_a_bad_row_fails_only_its_own_request(world, connect):
    """Requests that share a batch with a failing one are answered."""
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


async def test_a_server_without_models_says_so(open_world, connect):
    """Before anything is desired every door says unavailable, and is alive."""
    world = await open_world()
    for door in DOOR_NAMES:
        assert (await connect(door, world).predict("sum", {"records": [ROW]})).error in {"not_found", "unavailable"}
    assert (await connect("rest", world).http.get("/healthz")).status_code == 200
    assert (await connect("rest", world).http.get("/health")).status_code == 503


async def test_metadata_says_which_version_and_code_answered(world, connect):
    """The metadata of an answer names classifier, class, module, version and uuid."""
    reply = await connect("rest", world).predict("sum", {"records": [ROW]})
    metadata = reply.body["metadata"]
    assert metadata["classifier"] == "sum"
    assert metadata["predictor_class"] == "Sum"
    assert metadata["predictor_module"] == "models"
    assert metadata["model_version"] == "1"
    assert metadata["model_uuid"] == f"m-{1:032x}"


async def test_without_a_log_answers_say_so(world, connect):
    """Without a sink, ids are null and the answer says that it is not logged."""
    for door in DOOR_NAMES:
        reply = await connect(door, world).predict("sum", {"records": [ROW]})
        assert reply.body["prediction_ids"] is None
        assert reply.body["logged"] is False
