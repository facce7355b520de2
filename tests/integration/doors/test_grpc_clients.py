"""Clients that others made find Mendel's doors right: grpc-go, grpc-js, tritonclient, KServe; over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from google.protobuf import descriptor_pb2, empty_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from mendel.protos import modelops_pb2, open_inference_pb2
from mendel.serving import ServingPolicy
from support.doors import OneProcess, World
from support.programs import grpc_client

AGE_S = 1
KEYS = {hashlib.sha256(b"caller").hexdigest(): ("predict", "read", "deploy")}


def descriptors() -> str:
    """The services of the door as clients load them, in base64."""
    found = descriptor_pb2.FileDescriptorSet()
    for module in (empty_pb2, open_inference_pb2, modelops_pb2, health_pb2, reflection_pb2):
        module.DESCRIPTOR.CopyToProto(found.file.add())
    return base64.b64encode(found.SerializeToString()).decode()


@pytest.fixture
async def world(open_world, shelf, at):
    """Opens two models, one of which answers no row but its golden input."""
    for model in ("sum", "held"):
        shelf.put(model, 1)

    async def open_(policy: ServingPolicy) -> World:
        world = await open_world(policy)
        world.kernel.repository = OneProcess(world.kernel)
        await world.apply(at("sum"), at("held"), keys=KEYS)
        return world

    yield open_
    shelf.let_go()


@pytest.mark.slow(6)
@pytest.mark.parametrize(
    ("name", "fast"),
    [("go", True), ("js", True), ("python", True), ("kserve", True), ("go", False)],
    ids=["grpc-go", "grpc-js", "tritonclient", "kserve", "grpc-go, standard"],
)
async def test_other_clients_find_the_doors_right(world, name, fast):
    """
    Each client gets right answers and errors with their texts; its deadlines, cancellations, metadata and gzip count.

    Messages of 20 MiB pass, 300 calls at once too, and no call fails when connections end because of their age.
    """
    policy = ServingPolicy(repository_control="explicit")
    lasting, aging = await world(policy), await world(replace(policy, max_connection_age=timedelta(seconds=AGE_S)))
    given = {
        "address": f"127.0.0.1:{lasting.ports['grpc']}",
        "aging": f"127.0.0.1:{aging.ports['grpc']}",
        "http": f"127.0.0.1:{lasting.ports['rest']}",
        "key": "caller",
        "age_s": AGE_S,
        "descriptors": descriptors(),
    }
    process = await asyncio.create_subprocess_exec(
        *grpc_client(name), json.dumps(given), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, complained = await asyncio.wait_for(process.communicate(), 120)
    assert printed, complained.decode()[-4000:]
    told = json.loads(printed)
    assert {check: wrong for check, wrong in told.items() if wrong} == {}
