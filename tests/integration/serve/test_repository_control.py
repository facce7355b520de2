"""Load and unload calls at every door of a server of two processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
import zmq
from google.protobuf import empty_pb2

from mendel.protos import modelops_pb2, modelops_pb2_grpc

KEYS = {hashlib.sha256(b"mk_reader").hexdigest(): ("read", "predict", "deploy")}
ASKED = 12
"""Requests on connections of their own, so that both workers are asked."""


@pytest.fixture
def server(serve, hub, artifact, tmp_path):
    """A server that loads and unloads on request, with a directory of models; model ``credit`` is deployed."""
    hub.state = replace(hub.state, key_hashes=KEYS)
    hub.deploy(artifact(1))
    (tmp_path / "models").mkdir()
    serving = {"repository_control": "explicit", "model_roots": [str(tmp_path / "models")]}
    server = serve(workers=2, serving=serving, ports={"grpc": [0], "zmq": [0]})
    server.until(server.address)
    server.until(lambda: statuses(server) == {200})
    return server


def statuses(server, model="credit"):
    """The HTTP statuses of predictions, whichever worker answers."""
    body = {"instances": [{"x0": 0.0, "x1": 0.0}]}
    try:
        return {ask(server, "POST", f"/v1/{model}/predict", body)[0] for _ in range(ASKED)}
    except OSError:
        return set()


def ask(server, method, path, body=None):
    return server.ask(method, path, body, headers={"X-API-Key": "mk_reader"})


class Rest:
    refused = 403

    def __init__(self, server):
        self._server = server

    def load(self, model, path=None):
        body = None if path is None else {"parameters": {"model_path": path}}
        status, answer = ask(self._server, "POST", f"/v2/repository/models/{model}/load", body)
        return None if status == 200 else (status, answer["error"])

    def unload(self, model):
        status, answer = ask(self._server, "POST", f"/v2/repository/models/{model}/unload")
        return None if status == 200 else (status, answer["error"])


class Grpc:
    refused = grpc.StatusCode.PERMISSION_DENIED

    def __init__(self, server):
        self._address = f"127.0.0.1:{server.address().ports['grpc'][0]}"

    def _call(self, name, request):
        with grpc.insecure_channel(self._address) as channel:
            try:
                method = getattr(modelops_pb2_grpc.ModelOpsStub(channel), name)
                reply = method(request, metadata=(("authorization", "Bearer mk_reader"),), timeout=30)
            except grpc.RpcError as error:
                return error.code(), error.details()
            assert reply.success
            return None

    def load(self, model, path=None):
        return self._call("LoadModel", modelops_pb2.ModelLoadRequest(model_name=model, model_path=path or ""))

    def unload(self, model):
        return self._call("UnloadModel", modelops_pb2.ModelUnloadRequest(model_name=model))


class Zmq:
    refused = "forbidden"

    def __init__(self, server):
        self._address = f"tcp://127.0.0.1:{server.address().ports['zmq'][0]}"

    def _ask(self, type_, **data):
        with zmq.Context() as context, context.socket(zmq.REQ) as client:
            client.set(zmq.LINGER, 0)
            client.connect(self._address)
            client.send_json({"type": type_, "request_id": "1", "api_key": "mk_reader", "data": data})
            assert client.poll(30_000)
            reply = client.recv_json()
        return (reply["data"]["code"], reply["data"]["message"]) if reply["type"] == "error" else None

    def load(self, model, path=None):
        return self._ask("model_load_request", model_name=model, **({} if path is None else {"model_path": path}))

    def unload(self, model):
        return self._ask("model_unload_request", model_name=model)


CALLERS = {"rest": Rest, "grpc": Grpc, "zmq": Zmq}


def test_load_and_unload_reach_every_worker_before_they_answer(server, hub):
    """By each door: after an unload no worker answers, after a load every worker does; the desired state stays."""
    for make in CALLERS.values():
        caller, desired = make(server), hub.state
        assert caller.unload("credit") is None
        assert statuses(server) == {503}
        assert server.ask("GET", "/health")[0] == 200
        assert caller.load("credit") is None
        assert statuses(server) == {200}
        assert hub.state == desired
        kind, text = caller.load("nobody")
        assert kind in {404, grpc.StatusCode.NOT_FOUND, "not_found"}
        assert "'nobody'" in text


def test_a_model_is_loaded_by_path_below_the_roots_only(server, hub, artifact, tmp_path):
    """
    By each door: the artefact of a directory serves under its name; other directories, links to them and deployed names
    do not. A directory without an artefact is refused with the reason, and the name stays unknown.
    """
    root = tmp_path / "models"
    shutil.copytree(hub.artifacts / artifact(7).hex, root / "mine")
    (root / "link").symlink_to(hub.artifacts)
    (root / "empty").mkdir()
    for door, make in CALLERS.items():
        caller, own = make(server), f"own-by-{door}"
        assert caller.load(own, "mine") is None
        assert statuses(server, own) == {200}
        assert caller.load(own, str(root / "mine")) is None
        for outside in (str(hub.artifacts), "../hub", "link", "absent", "/etc"):
            kind, text = caller.load("other", outside)
            assert kind == caller.refused
            assert "serving.model_roots" in text
        assert statuses(server, "other") == {404}
        assert "is deployed" in caller.load("credit", "mine")[1]
        assert caller.unload(own) is None
        assert statuses(server, own) == {404}
    status, text = Rest(server).load("own", "empty")
    assert status == 400
    assert "MLmodel" in text
    assert statuses(server, "own") == {404}


def test_an_unload_holds_for_a_worker_that_starts_later(server, hub):
    """A worker that is started anew loads no model that was unloaded, and the model comes back when it is asked for."""
    caller = Rest(server)
    assert caller.unload("credit") is None
    before = set(server.workers())
    for pid in before:
        if b"server.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    server.until(lambda: len(set(server.workers()) - before) == 2)
    server.until(lambda: statuses(server) == {503})
    assert caller.load("credit") is None
    assert statuses(server) == {200}


def test_memory_is_measured(server):
    """The list of models and the metrics tell by how much the processes grew while the model was loaded."""
    with grpc.insecure_channel(f"127.0.0.1:{server.address().ports['grpc'][0]}") as channel:
        stub, metadata = modelops_pb2_grpc.ModelOpsStub(channel), (("authorization", "Bearer mk_reader"),)
        (model,) = stub.ListModels(empty_pb2.Empty(), metadata=metadata).models
    _, text = ask(server, "GET", "/metrics")
    (line,) = [line for line in text.splitlines() if line.startswith("mendel_version_memory_bytes{")]
    assert model.vram_mb == round(float(line.rsplit(" ", 1)[1]) / (1 << 20))
    assert "model_repository" in ask(server, "GET", "/v2")[1]["extensions"]
