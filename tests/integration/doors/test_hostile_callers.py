"""No caller makes a fault: hostile bodies, headers, frames and messages at every door, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import gzip
import hashlib
import itertools
import json
import traceback
import zlib
from dataclasses import replace
from datetime import timedelta

import grpc
import msgspec
import pytest
import structlog
import zmq
import zmq.asyncio

from mendel.protos import modelops_pb2, open_inference_pb2
from mendel.serving import ServingPolicy
from mendel.transports.rest import application as rest_application
from support.door_forms import both_forms
from support.http_bytes import Connection, request

DEEP = b"[" * 900 + b"]" * 900
NAMES = ([], ["sum"], {}, True, 7, 2**70, None, "", "sum\0", "x" * 3_000, "²")
"""What may stand for the name of a model, a version, a key or a time."""
TIMES = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01", "²026-01-01T00:00:00Z", [1], 5, {}, "")
SHAPES = (
    *([1] * 65, [0] * 65, [1, 3, 0], [10**9, 0], [2**62, 2**62, 0], [0, 2**63 - 1], [2**63], [-1, 3], [True, 3]),
    *([], [[1]], [1.0], ["1"], [2**80], [1, 3, 1, 1]),
)
DATA = (
    [1, 2, 3],
    [[1, 2], [3]],
    [1, [2], 3],
    [None] * 3,
    ["1"] * 3,
    [True] * 3,
    [1e308 * 10] * 3,
    [10**400] * 3,
    {},
    "x",
)
DATATYPES = ("FP64", "FP16", "INT8", "UINT64", "BOOL", "BYTES", "FP65", "")
KEYS = {hashlib.sha256(b"root").hexdigest(): ("admin",)}
ROW = {"a": 1.0, "b": 2.0, "c": 3.0}


def tensor(**changes):
    return {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]} | changes


def bodies():
    """JSON that says something odd at each of its places, and what is no JSON."""
    yield from (b"", b"\0", b"{", DEEP, b'{"a":' * 900 + b"1" + b"}" * 900, b"NaN", b'"\\ud800"', b"\xff\xfe{}")
    yield from (b"1" * 5_000, b'{"instances":[[%b,1,1]]}' % (b"9" * 4_000), b'{"inputs":[],"inputs":{}}', b"[[[]]]")
    for value in NAMES:
        yield json.dumps(
            {"model": value, "version": value, "key": value, "records": [ROW], "predictions": [1]}
        ).encode()
        yield json.dumps(
            {"records": [value], "payload": value, "dataframe_split": {"columns": value, "data": [[1]]}}
        ).encode()
        yield json.dumps({"prediction_id": value, "true_label": value, "label_source": value}).encode()
        yield json.dumps({"labels": [value], "inputs": value, "id": value, "outputs": value}).encode()
        row = {"records": [ROW], "predictions": [value], "prediction_ids": [value], "probabilities": [[value]]}
        yield json.dumps({"model": "sum", **row}).encode()
    for value in TIMES:
        yield json.dumps({"records": [ROW], "event_time": value, "predictions": [1]}).encode()
        yield json.dumps({"inputs": [tensor()], "parameters": {"event_time": value, "key": value}}).encode()
        yield json.dumps({"prediction_id": "a", "true_label": 1, "label_timestamp": value}).encode()
    for key, values in (("shape", SHAPES), ("data", DATA), ("datatype", DATATYPES), ("name", NAMES)):
        for value in values:
            yield json.dumps({"inputs": [tensor(**{key: value})]}).encode()
            yield json.dumps({"inputs": [tensor(**{key: value}), tensor(name="y")]}).encode()
    for size in (True, -1, 2**63, "1", 1.0, None, []):
        yield json.dumps({"inputs": [tensor(parameters={"binary_data_size": size})]}).encode()


@pytest.fixture
async def world(open_world, shelf, at, spool):
    for model in ("sum", "proba"):
        shelf.put(model, 1)
    opened = await open_world(sink=spool)
    await opened.apply(at("sum"), at("proba"), keys=KEYS)
    return opened


@pytest.fixture
def faults():
    """The lines that doors wrote; there may be none about a fault."""
    with structlog.testing.capture_logs() as lines:
        yield lines
    assert [line for line in lines if line["event"].endswith("_fault")] == []


@both_forms
async def test_no_body_makes_a_fault_over_rest(world, connect, faults):
    """Every route answers each with a status of the 200s or 400s, and the connection goes on."""
    http = connect("rest", world, "root").http
    kinds = itertools.cycle(("application/json", "application/json", "text/csv", "application/x-ndjson"))
    for pattern in [route.pattern for route in rest_application.ROUTES if route.method == "POST"]:
        path = pattern.replace("{name}", "proba").replace("{classifier}", "proba").replace("{version}", "1")
        for body in bodies():
            answer = await http.post(path, content=body, headers={"content-type": next(kinds)})
            assert answer.status_code < 500, (path, body[:300], answer.text[:300])


@both_forms
@pytest.mark.parametrize(
    "headers",
    [
        {"inference-header-content-length": "\u00b2"},
        {"inference-header-content-length": "9" * 5_000},
        {"inference-header-content-length": "-1"},
        {"inference-header-content-length": "+1"},
        {"x-event-time": "0001-01-01T00:00:00+23:59"},
        {"x-event-time": "\u00b2"},
        {"x-request-id": "\u00b2"},
        {"content-type": "\u00b2; charset=\u00b2"},
        {"traceparent": "x" * 1_000},
        {"accept-encoding": "\u00b2"},
        {"origin": "\u00b2"},
    ],
    ids=lambda headers: f"{next(iter(headers))} {next(iter(headers.values()))[:9]!r}",
)
async def test_odd_headers_are_the_callers_mistake(world, connect, faults, headers):
    """A header with another kind of digit, too many of them or a time beyond the calendar is a 400 or not read."""
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    for path in ("/v2/models/sum/infer", "/v1/sum/predict"):
        answer = await connect("rest", world).http.post(path, json={"inputs": [tensor()]}, headers=encoded)
        assert answer.status_code in {200, 400}, answer.text


@both_forms
async def test_a_header_sent_twice_is_refused(world, connect, faults):
    """Two keys, types or lengths in one request are a 400: a proxy and this server might each believe another."""
    http = connect("rest", world).http
    for name in ("authorization", "x-api-key", "content-type", "content-encoding", "inference-header-content-length"):
        answer = await http.post("/v1/sum/predict", json=ROW, headers=[(name, "a"), (name, "b")])
        assert (answer.status_code, name in answer.json()["error"]) == (400, True)


@both_forms
async def test_compressed_bodies_are_read_within_the_bound(open_world, shelf, at, connect, faults):
    """Gzip and deflate are read; a bomb is 413, another encoding 415, what is cut off or not compressed so 400."""
    shelf.put("sum", 1)
    world = await open_world(replace(ServingPolicy(), max_body_bytes=1 << 20))
    await world.apply(at("sum"))
    http = connect("rest", world).http
    body = json.dumps({"records": [ROW]}).encode()
    raw = zlib.compressobj(wbits=-15)
    bomb = gzip.compress(b" " * (8 << 20))
    for encoding, sent, status in (
        ("gzip", gzip.compress(body), 200),
        ("x-gzip", gzip.compress(body[:9]) + gzip.compress(body[9:]), 200),
        ("deflate", zlib.compress(body), 200),
        ("deflate", raw.compress(body) + raw.flush(), 200),
        ("identity", body, 200),
        ("gzip", bomb, 413),
        ("deflate", zlib.compress(b" " * (8 << 20)), 413),
        ("gzip", gzip.compress(body)[:-9], 400),
        ("gzip", gzip.compress(body) + b"x", 400),
        ("gzip", body, 400),
        ("gzip", b"", 400),
        ("deflate", b"\x78", 400),
        ("br", body, 415),
        ("gzip, gzip", gzip.compress(gzip.compress(body)), 415),
        ("\u00b2", body, 415),
    ):
        answer = await http.post(
            "/v1/sum/predict", content=sent, headers={"content-encoding": encoding.encode("latin-1")}
        )
        assert answer.status_code == status, (encoding, sent[:20], answer.text)
    infer = connect("grpc", world).channel.unary_unary("/modelops.ModelOps/Infer", request_serializer=None)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await infer(bytes(8 << 20), compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_byte_order_mark_is_skipped(world, connect):
    """JSON, CSV and labels that begin with the mark of UTF-8 are read as without it."""
    mark = b"\xef\xbb\xbf"
    http = connect("rest", world).http
    for path, body, kind in (
        ("/v1/sum/predict", json.dumps({"records": [ROW]}).encode(), "application/json"),
        ("/v2/models/sum/infer", json.dumps({"inputs": [tensor()]}).encode(), "application/json"),
        ("/invocations?model=sum", b"a,b,c\n1,2,3\n", "text/csv"),
    ):
        assert (await http.post(path, content=mark + body, headers={"content-type": kind})).status_code == 200


@both_forms
async def test_csv_is_read_at_invocations(world, connect):
    """Cells are what the type of their column says; a bad cell is named like one in JSON."""
    http = connect("rest", world).http
    csv = {"content-type": "text/csv; charset=utf-8"}
    answer = await http.post("/invocations?model=sum", content="c,a,b\r\n3,1,2.5\r\n-1e2,0,0\r\n", headers=csv)
    assert answer.json()["predictions"] == [6.5, -100.0]
    for body, said in (("a,b,c\n1,x,3", "'b'"), ("a,b,c\n1,2", "2 cells"), ("a,a,b\n1,2,3", "twice"), ("", "header")):
        answer = await http.post("/invocations?model=sum", content=body, headers=csv)
        assert (answer.status_code, said in answer.json()["error"]) == (400, True), answer.text


async def test_no_frame_makes_a_fault_over_zmq(world, faults):
    """Every type of message with odd members, in JSON and msgpack, gets an answer, and the socket lives on."""
    types = ("inference_request", "model_load_request", "model_unload_request", "discovery", "²", 7, ["heartbeat"])
    messages = [
        {
            "type": type_,
            "request_id": odd,
            "data": {"model_name": value, "version": value, "key": value, "inputs": [[1, 2, 3]]},
        }
        for type_ in types
        for value in NAMES
        for odd in (value, 1)
    ]
    messages += [{"type": "inference_request", "data": value} for value in NAMES]
    frames = [json.dumps(message).encode() for message in messages]
    frames += [b'{"type":"inference_request","data":%b}' % body for body in bodies()]
    frames += [msgspec.msgpack.encode(message) for message in messages if small(message)]
    frames += [
        msgspec.msgpack.encode({"type": "inference_request", "data": {1: b"x", "inputs": msgspec.msgpack.Ext(1, b"")}})
    ]
    frames += [b"", b"\x81", b"\xdf\xff\xff\xff\xff", b"\x81\x91\x01\x01", b"\x91" * 5_000]
    context = zmq.asyncio.Context()
    try:
        sock = context.socket(zmq.DEALER)
        sock.connect(f"tcp://127.0.0.1:{world.ports['zmq']}")
        for frame in frames:
            await sock.send(frame)
            reply = await asyncio.wait_for(sock.recv(), 20)
            decode = msgspec.json.decode if reply[:1] == b"{" else msgspec.msgpack.decode
            told = decode(reply)
            assert told["type"] != "error" or told["data"]["code"] not in {"internal", "model_failed"}, (frame, told)
    finally:
        context.destroy(linger=0)


def small(message):
    """Whether msgpack has numbers as large as those of *message*."""
    try:
        msgspec.msgpack.encode(message)
    except OverflowError:
        return False
    return True


def messages():
    """Serialised requests, good and odd, of each method, and what is none."""
    pb = open_inference_pb2
    fine = pb.ModelInferRequest.InferInputTensor
    for shape in SHAPES:
        if all(type(axis) is int and -(2**63) <= axis < 2**63 for axis in shape):
            for datatype in DATATYPES:
                given = fine(name="x", datatype=datatype, shape=shape)
                given.contents.fp64_contents.extend([1, 2, 3])
                given.contents.int_contents.extend([300, -1, 3])
                given.contents.bytes_contents.extend([b"\xff"])
                yield pb.ModelInferRequest(model_name="sum", inputs=[given]).SerializeToString()
                for raw in (b"", b"\2\2\2", bytes(24), b"\xff" * 24):
                    message = pb.ModelInferRequest(model_name="sum", inputs=[given], raw_input_contents=[raw])
                    yield message.SerializeToString()
    for version in ("²", "9" * 5_000, "-1", "1.0"):
        yield pb.ModelInferRequest(model_name="sum", model_version=version).SerializeToString()
        yield modelops_pb2.InferenceRequest(model_name="sum", parameters={"version": version}).SerializeToString()
    for body in bodies():
        prompt = body.decode(errors="ignore")
        yield modelops_pb2.InferenceRequest(model_name="sum", prompt=prompt).SerializeToString()
    yield from (b"\xff\xff", b"\x0a\x02\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x3a\0" * 1_000_001)


@both_forms
async def test_no_message_makes_a_fault_over_grpc(world, connect, faults):
    """Each message gets OK or a status that blames the caller, what is no message of the method included."""
    channel = connect("grpc", world).channel
    for path in (
        "/inference.GRPCInferenceService/ModelInfer",
        "/modelops.ModelOps/Infer",
        "/grpc.health.v1.Health/Check",
    ):
        call = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
        for message in messages():
            try:
                await call(message)
            except grpc.aio.AioRpcError as error:
                found = error
                code = found.code().name
            else:
                code = "OK"
            allowed = {"RESOURCE_EXHAUSTED"} if len(message) > 1 << 20 else {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
            assert code in allowed | {"UNIMPLEMENTED"}, (path, message[:300], found)


@both_forms
async def test_a_refused_grpc_message_does_not_stay_in_memory(world, connect):
    """The error of a refused call, which grpcio keeps, does not keep the frames that hold the caller's message."""
    gc.collect()
    with pytest.raises(grpc.aio.AioRpcError):
        await connect("grpc", world).channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer", request_serializer=None, response_deserializer=None
        )(open_inference_pb2.ModelInferRequest(model_name="nobody").SerializeToString())
    kept = [error for error in gc.get_objects() if isinstance(error, grpc.aio.AbortError)]
    frames = {frame.f_code.co_name for error in kept for frame, _ in traceback.walk_tb(error.__traceback__)}
    assert "_answer" not in frames


