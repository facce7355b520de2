"""Triton's statistics extension: what was asked, answered and failed, per version."""

from __future__ import annotations

import pytest

from mendel.protos import open_inference_pb2 as pb

RECORDS = {"records": [{"a": 1.0, "b": 2.0, "c": 3.5}] * 2}
FAULTY = {"records": [{"a": -1.0, "b": 2.0, "c": 3.5}]}


@pytest.fixture
async def world(open_world, shelf, at):
    """A server with two models; ``failing`` fails rows that begin with a negative number."""
    shelf.put("sum", 1)
    shelf.put("failing", 2)
    world = await open_world()
    await world.apply(at("sum"), at("failing", 2))
    return world


@pytest.fixture
def client(world, connect):
    return connect("rest", world)


async def test_requests_rows_and_calls_are_counted(client):
    """Requests with and without a prediction, rows and calls of the model are counted, and their times add up."""
    for body in (RECORDS, RECORDS, FAULTY):
        await client.predict("failing", body)
    (found,) = (await client.http.get("/v2/models/failing/stats")).json()["model_stats"]
    times = found["inference_stats"]
    assert (found["name"], found["version"], found["inference_count"], found["execution_count"]) == (
        "failing", "2", 5, 3,
    )  # fmt: skip
    assert (times["success"]["count"], times["fail"]["count"]) == (2, 1)
    assert times["queue"]["count"] == times["compute_infer"]["count"] == 3
    assert 0 < times["fail"]["ns"] < times["queue"]["ns"] + times["compute_infer"]["ns"] + 10_000
    whole = times["success"]["ns"] + times["fail"]["ns"]
    assert abs(whole - times["queue"]["ns"] - times["compute_infer"]["ns"]) < 10_000


async def test_statistics_of_one_version_and_of_all_models(client):
    """A version, a model or all models can be asked for; a model that was never asked has zeros."""
    await client.predict("sum", RECORDS)
    everything = (await client.http.get("/v2/models/stats")).json()["model_stats"]
    assert [(one["name"], one["version"], one["inference_count"]) for one in everything] == [
        ("failing", "2", 0),
        ("sum", "1", 2),
    ]
    (one,) = (await client.http.get("/v2/models/sum/versions/1/stats")).json()["model_stats"]
    assert one == everything[1]


@pytest.mark.parametrize("path", ["/v2/models/nobody/stats", "/v2/models/sum/versions/9/stats"])
async def test_unknown_models_and_versions_have_no_statistics(client, path: str):
    """A model or version that is not deployed is 404."""
    response = await client.http.get(path)
    assert response.status_code == 404
    assert response.json()["error"]


async def test_grpc_gives_the_same_statistics(world, client, connect):
    """The numbers over gRPC are those over REST."""
    for body in (RECORDS, FAULTY):
        await client.predict("failing", body)
    told = await connect("grpc", world).v2.ModelStatistics(pb.ModelStatisticsRequest(name="failing", version="2"))
    (expected,) = (await client.http.get("/v2/models/failing/stats")).json()["model_stats"]
    (found,) = told.model_stats
    assert (found.name, found.version) == ("failing", "2")
    assert (found.inference_count, found.execution_count) == (3, 2)
    for name, times in expected["inference_stats"].items():
        duration = getattr(found.inference_stats, name)
        assert {"count": duration.count, "ns": duration.ns} == times
