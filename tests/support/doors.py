"""Every door of the table open on a kernel, and a client for each."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import grpc
import httpx
import numpy as np
import pytest
import zmq
import zmq.asyncio

from mendel.adapters.threads import load_in_thread
from mendel.projects import Classifier, load_project
from mendel.protos import modelops_pb2, modelops_pb2_grpc, open_inference_pb2, open_inference_pb2_grpc
from mendel.serving import (
    Kernel,
    LocalBreakers,
    LocalCounters,
    ServingPolicy,
    standalone_state,
    unregistered_model,
    write_unregistered_artifact,
)
from mendel.transports.door import Door, DoorContext, ProxyContext
from mendel.transports.door_table import DOORS
from mendel.values import Deployment, ModelName
from support.served_models import Shelf, clock

DOOR_NAMES = [door.name for door in DOORS]


@dataclass
class World:
    """A kernel with every door of the table open; ``ports`` by the door's name."""

    kernel: Kernel
    shelf: Shelf
    ports: dict[str, int]

    async def apply(self, *deployments: Deployment, keys: dict[str, tuple[str, ...]] | None = None) -> Any:
        return await self.kernel.apply(self.shelf.desire(*deployments, keys=keys), self.shelf.fetch)


class OneProcess:
    """The repository control of a server with one process."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def load(self, model: ModelName, *, path: str | None = None) -> None:
        assert (await self._kernel.load(model)).error is None

    async def unload(self, model: ModelName) -> int | None:
        return await self._kernel.unload(model)


def listening() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no TCP_NODELAY without it
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen(2048)
    sock.setblocking(False)
    return sock


async def open_doors(
    stack: AsyncExitStack, kernel: Kernel, directory: Path, *, classifier: Classifier | None = None, fast: bool = False
) -> dict[str, int]:
    """Open every door on *kernel*, with its proxy where it has one, as a server's processes do; gives the ports."""
    return {
        door.name: await open_door(door, stack, stack, kernel, directory, classifier=classifier, fast=fast)
        for door in DOORS
    }


async def open_door(
    door: Door,
    proxies: AsyncExitStack,
    servers: AsyncExitStack,
    kernel: Kernel,
    directory: Path,
    *,
    classifier: Classifier | None = None,
    fast: bool = False,
) -> int:
    """Open one door; its proxy, if any, closes with *proxies*, and the rest with *servers*."""
    listener = listening()
    port = int(listener.getsockname()[1])
    if door.proxy is None:
        context = DoorContext(sockets=(listener,), classifier=classifier, fast=fast)
    else:
        address = f"ipc://{directory}/{door.name}-{id(kernel)}"
        proxy = ProxyContext(
            listener=listener, worker_address=address, max_message_bytes=100 << 20, max_connections=4096
        )
        await proxies.enter_async_context(door.proxy(proxy))
        context = DoorContext(proxy_address=address, classifier=classifier, fast=fast)
    await servers.enter_async_context(door.open(kernel, context))
    return port


@pytest.fixture
async def open_world(shelf: Shelf, make_kernel, tmp_path: Path, fast: bool):
    """Opens a kernel with every door, as often as asked, and closes them all at the end."""
    async with AsyncExitStack() as stack:

        async def open_(policy: ServingPolicy | None = None, **given: Any) -> World:
            kernel = await stack.enter_async_context(make_kernel(policy, **given))
            return World(kernel, shelf, await open_doors(stack, kernel, tmp_path, fast=fast))

        yield open_


@pytest.fixture
async def open_project(tmp_path: Path, fast: bool):
    """
    Opens every door on a project's classifier as it stands, with no version registered.

    What it gives takes the code of ``models.py``, whose class ``Model`` answers, and sections of the file as YAML.
    """
    async with AsyncExitStack() as stack:
        places = count()

        async def open_(code: str, sections: str = "", **policy: Any) -> World:
            directory = tmp_path / f"project-{next(places)}"
            directory.mkdir()
            (directory / "models.py").write_text(f"import time\nimport numpy as np\n{code}")
            file = f"classifier: {{name: model}}\npredictor: {{module: models, class_name: Model}}\n{sections}"
            (directory / "mlserver.yaml").write_text(file)
            project = load_project(directory)
            rules = replace(ServingPolicy(), **policy)
            kernel = Kernel(
                rules,
                load_backend=load_in_thread,
                sink=None,
                counters=LocalCounters(),
                breakers=LocalBreakers(rules.breaker, clock),
                clock=clock,
                rng=random.Random(0),
                project=project,
            )
            await stack.enter_async_context(kernel)
            tree = tmp_path / f"tree-{directory.name}"
            digest = write_unregistered_artifact(tree, "model", task="classification")
            model = unregistered_model(ModelName("model"), digest, task="classification", release_tag=None, now=clock())
            (report,) = await kernel.apply(standalone_state(model, {}), lambda _: tree)
            assert report.error is None, report.error
            ports = await open_doors(stack, kernel, tmp_path, classifier=project.classifiers[0], fast=fast)
            return World(kernel, Shelf(tmp_path), ports)

        yield open_


@dataclass
class Said:
    """What a door answered, in one vocabulary."""

    error: str | None
    body: dict[str, Any]
    message: str = ""