HEAD = b"POST /v1/sum/predict HTTP/1.1\r\nHost: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"
SLOW = replace(
    ServingPolicy(),
    header_bytes=2_000,
    header_timeout=timedelta(seconds=0.2),
    body_timeout=timedelta(seconds=0.2),
    idle_timeout=timedelta(seconds=0.2),
)
CONNECTIONS = {
    "one large header": (HEAD + b"X: " + b"a" * 3_000 + b"\r\n\r\n", b"HTTP/1.1 431"),
    "many headers": (HEAD + b"X: a\r\n" * 500, b"HTTP/1.1 431"),
    "an endless header": (HEAD + b"X: " + b"a" * 3_000, b"HTTP/1.1 431"),
    "an endless URL": (b"GET /" + b"a" * 3_000, b"HTTP/1.1 431"),
    "endless trailers": (CHUNKED + b"0\r\n" + b"X: a\r\n" * 1_000, b""),
    "an endless chunk length": (CHUNKED + b"1;" + b"a" * 6_000, b""),
    "slow headers": (HEAD, b"HTTP/1.1 408"),
    "a slow body": (HEAD + b"Content-Length: 10\r\n\r\n{", b"HTTP/1.1 504"),
    "nothing": (b"", b""),
}


async def asked(world, sent):
    """The first line that comes back, or nothing if the connection is closed without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.ports["rest"])
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.readline(), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@both_forms
async def test_connections_that_take_too_much_are_ended(open_world, shelf, at, faults):
    """Headers, trailers and bodies that are too large or too slow get a status or end, and others are answered."""
    shelf.put("sum", 1)
    world = await open_world(SLOW)
    await world.apply(at("sum"))
    sent = [*CONNECTIONS.values(), (HEAD + b"Content-Length: 19\r\n\r\n" + b'{"a":1,"b":2,"c":3}', b"HTTP/1.1 200")]
    answers = await asyncio.gather(*(asked(world, given) for given, _ in sent))
    for (_, expected), answer, name in zip(sent, answers, [*CONNECTIONS, "a good request"], strict=True):
        assert answer.startswith(expected), name
        assert bool(answer) == bool(expected), name


@both_forms
async def test_connections_and_bodies_in_memory_are_limited(open_world, shelf, at, connect):
    """A new connection takes the place of an idle one; large bodies beyond the limit get 429, small ones an answer."""
    shelf.put("sum", 1)
    world = await open_world(replace(ServingPolicy(), max_connections=6, max_body_bytes=200_000))
    await world.apply(at("sum"))
    idle = [await asyncio.open_connection("127.0.0.1", world.ports["rest"]) for _ in range(6)]
    good = HEAD + b"Content-Length: 19\r\n\r\n" + b'{"a":1,"b":2,"c":3}'
    assert (await asked(world, good)).startswith(b"HTTP/1.1 200")
    assert await asyncio.wait_for(idle[0][0].read(), 20) == b""
    for _, writer in idle:
        writer.close()
    part = HEAD + b"Content-Length: 200000\r\n\r\n" + b" " * 190_000
    pairs = [await asyncio.open_connection("127.0.0.1", world.ports["rest"]) for _ in range(5)]
    for _, writer in pairs:
        writer.write(part)
        await writer.drain()
    lines = [asyncio.create_task(reader.readline()) for reader, _ in pairs]
    done, _ = await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert [task.result()[:12] for task in done] == [b"HTTP/1.1 429"]
    assert (await asked(world, good)).startswith(b"HTTP/1.1 200")
    pairs += [await asyncio.open_connection("127.0.0.1", world.ports["rest"])]
    pairs[-1][1].write(part)
    assert (await asked(world, good)).startswith(b"HTTP/1.1 503")
    for task in lines:
        task.cancel()
    for _, writer in pairs:
        writer.close()


@pytest.mark.parametrize("fast", [True], ids=["fast"])
async def test_a_caller_that_never_reads_is_cut(open_world, shelf, at):
    """Answers that nobody reads for ``serving.body_timeout`` end with their connection."""
    shelf.put("sum", 1)
    world = await open_world(replace(ServingPolicy(), body_timeout=timedelta(seconds=0.2)))
    await world.apply(at("sum"))
    connection = await Connection.to(world.ports["rest"], limit=1 << 10)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(connection.send(*[request("/openapi.json", method="GET") * 1_000] * 1_000), 20)
    await connection.close()
