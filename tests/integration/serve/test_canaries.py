"""Nothing of a caller is in a log: secrets and features go through every error path of every door."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
from contextlib import closing, suppress

import grpc
import msgspec
import pytest
import zmq

SECRET = "mk_canary_secret"
MARKS = ("canary", "31415.926", "31415926")
"""What the secret, the headers and the features hold, and no line of a log may."""
MODEL = """
import logging, sys, threading, warnings
import numpy as np


def fail(text):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError(text) from error


class Bird:
    def predict(self, X):
        shown = f"cannot take {X.tolist()}"
        match int(X[0, 1]):
            case 0:
                fail(shown)
            case 1:
                warnings.warn(shown)
            case 2:
                try:
                    fail(shown)
                except ValueError:
                    logging.getLogger("model").exception("the model failed")
            case 3:
                sys.exit(shown)
            case 4:
                thread = threading.Thread(target=fail, args=[shown])
                thread.start()
                thread.join()
            case 5:
                return [10**30 + int(value) for value in X[:, 0]]
            case 6:
                raise ExceptionGroup(shown, [ValueError(shown), OSError(5, shown)])
        return X[:, 0]
"""
WAYS = range(7)
"""In which the model fails, as its second feature says."""
PROJECT = """
server: {host: 127.0.0.1}
classifier: {name: bird}
predictor: {module: models, class_name: Bird}
"""
BREAKER = {"MENDEL_RESILIENCE__CIRCUIT_BREAKER__MINIMUM_CALLS": "1000000"}


def rows(way):
    """A row that makes the model fail in *way*."""
    return {"records": [{"a": 31415.926, "b": way}]}


HEADERS = {
    "X-API-Key": SECRET,
    "Cookie": "canary-cookie",
    "User-Agent": "canary-agent",
    "X-Routing-Key": "canary-route",
}
BODIES = (
    *(b"canary", b'{"canary":', b'["canary"]', b'{"records":[{"a":NaN,"canary":1}]}', b"[" * 2000, b'{"canary":1}' * 3),
    *(b'{"model":["canary"],"version":"\xc2\xb2canary"}', b'{"prediction_id":"canary","label_timestamp":"canary"}'),
    *(b'{"inputs":[{"name":"canary","shape":[%b1],"datatype":"FP64","data":[31415926]}]}' % (b"1," * 65), b"\xff\xfe"),
    *(
        gzip.compress(b"canary"),
        json.dumps({"instances": [[31415926]]}).encode(),
    ),
)
ROUTES = (
    *(
        "/predict",
        "/predict_proba",
        "/v1/bird/predict",
        "/v1/nobody-canary/predict",
        "/invocations?model=bird",
        "/invocations",
        "/canary?canary=1",
    ),
    *("/monitoring/predictions", "/monitoring/labels", "/v2/repository/models/canary/load", "/v2/models/bird/infer"),
)


@pytest.fixture
def canaries(project):
    (project / "models.py").write_text(MODEL)
    (project / "mlserver.yaml").write_text(PROJECT)


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_no_log_holds_a_callers_key_header_or_feature(alone, canaries, level):
    """No output of any process of a server has them, whatever fails; what fails inside is logged by its place."""
    server = alone("--log-level", level, doors=True, MENDEL_KEY=SECRET, **BREAKER)
    server.key = SECRET
    server.until(server.address)
    server.until(lambda: _ready(server))
    told = [*_over_rest(server.port), *_over_sockets(server.port)]
    ports = server.address().ports
    told += _over_grpc(ports["grpc"][0])
    told += _over_zmq(ports["zmq"][0])
    assert server.stop() == 0
    log = server.log.read_text()
    assert [line for line in log.splitlines() if any(mark in line.lower() for mark in MARKS)] == []
    assert "Traceback" not in log
    assert "model_fault" in log
    for answer in told:
        if "search the server's log for" in answer:
            assert "rest_fault" in log or "grpc_fault" in log or "zmq_fault" in log


def _ready(server):
    with suppress(OSError, http.client.HTTPException):
        return server.ask("GET", "/health", timeout=2)[0] == 200
    return False


def _over_rest(port):
    """Every body to every route, in JSON, CSV and msgpack's name, compressed and not; statuses of the 500s are told."""
    told = []
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        for route in ROUTES:
            for body in (*BODIES, *(json.dumps(rows(way)).encode() for way in WAYS)):
                for more in (
                    {},
                    {"Content-Type": "text/csv"},
                    {"Content-Encoding": "gzip"},
                    {"X-API-Key": "canary"},
                    {"X-Event-Time": "canary"},
                ):
                    connection.request("POST", route, body=body, headers=HEADERS | more)
                    answer = connection.getresponse()
                    text = answer.read().decode()
                    assert answer.status != 500 or any(name in route for name in ("predict", "infer", "invocations")), (
                        route,
                        body,
                        text,
                    )
                    if answer.status == 500:
                        told.append(text)
        for route in ("/status", "/metrics", "/model/info?model=canary", "/monitoring/stats?canary=1", "/docs"):
            connection.request("GET", route, headers=HEADERS)
            connection.getresponse().read()
    return told


