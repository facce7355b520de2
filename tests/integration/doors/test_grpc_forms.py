"""gRPC in both forms with grpcio as the client: groups of calls, errors, deadlines, sizes, streams and the end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from mendel.protos import modelops_pb2, open_inference_pb2
from mendel.serving import ServingPolicy
from mendel.transports.grpc.door import GRPC
from support.door_forms import both_forms
from support.doors import GrpcClient, open_door
from support.waiting import until_async

pytestmark = both_forms
INFER = "/modelops.ModelOps/Infer"
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = [1.0, 2.0, 3.5]
Code = grpc.StatusCode
QUICK_DRAIN = replace(ServingPolicy(), drain_timeout=timedelta(seconds=0.5))


@pytest.fixture
async def world(open_world, shelf, at):
    for model in ("sum", "held", "proba"):
        shelf.put(model, 1)
    world = await open_world(replace(ServingPolicy(), max_body_bytes=40 << 20))
    await world.apply(at("sum"), at("held"), at("proba"))
    return world


def message(model="sum", rows=(ROW,), **given):
    tensor = open_inference_pb2.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP64", shape=[len(rows), len(rows[0])]
    )
    raw = np.array(rows, dtype="<f8").tobytes()
    return open_inference_pb2.ModelInferRequest(model_name=model, inputs=[tensor], raw_input_contents=[raw], **given)


async def refused(call):
    """The error with which *call* ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_hundreds_of_calls_at_once_get_their_own_answers(world, connect):
    """Ten waves of 500 Infer and ModelInfer calls over several connections: every answer is the model's for its row."""
    clients = [connect("grpc", world) for _ in range(4)]
    rng = np.random.default_rng(1)

    async def infer(client, row):
        reply = await client.predict("sum", {"ndarray": [row]})
        return reply.body["predictions"][0]

    async def model_infer(client, row):
        answer = await client.infer("sum", [row], raw=row[0] > 0)
        if answer.raw_output_contents:
            return np.frombuffer(answer.raw_output_contents[0], "<f8")[0]
        return answer.outputs[0].contents.fp64_contents[0]

    for _ in range(10):
        rows = rng.normal(size=(500, 3)).tolist()
        answers = await asyncio.gather(
            *(
                (infer if place % 2 else model_infer)(clients[place % len(clients)], row)
                for place, row in enumerate(rows)
            )
        )
        assert answers == pytest.approx([sum(row) for row in rows], rel=1e-12)


async def test_calls_carry_ids_outputs_and_metadata(world, connect):
    """The id, the outputs asked for, the caller's correlation id, and the number of the version come back."""
    stub = connect("grpc", world).v2
    asked = open_inference_pb2.ModelInferRequest.InferRequestedOutputTensor(name="predict_proba")
    call = stub.ModelInfer(message("proba", id="seven", outputs=[asked]), metadata=(("x-request-id", "order-7"),))
    answer = await call
    assert (answer.id, answer.model_version, [output.name for output in answer.outputs]) == ("seven", "1", [asked.name])
    assert dict(await call.initial_metadata())["x-request-id"] == "order-7"
    assert await call.code() is Code.OK


async def test_errors_have_status_text_and_correlation_id(world, connect):
    """A failed call tells its status, what was wrong with what, and the caller's correlation id."""
    stub = connect("grpc", world).v2
    unknown = open_inference_pb2.ModelInferRequest.InferRequestedOutputTensor(name="höhe %")
    for request, code, text in (
        (message("nobody"), Code.NOT_FOUND, "'nobody'"),
        (message(rows=[[1.0, 2.0]]), Code.INVALID_ARGUMENT, "'c'"),
        (message(model_version="9"), Code.NOT_FOUND, "9"),
        (message(outputs=[unknown]), Code.INVALID_ARGUMENT, "höhe %"),
    ):
        error = await refused(stub.ModelInfer(request, metadata=(("x-request-id", "order-7"),)))
        assert (error.code(), text in error.details()) == (code, True), error
        assert dict(error.initial_metadata())["x-request-id"] == "order-7"


async def test_what_is_no_call_of_a_method_is_refused(world, connect):
    """An unknown method, a message of another type, and one cut off get statuses that blame the caller."""
    channel = connect("grpc", world).channel
    for path, sent, code in (
        ("/inference.GRPCInferenceService/Nothing", b"", Code.UNIMPLEMENTED),
        ("/nothing", b"", Code.UNIMPLEMENTED),
        (MODEL_INFER, b"\xff\xff", Code.INVALID_ARGUMENT),
        (INFER, b"\x0a\x05ab", Code.INVALID_ARGUMENT),
        ("/inference.GRPCInferenceService/ModelReady", b"\xff", Code.INVALID_ARGUMENT),
    ):
        assert (await refused(channel.unary_unary(path)(sent))).code() is code, path


