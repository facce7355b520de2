"""What each protocol has of its own: v2 and its binary tensors, health, reflection, msgpack; and who may do what."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import struct

import grpc
import msgspec
import numpy as np
import pytest
import zmq.asyncio
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mendel.predictions import read_segment, sealed_segments
from mendel.protos import modelops_pb2, open_inference_pb2
from mendel.transports.grpc import method_table as grpc_methods
from mendel.transports.rest import application as rest_application
from mendel.transports.zmq import message_types as zmq_messages
from mendel.values import Scope
from support.door_forms import both_forms
from support.doors import DOOR_NAMES

ROW = {"a": 1.0, "b": 2.0, "c": 3.0}
KEYS = {
    hashlib.sha256(secret.encode()).hexdigest(): scopes
    for secret, scopes in {
        "reader": ("read",),
        "caller": ("predict",),
        "root": ("admin",),
        "labels": ("label",),
    }.items()
}


@pytest.fixture
async def world(open_world, shelf, at, spool):
    shelf.put("sum", 1)
    shelf.put("proba", 1)
    world = await open_world(sink=spool)
    await world.apply(at("sum"), at("proba"), keys={k: v for k, v in KEYS.items() if v != ("predict",)})
    return world


@pytest.fixture
def http(world, connect):
    return connect("rest", world).http


@both_forms
async def test_v2_over_http(world, http):
    """One matrix, or a tensor per feature, flat or nested, gets the same outputs; the version may be named."""
    flat = {"name": "x", "shape": [2, 3], "datatype": "FP64", "data": [1, 2, 3, 4, 5, 6]}
    nested = {**flat, "data": [[1, 2, 3], [4, 5, 6]]}
    columns = [
        {"name": name, "shape": [2, 1], "datatype": "INT32", "data": data}
        for name, data in (("c", [3, 6]), ("a", [1, 4]), ("b", [2, 5]))
    ]
    for path in ("/v2/models/sum/infer", "/v2/models/sum/versions/1/infer"):
        for inputs in ([flat], [nested], columns):
            document = (await http.post(path, json={"id": "7", "inputs": inputs})).json()
            assert document["outputs"] == [{"name": "predict", "datatype": "FP64", "shape": [2], "data": [6.0, 15.0]}]
            assert (document["id"], document["model_name"], document["model_version"]) == ("7", "sum", "1")
            assert len(document["parameters"]["prediction_ids"]) == 2


@both_forms
async def test_v2_outputs_can_be_chosen(http):
    """Only the outputs asked for are given; an unknown one is refused."""
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    both = (await http.post("/v2/models/proba/infer", json=body)).json()["outputs"]
    assert [(o["name"], o["datatype"], o["shape"]) for o in both] == [
        ("predict", "BYTES", [1]),
        ("predict_proba", "FP64", [1, 2]),
    ]
    one = (await http.post("/v2/models/proba/infer", json=body | {"outputs": [{"name": "predict_proba"}]})).json()
    assert [output["name"] for output in one["outputs"]] == ["predict_proba"]
    response = await http.post("/v2/models/proba/infer", json=body | {"outputs": [{"name": "logits"}]})
    assert response.status_code == 400


@both_forms
async def test_binary_tensors_go_both_ways(http):
    """Inputs after the JSON and outputs after the JSON carry the same numbers as JSON would."""
    raw = np.array([[1, 2, 3], [4, 5, 6]], dtype="<f4").tobytes()
    tensor = {"name": "x", "shape": [2, 3], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    response = await http.post("/v2/models/sum/infer", content=head + raw, headers=headers)
    length = int(response.headers["inference-header-content-length"])
    output = json.loads(response.content[:length])["outputs"][0]
    assert output["parameters"]["binary_data_size"] == 16
    assert struct.unpack("<2d", response.content[length:]) == (6.0, 15.0)
    short = await http.post("/v2/models/sum/infer", content=head + raw[:-1], headers=headers)
    assert short.status_code == 400


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({}, "inputs"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2]}]}, "'x'"),
        ({"inputs": [{"name": "x", "shape": [1, -3], "datatype": "FP64", "data": [1, 2]}]}, "shape"),
        ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP65", "data": [1, 2, 3]}]}, "'FP65'"),
        ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "INT8", "data": [1, 2, 300]}]}, "'x'"),
        ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": ["1", 2, 3]}]}, "'x'"),
        ({"inputs": [{"name": "d", "shape": [1, 1], "datatype": "FP64", "data": [1]}]}, "'b'"),
        ({"inputs": [{"name": "x", "shape": [10**9, 10**9], "datatype": "FP64", "data": [1]}]}, "shape"),
        ({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": 5}]}, "list"),
    ],
)
async def test_bad_v2_bodies_are_refused(http, body, names):
    """Tensors that make no rows are 400 and say what is wrong."""
    response = await http.post("/v2/models/sum/infer", json=body)
    assert response.status_code == 400, response.text
    assert names in response.json()["error"]


@both_forms
async def test_v2_metadata(http, world, connect):
    """Metadata names inputs and outputs, over HTTP and gRPC alike."""
    document = (await http.get("/v2/models/sum")).json()
    assert document["versions"] == ["1"]
    assert [tensor["name"] for tensor in document["inputs"]] == ["a", "b", "c"]
    client = connect("grpc", world)
    response = await client.v2.ModelMetadata(open_inference_pb2.ModelMetadataRequest(name="sum"))
    assert [tensor.name for tensor in response.inputs] == ["a", "b", "c"]
    assert (await http.get("/v2")).json()["name"] == "mendel"
    assert (await http.get("/v2/models/nobody")).status_code == 404
    assert (await http.get("/v2/models/sum/versions/9")).status_code == 404
    assert (await http.get("/v2/models/sum/versions/x")).status_code == 404


async def test_health_is_told_at_every_door(world, http, connect):
    """Live and ready agree over v2, plain routes, gRPC v2 and grpc.health.v1."""
    for path in ("/healthz", "/health", "/v2/health/live", "/v2/health/ready", "/v2/models/sum/ready"):
        assert (await http.get(path)).status_code == 200
    assert (await http.get("/health")).json() == {"status": "ok"}
    client = connect("grpc", world)
    assert (await client.v2.ServerLive(open_inference_pb2.ServerLiveRequest())).live
    assert (await client.v2.ServerReady(open_inference_pb2.ServerReadyRequest())).ready
    assert (await client.v2.ModelReady(open_inference_pb2.ModelReadyRequest(name="sum"))).ready
    health = health_pb2_grpc.HealthStub(client.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest(service="modelops.ModelOps"))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    watching = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
    await world.kernel.drain()
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watching.cancel()
    response = await http.get("/health")
    assert response.status_code == 503
    assert response.json()["status"] == "draining"


async def test_reflection_lists_the_services(world, connect):
    """A client finds the services without the proto files."""
    stub = reflection_pb2_grpc.ServerReflectionStub(connect("grpc", world).channel)
    requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    async for response in stub.ServerReflectionInfo(requests):
        names = {service.name for service in response.list_services_response.service}
        assert names >= {"inference.GRPCInferenceService", "modelops.ModelOps", "grpc.health.v1.Health"}


async def test_modelops_lists_what_is_loaded(world, connect):
    """ListModels gives every version with its role."""
    models = await connect("grpc", world, "reader").modelops.ListModels(
        empty_pb2.Empty(),
        metadata=(("authorization", "Bearer reader"),),
    )
    assert {(model.name, model.status) for model in models.models} == {("sum", "route"), ("proba", "route")}
    assert models.total_count == 2


async def test_loading_by_request_is_refused_at_every_door_where_it_is_off(open_world, shelf, at, connect):
    """Load and unload are refused even to admin, with the key that allows them; ``/v2`` does not announce them."""
    shelf.put("sum", 1)
    world = await open_world()
    await world.apply(at("sum"), keys=KEYS)
    client = connect("grpc", world, "root")
    for ask in (
        client.modelops.LoadModel(modelops_pb2.ModelLoadRequest(model_name="sum"), metadata=client.metadata),
        client.modelops.UnloadModel(modelops_pb2.ModelUnloadRequest(model_name="sum"), metadata=client.metadata),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "serving.repository_control is 'off'" in caught.value.details()
    http = connect("rest", world, "root").http
    for action in ("load", "unload"):
        response = await http.post(f"/v2/repository/models/sum/{action}")
        assert response.status_code == 403
        assert "serving.repository_control is 'off'" in response.json()["error"]
        reply = await connect("zmq", world, "root").ask(f"model_{action}_request", model_name="sum")
        assert reply["data"]["code"] == "forbidden"
    assert (await http.get("/v2")).json()["extensions"] == ["binary_tensor_data", "statistics"]


async def test_zmq_answers_req_clients_and_msgpack_and_nonsense(world):
    """A REQ client works; msgpack is answered in msgpack; nonsense gets an error and the socket lives on."""
    context = zmq.asyncio.Context()
    try:
        sock = context.socket(zmq.REQ)
        sock.connect(f"tcp://127.0.0.1:{world.ports['zmq']}")
        for frame, decode, kind in (
            (b'{"type": "heartbeat", "request_id": 1}', msgspec.json.decode, "heartbeat_ack"),
            (msgspec.msgpack.encode({"type": "discovery", "request_id": "r"}), msgspec.msgpack.decode, "worker_info"),
            (b"\xff\x00nonsense", msgspec.json.decode, "error"),
            (b'{"type": "teapot"}', msgspec.json.decode, "error"),
            (b'{"type": "inference_request", "data": {"model_name": "sum"}}', msgspec.json.decode, "error"),
            (
                b'{"type": "inference_request", "data": {"inputs": [[1,2,3]], "model_name": "sum"}}',
                msgspec.json.decode,
                "inference_response",
            ),
        ):
            await sock.send(frame)
            assert decode(await asyncio.wait_for(sock.recv(), 5))["type"] == kind
    finally:
        context.destroy(linger=0)


async def test_zmq_replies_say_the_same_in_json_and_msgpack(world):
    """The status has the same fields and values in both formats, times as text."""
    told = []
    context = zmq.asyncio.Context()
    try:
        sock = context.socket(zmq.REQ)
        sock.connect(f"tcp://127.0.0.1:{world.ports['zmq']}")
        for codec in (msgspec.json, msgspec.msgpack):
            await sock.send(codec.encode({"type": "status_request", "request_id": 1, "api_key": "reader"}))
            told.append(codec.decode(await asyncio.wait_for(sock.recv(), 5)))
    finally:
        context.destroy(linger=0)
    assert [reply["type"] for reply in told] == ["status_response"] * 2
    assert told[0]["data"] == told[1]["data"]
    assert {model["model"] for model in told[0]["data"]["models"]} == {"sum", "proba"}


async def test_zmq_discovery_counts(world, connect):
    """worker_info says what the worker did."""
    client = connect("zmq", world)
    await client.predict("sum", {"records": [ROW]})
    await client.predict("nobody", {"records": [ROW]})
    told = (await client.ask("discovery"))["data"]
    assert (told["total_completed"], told["total_errors"], told["status"]) == (1, 1, "ready")
    assert {model["name"] for model in told["capabilities"]["models"]} == {"sum", "proba"}


def test_every_route_of_every_door_declares_a_scope():
    """A route without a scope does not exist; those open to all are these and no others."""
    routes = [(f"{route.method} {route.pattern}", route.scope) for route in rest_application.ROUTES]
    routes += [(method.name, method.scope) for method in grpc_methods.METHODS]
    routes += [(method.type, method.scope) for method in zmq_messages.METHODS]
    assert all(scope is None or isinstance(scope, Scope) for _, scope in routes)
    assert {name for name, scope in routes if scope is None} == {
        "GET /healthz", "GET /health", "GET /docs", "GET /openapi.json", "GET /v2/health/live", "GET /v2/health/ready",
        "GET /v2/models/{name}/ready", "GET /v2/models/{name}/versions/{version}/ready",
        "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady",
        "/inference.GRPCInferenceService/ModelReady", "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "heartbeat",
    }  # fmt: skip


def test_every_grpc_method_that_is_served_is_listed():
    """The stubs' services have no method that the door's list lacks."""
    listed = {method.name for method in grpc_methods.METHODS}
    for module in (open_inference_pb2, modelops_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            assert {f"/{service.full_name}/{method.name}" for method in service.methods} <= listed


@both_forms
async def test_status_and_metrics_need_a_reader(world, connect):
    """/status, /metrics and the index are for keys with read."""
    for path in ("/status", "/metrics", "/v2/repository/index"):
        assert (await connect("rest", world).http.get(path)).status_code == 401
        assert (await connect("rest", world, "reader").http.get(path)).status_code == 200
        assert (await connect("rest", world, "labels").http.get(path)).status_code == 403
    header = {"x-api-key": "reader"}
    assert (await connect("rest", world).http.get("/status", headers=header)).json()["models"][0]["model"] == "proba"


@both_forms
async def test_labels_are_spooled_like_predictions(world, connect, spool):
    """A label posted to a server is in its spool; without a key it is refused."""
    body = {"prediction_id": "0190a8c0-0000-7000-8000-000000000000", "true_label": 1, "label_source": "desk"}
    assert (await connect("rest", world).http.post("/monitoring/labels", json=body)).status_code == 401
    http = connect("rest", world, "labels").http
    assert (await http.post("/monitoring/labels", json=body)).json() == {"accepted": 1}
    assert (await http.post("/monitoring/labels", json=[body, body])).json() == {"accepted": 2}
    assert (await http.post("/monitoring/labels", json={"true_label": 1})).status_code == 400
    spool.seal()
    (sealed,) = sealed_segments(spool.directory)
    assert len(read_segment(sealed.path).labels) == 3


async def test_predictions_made_elsewhere_are_logged(world, connect, spool):
    """Posted predictions get ids and stand in the log as made elsewhere."""
    http = connect("rest", world, "labels").http
    body = {"model": "sum", "records": [ROW, ROW], "predictions": [6.0, 6.5]}
    ids = (await http.post("/monitoring/predictions", json=body)).json()["prediction_ids"]
    assert len(ids) == 2
    assert (await http.post("/monitoring/predictions", json=body | {"predictions": [1]})).status_code == 400
    assert (await http.post("/monitoring/predictions", json=body | {"model": "nobody"})).status_code == 404
    spool.seal()
    (sealed,) = sealed_segments(spool.directory)
    (block,) = read_segment(sealed.path).blocks
    block.check()
    assert (block.door, block.predictions.tolist()) == ("log", [6.0, 6.5])


async def test_statistics_without_a_hub_are_unavailable(world, connect):
    """A server without a hub says so."""
    assert (await connect("rest", world, "reader").http.get("/monitoring/stats?model=sum")).status_code == 503


async def test_metrics_are_well_formed_and_add_up(world, connect):
    """Every sample has a help and a type line before it, and the counts are those of the requests."""
    for door in DOOR_NAMES:
        await connect(door, world).predict("sum", {"records": [ROW, ROW]})
        await connect(door, world).predict("nobody", {"records": [ROW]})
    text = (await connect("rest", world, "reader").http.get("/metrics")).text
    known: set[str] = set()
    samples = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            known.add(line.split()[2])
        elif not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            base = name.partition("{")[0]
            assert base in known or base.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") in known
            samples[name] = float(value)
    assert samples['mlserver_predictions_total{endpoint="rest",model="sum"}'] == 2
    assert samples['modelops_inference_requests_total{model_name="sum",status="ok"}'] == 3
    assert samples['mlserver_model_info{model="sum",version="1"}'] == 1
    assert samples['modelops_circuit_breaker_state{model_name="sum",version="1"}'] == 0
    label = 'endpoint="/v1/{classifier}/predict",method="POST",model="sum",status_code="200"'
    assert samples[f"mlserver_requests_total{{{label}}}"] == 1
    assert samples['mlserver_active_requests{model="sum"}'] == 0
    assert samples['modelops_bulkhead_queue_size{model_name="sum"}'] == 0


async def test_docs_and_openapi_list_every_route(http):
    """The OpenAPI document has every route with a summary; the page shows it."""
    document = (await http.get("/openapi.json")).json()
    listed = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert listed == {(route.method, route.pattern) for route in rest_application.ROUTES}
    assert all(operation["summary"] for methods in document["paths"].values() for operation in methods.values())
    assert "openapi.json" in (await http.get("/docs")).text


@both_forms
async def test_unknown_paths_and_methods(http):
    """An unknown path is 404, a known one under another method 405 with Allow."""
    assert (await http.get("/nothing")).status_code == 404
    response = await http.get("/v1/sum/predict")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"


@both_forms
async def test_correlation_ids_come_back(http):
    """X-Request-ID wins, then the trace of traceparent; nonsense is replaced."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for headers, expected in (
        ({"x-request-id": "order-7"}, "order-7"),
        ({"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}, trace),
    ):
        assert (await http.get("/healthz", headers=headers)).headers["x-request-id"] == expected
    made = (await http.get("/healthz", headers={"x-request-id": "a b\u00e9".encode("latin-1")})).headers["x-request-id"]
    assert len(made) == 32


@both_forms
async def test_a_client_that_goes_away_harms_nobody(world, http):
    """A connection closed in the middle of a body leaves the server well."""
    _, writer = await asyncio.open_connection("127.0.0.1", world.ports["rest"])
    writer.write(b"POST /v1/sum/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await http.post("/v1/sum/predict", json=ROW)).status_code == 200
    with socket.create_connection(("127.0.0.1", world.ports["grpc"])) as raw:
        raw.sendall(b"not http2")
    assert (await http.get("/healthz")).status_code == 200