def _over_sockets(port):
    """What is no HTTP, and headers that HTTP does not allow."""
    for sent in (
        b"canary\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: canary\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: \xb2\r\n\r\ncanary",
        b"POST /predict HTTP/1.1\r\nhost: x\r\nx-api-key: canary\r\nx-api-key: canary\r\ncontent-length: 0\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\ncanary\r\ncanary\r\n",
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\nauthorization: Bearer canary\r\n\r\ncanary",
        b"GET /%c3%28canary HTTP/1.1\r\nhost: \xff\r\nx: " + b"canary" * 20_000 + b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncanary",
        b"GET /predict HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\ncookie: canary\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(sent)
            raw.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                while part := raw.recv(1 << 16):
                    assert not part.startswith(b"HTTP/1.1 500"), sent
    return []


def _over_grpc(port):
    told = []
    metadata = (("authorization", f"Bearer {SECRET}"), ("x-canary", "canary"), ("traceparent", "canary"))
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        for path in ("/inference.GRPCInferenceService/ModelInfer", "/modelops.ModelOps/Infer", "/canary/canary"):
            call = channel.unary_unary(path, request_serializer=None, response_deserializer=None)
            for message in (*BODIES, *map(_prompt, WAYS)):
                try:
                    call(message, metadata=metadata, timeout=30)
                except grpc.RpcError as error:
                    told.append((error.code().name, message, error.details()))
    assert {code for code, _, _ in told} <= {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
    }
    assert not {message for code, message, _ in told if code == "INTERNAL"} & set(BODIES)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ncanarycanarycanary")
    return [details for _, _, details in told]


def _prompt(way):
    """An InferenceRequest, written by hand: its field 2."""
    prompt = json.dumps(rows(way)).encode()
    return b"\x12" + bytes([len(prompt)]) + prompt


def _over_zmq(port):
    told = []
    asked = [{"type": "inference_request", "data": {"inputs": rows(way)}} for way in WAYS]
    asked += [
        {"type": "canary"},
        {"type": "inference_request", "request_id": 10**30, "data": {"model_name": ["canary"], "inputs": "canary"}},
        {"type": "inference_request", "data": {"version": "²", "key": {"canary": 1}, "inputs": rows(1)}},
        {"type": "model_load_request", "data": {"model_name": ["canary"]}},
        {"type": "inference_request", "data": "canary"},
    ]
    frames = [json.dumps(one | {"api_key": SECRET, "client_id": "canary"}).encode() for one in asked]
    frames += [msgspec.msgpack.encode(one | {"api_key": SECRET}) for one in asked if one.get("request_id") is None]
    frames += [msgspec.msgpack.encode({"type": "inference_request", "data": {1: b"canary"}}), *BODIES, b""]
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.set(zmq.LINGER, 0)
        client.connect(f"tcp://127.0.0.1:{port}")
        for frame in frames:
            client.send(frame)
            assert client.poll(30_000), frame
            reply = client.recv()
            told.append(reply.decode(errors="replace"))
    return told