async def test_deadlines_of_the_caller_hold(world, connect, shelf):
    """A call whose deadline passes ends with DEADLINE_EXCEEDED, is not predicted later, and others go on."""
    client = connect("grpc", world)
    error = await refused(client.v2.ModelInfer(message("held"), timeout=0.2))
    assert error.code() is Code.DEADLINE_EXCEEDED
    shelf.let_go()
    assert (await client.predict("held", {"ndarray": [ROW]})).error is None
    await until_async(lambda: world.kernel.status().active == 0)
    text = world.kernel.metrics()
    assert 'status_code="OK"' in text


async def test_a_call_that_the_caller_cancels_is_given_up(world, connect, shelf):
    """Cancelled calls, waiting and running, leave nothing in flight, and the connection answers the next call."""
    client = connect("grpc", world)
    calls = [client.v2.ModelInfer(message("held")) for _ in range(20)]
    await until_async(lambda: world.kernel.status().active == 20)
    for call in calls:
        call.cancel()
    shelf.let_go()
    await until_async(lambda: world.kernel.status().active == 0)
    assert (await client.predict("sum", {"ndarray": [ROW]})).body["predictions"] == [6.5]


async def test_compressed_messages_are_read_within_the_bound(world, connect):
    """Small and large gzip and deflate messages are read; a bomb is RESOURCE_EXHAUSTED."""
    client = connect("grpc", world)
    rows = np.random.default_rng(0).integers(0, 9, size=(5_000, 3)).astype(float).tolist()
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        for sent in ([ROW], rows):
            answer = await client.v2.ModelInfer(message(rows=sent), compression=compression)
            found = np.frombuffer(answer.raw_output_contents[0], "<f8")
            assert found.tolist() == [sum(row) for row in sent]
        infer = client.channel.unary_unary(INFER)
        error = await refused(infer(bytes(60 << 20), compression=compression))
        assert error.code() is Code.RESOURCE_EXHAUSTED


async def test_large_messages_go_both_ways(world, connect):
    """A request of 30 MiB is read and refused for its rows; one with a large id gets the id back; larger is refused."""
    channel = grpc.aio.insecure_channel(
        f"127.0.0.1:{world.ports['grpc']}",
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    async with channel:
        call = channel.unary_unary(
            MODEL_INFER,
            request_serializer=open_inference_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=open_inference_pb2.ModelInferResponse.FromString,
        )
        many = message(rows=np.ones((1_320_000, 3)))
        error = await refused(call(many))
        assert (error.code(), "rows" in error.details()) == (Code.INVALID_ARGUMENT, True)
        answers = await asyncio.gather(*(call(message(id=letter * (30 << 20))) for letter in "ab"))
        assert [answer.id == letter * (30 << 20) for answer, letter in zip(answers, "ab", strict=True)] == [True] * 2
        assert (await refused(call(message(id="c" * (41 << 20))))).code() is Code.RESOURCE_EXHAUSTED


async def test_a_watcher_hears_of_changes_until_the_door_closes(shelf, at, make_kernel, tmp_path, fast):
    """Watch tells NOT_SERVING and then SERVING; closing the door ends the call, which would not end by itself."""
    shelf.put("sum", 1)
    async with AsyncExitStack() as stack:
        kernel = await stack.enter_async_context(make_kernel(QUICK_DRAIN))
        async with AsyncExitStack() as servers:
            port = await open_door(GRPC, stack, servers, kernel, tmp_path, fast=fast)
            client = GrpcClient(SimpleNamespace(ports={"grpc": port}))
            watch = health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        with suppress(grpc.aio.AioRpcError):
            await watch.read()
        assert await watch.code() in {Code.UNAVAILABLE, Code.CANCELLED}
        await client.close()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_answers_one_request_after_another(world, connect, version):
    """Services, and the files of symbols, in one call that stays open; an unknown symbol is an error in the answer."""
    service = f"grpc.reflection.{version}.ServerReflection"
    call = connect("grpc", world).channel.stream_stream(
        f"/{service}/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in (await call.read()).list_services_response.service}
    assert names >= {"inference.GRPCInferenceService", "modelops.ModelOps", "grpc.health.v1.Health", service}
    for symbol in names:
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto, symbol
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol="nobody.Knows"))
    assert (await call.read()).error_response.error_code == Code.NOT_FOUND.value[0]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_each_method_answers(world, connect):
    """The methods without predictions answer in both forms, and are counted."""
    client = connect("grpc", world)
    pb = open_inference_pb2
    assert (await client.v2.ServerLive(pb.ServerLiveRequest())).live
    assert (await client.v2.ServerReady(pb.ServerReadyRequest())).ready
    assert (await client.v2.ModelReady(pb.ModelReadyRequest(name="sum"))).ready
    assert (await client.v2.ServerMetadata(pb.ServerMetadataRequest())).name == "mendel"
    assert (await client.v2.ModelMetadata(pb.ModelMetadataRequest(name="sum"))).name == "sum"
    error = await refused(client.modelops.LoadModel(modelops_pb2.ModelLoadRequest(model_name="sum")))
    assert error.code() is Code.UNAUTHENTICATED
    health = health_pb2_grpc.HealthStub(client.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    error = await refused(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert error.code() is Code.NOT_FOUND
    counted = [line for line in world.kernel.metrics().splitlines() if line.startswith("mlserver_requests_total")]
    assert len(counted) == 8