class RestClient:
    name = "rest"
    codes: ClassVar = {
        400: "invalid", 404: "not_found", 413: "too_large", 429: "overloaded", 500: "model_failed", 501: "unsupported",
        503: "unavailable", 504: "deadline", 401: "unauthenticated", 403: "forbidden",
    }  # fmt: skip

    def __init__(self, world: World, key: str | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{world.ports['rest']}", timeout=20, headers=headers)

    async def predict(self, model: str, body: Any, *, proba: bool = False, **headers: str) -> Said:
        route = f"/v1/{model}/predict_proba" if proba else f"/v1/{model}/predict"
        content = body if isinstance(body, str) else json.dumps(body)
        response = await self.http.post(route, content=content, headers=headers)
        document = response.json()
        if response.status_code == 200:
            return Said(None, document)
        return Said(self.codes[response.status_code], document, document["error"])

    async def close(self) -> None:
        await self.http.aclose()


class GrpcClient:
    """ModelOps."""

    name = "grpc"
    codes: ClassVar = {
        "INVALID_ARGUMENT": "invalid", "NOT_FOUND": "not_found", "RESOURCE_EXHAUSTED": "overloaded",
        "INTERNAL": "model_failed", "UNIMPLEMENTED": "unsupported", "UNAVAILABLE": "unavailable",
        "DEADLINE_EXCEEDED": "deadline", "UNAUTHENTICATED": "unauthenticated", "PERMISSION_DENIED": "forbidden",
    }  # fmt: skip

    def __init__(self, world: World, key: str | None = None) -> None:
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{world.ports['grpc']}")
        self.modelops = modelops_pb2_grpc.ModelOpsStub(self.channel)
        self.v2 = open_inference_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()

    async def predict(self, model: str, body: Any, *, proba: bool = False, wait: float | None = None) -> Said:
        prompt = body if isinstance(body, str) else json.dumps(body)
        parameters = {"endpoint": "predict_proba"} if proba else {}
        request = modelops_pb2.InferenceRequest(model_name=model, prompt=prompt, parameters=parameters)
        try:
            response = await self.modelops.Infer(request, timeout=wait, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            return Said(self.codes[error.code().name], {}, error.details())
        assert not response.error_message
        return Said(None, json.loads(response.response_text))

    async def infer(self, model: str, rows: list[list[float]], version: str = "", raw: bool = False) -> Any:
        pb = open_inference_pb2
        tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[len(rows), len(rows[0])])
        flat = [value for row in rows for value in row]
        request = pb.ModelInferRequest(model_name=model, model_version=version, inputs=[tensor])
        if raw:
            request.raw_input_contents.append(np.array(flat, dtype="<f8").tobytes())
        else:
            request.inputs[0].contents.fp64_contents.extend(flat)
        return await self.v2.ModelInfer(request, metadata=self.metadata)

    async def close(self) -> None:
        await self.channel.close()


class ZmqClient:
    name = "zmq"
    codes: ClassVar = {
        "invalid_request": "invalid", "not_found": "not_found", "too_large": "too_large", "overloaded": "overloaded",
        "model_failed": "model_failed", "unsupported": "unsupported", "unavailable": "unavailable",
        "breaker_open": "unavailable", "deadline_exceeded": "deadline", "unauthenticated": "unauthenticated",
        "forbidden": "forbidden",
    }  # fmt: skip

    def __init__(self, world: World, key: str | None = None) -> None:
        self.context = zmq.asyncio.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.connect(f"tcp://127.0.0.1:{world.ports['zmq']}")
        self.key = key
        self.ids = count(1)
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.reading = asyncio.create_task(self._read())

    async def ask(self, type_: str, **data: Any) -> dict[str, Any]:
        request_id = str(next(self.ids))
        self.waiting[request_id] = asyncio.get_running_loop().create_future()
        message = {"type": type_, "client_id": "t", "request_id": request_id, "timestamp": 0, "data": data}
        await self.socket.send(json.dumps(message | ({"api_key": self.key} if self.key else {})).encode())
        return await asyncio.wait_for(self.waiting[request_id], 20)

    async def predict(self, model: str, body: Any, *, proba: bool = False) -> Said:
        prompt = body if isinstance(body, str) else json.dumps(body)
        more = {"endpoint": "predict_proba"} if proba else {}
        reply = await self.ask("inference_request", model_name=model, prompt=prompt, **more)
        if reply["type"] == "error":
            return Said(self.codes[reply["data"]["code"]], {}, reply["data"]["message"])
        assert reply["type"] == "inference_response"
        return Said(None, reply["data"])

    async def _read(self) -> None:
        while True:
            reply = json.loads(await self.socket.recv())
            self.waiting[reply["message_id"]].set_result(reply)

    async def close(self) -> None:
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)
        self.context.destroy(linger=0)


CLIENTS = {client.name: client for client in (RestClient, GrpcClient, ZmqClient)}
"""A client for every door of the table."""


@pytest.fixture
async def connect():
    """Makes clients of a door by its name, and closes them at the end."""
    clients: list[Any] = []

    def connect_(door: str, world: World, key: str | None = None) -> Any:
        client = CLIENTS[door](world, key)
        clients.append(client)
        return client

    yield connect_
    for client in clients:
        await client.close()
